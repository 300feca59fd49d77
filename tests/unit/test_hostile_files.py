"""Files that somebody has damaged, exchanged or made to do harm: an error that says which file, and nothing run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import pytest
import torch
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.errors import NeurosMechintError
from neuros_mechint.core.result import Result


class Bomb:
    """Runs a command where somebody unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


class Door(NamedTuple):
    """A way by which files come in: what writes them, and what reads them all."""

    save: Callable[[Path], object]
    load: Callable[[Path], object]


def _autoencoder() -> nm.SparseAutoencoder:
    rows = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    return nm.SparseAutoencoder(8, k=2, epochs=1, batch_size=100, progress=False).fit(rows)


def _save_result(path: Path) -> None:
    Result(xr.Dataset({"effect": ("unit", np.arange(4.0))}), "Effect").save(path)


def _save_store(path: Path) -> None:
    model = nm.adapt(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh()))
    model.capture(torch.ones(5, 3), "0", to=path)


def _read_store(path: Path) -> None:
    store = nm.ActivationStore.open(path)
    for name in store:
        store.matrix(name)


def _tracker() -> nm.MetaDynamicsTracker:
    model = torch.nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.fill_(0.1)
    inputs = torch.linspace(-1, 1, 24).reshape(8, 3)
    return nm.MetaDynamicsTracker(model, inputs, torch.zeros(8, 2), torch.nn.functional.mse_loss, metrics=["loss"])


def _save_tracker(path: Path) -> None:
    tracker = _tracker()
    tracker.update(0)
    tracker.save(path)


def _save_graph(path: Path) -> None:
    nm.CausalGraph(nx.DiGraph([("input", "blocks.0"), ("blocks.0", "logits")])).to_json(path)


DOORS = {
    "graph": Door(_save_graph, nm.CausalGraph.from_json),
    "result": Door(_save_result, nm.load_result),
    "activations": Door(_save_store, _read_store),
    "autoencoder": Door(lambda path: _autoencoder().save(path), nm.SparseAutoencoder.load),
    "tracker": Door(_save_tracker, lambda path: _tracker().load(path)),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    places = {}
    for name, door in DOORS.items():
        places[name] = tmp_path_factory.mktemp(name) / "saved"
        door.save(places[name])
        door.load(places[name])  # whole files can be read
    return places


def _hostile(kind: str, content: bytes, marker: Path) -> bytes:
    return {
        "empty": lambda: b"",
        "half": lambda: content[: len(content) // 2],
        "pickle": lambda: pickle.dumps(Bomb(marker)),
        "noise": lambda: np.random.default_rng(0).bytes(max(64, len(content))),
        "header of exabytes": lambda: struct.pack("<Q", 2**60) + content[8:],
        "header of other offsets": lambda: _safetensors(dtype="F32", shape=[2**40], data_offsets=[0, 4]),
        "deeply nested": lambda: b"[" * 200_000,
        "huge number": lambda: b'{"a": ' + b"9" * 5000 + b"}",
    }[kind]()


def _safetensors(**tensor: Any) -> bytes:
    text = json.dumps({"weight": tensor}).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * 4


KINDS = (
    "empty",
    "half",
    "pickle",
    "noise",
    "header of exabytes",
    "header of other offsets",
    "deeply nested",
    "huge number",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", DOORS)
def test_every_file_exchanged_for_a_hostile_one_is_refused(
    saved: dict[str, Path], tmp_path: Path, door: str, kind: str
) -> None:
    whole, marker = saved[door], tmp_path / "harm"
    files = (
        [whole]
        if whole.is_file()
        else sorted(path for path in whole.rglob("*") if path.is_file() and path.suffix != ".lock")
    )
    for number, file in enumerate(files):
        place = tmp_path / str(number)
        (shutil.copytree if whole.is_dir() else shutil.copy)(whole, place)
        target = place if whole.is_file() else place / file.relative_to(whole)
        target.write_bytes(_hostile(kind, target.read_bytes(), marker))
        with pytest.raises(NeurosMechintError):
            DOORS[door].load(place)
        assert not marker.exists()


@pytest.mark.parametrize("door", DOORS)
def test_what_is_missing_or_of_another_kind_is_refused(saved: dict[str, Path], tmp_path: Path, door: str) -> None:
    (tmp_path / "folder").mkdir()
    others = [place for name, place in saved.items() if name != door]
    for place in (tmp_path / "nothing", tmp_path / "folder", *others):
        with pytest.raises(NeurosMechintError):
            DOORS[door].load(place)


def test_checkpoints_of_an_autoencoder_run_nothing(tmp_path: Path) -> None:
    rows = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))

    def train() -> None:
        autoencoder = nm.SparseAutoencoder(8, k=2, epochs=1, batch_size=100, progress=False)
        autoencoder.fit(rows, checkpoint=tmp_path / "kept")

    train()
    files = sorted(path for path in (tmp_path / "kept").rglob("*") if path.is_file())
    marker, refused = tmp_path / "harm", 0
    for file in files:
        before = file.read_bytes()
        for write in (_write_pickle, _write_archive):
            write(file, marker)
            try:
                train()
            except NeurosMechintError:
                refused += 1
            assert not marker.exists()
        file.write_bytes(before)
    assert refused >= 2 * 2  # weights and settings; files that SAELens writes and nobody reads may be anything


def _write_pickle(file: Path, marker: Path) -> None:
    file.write_bytes(pickle.dumps(Bomb(marker)))


def _write_archive(file: Path, marker: Path) -> None:
    """Write torch's own format around the same pickle."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb(marker)))
        archive.writestr("archive/version", "3")
