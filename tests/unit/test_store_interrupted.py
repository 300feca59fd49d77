"""Stores whose writer was killed or whose files were damaged: finished batches are never lost, and damage is told."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.errors import StorageError
from neuros_mechint.core.stores import store as store_module
from neuros_mechint.core.stores.store import ActivationStore
from tests.slow import slow_case
from tests.unit.store_samples import DIMS, DTYPES, SHAPES, TWO_SITES, assert_holds, rows_of, samples, small_chunks

# --- interruption ------------------------------------------------------------------------------

# Kills itself just before its k-th operation on a file of the store (Python audits each before it happens),
# for every k, or one k in some, in a forked child each: one import of torch serves them all.
KILL_EVERYWHERE = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
import test_store as t

folder, acts = Path({folder!r}), t.samples(11).select(t.TWO_SITES)

def write(path, kill_at):
    seen = 0
    def before_each_file_operation(event, args):
        nonlocal seen
        if event in ("open", "os.rename", "os.remove") and str(path) in str(args):
            if event == "open" and not (args[2] & (os.O_WRONLY | os.O_RDWR)):
                return
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
    store = t.small_chunks(path, 11, sites=t.TWO_SITES)
    sys.addaudithook(before_each_file_operation)
    for start, stop in ((0, 3), (3, 9), (9, 11)):
        store.append(t.rows_of(acts, start, stop))
        with (path.parent / (path.name + ".done")).open("w") as file:
            file.write(str(stop))
    store.finish()

for kill_at in range(1, 1000, {step}):
    path = folder / f"killed-{{kill_at}}"
    child = os.fork()
    if child == 0:
        write(path, kill_at)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
@pytest.mark.parametrize("step", [3, slow_case(1)])
def test_a_writer_killed_at_any_file_operation_loses_no_finished_batch(tmp_path, step):
    script = KILL_EVERYWHERE.format(tests=str(Path(__file__).parent), folder=str(tmp_path), step=step)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    acts = samples(11).select(TWO_SITES)
    stores = sorted(tmp_path.glob("killed-*[0-9]"))
    assert len(stores) > 45 / step  # many different moments
    interrupted = set()
    for path in stores:
        log = path.with_name(path.name + ".done")
        promised = int(log.read_text() or 0) if log.exists() else 0
        written = ActivationStore.open(path, partial=True)
        assert written.n_samples >= promised
        interrupted.add((written.n_samples, written.complete))
        assert_holds(written, Activations(rows_of(acts, 0, written.n_samples), DIMS))
        if not written.complete:
            with ActivationStore.resume(path) as store:
                assert not list(path.rglob("*.partial"))
                if store.n_samples < 11:
                    store.append(rows_of(acts, store.n_samples, 11))
        assert_holds(ActivationStore.open(path), acts)
    assert interrupted == {(0, False), (3, False), (9, False), (11, False), (11, True)}


WRITE_SLOWLY = """
import torch
from neuros_mechint.core.stores.store import ActivationStore

dims = {{"x": ("sample", "unit")}}
store = ActivationStore.create({path!r}, dims, {{"x": (512,)}}, {{"x": torch.float32}})
for start in range(0, 200_000, 700):
    store.append({{"x": torch.arange(start, start + 700.0)[:, None].expand(700, 512)}})
    print(store.n_samples, flush=True)
"""


@pytest.mark.parametrize("delay", [0.31, slow_case(0.05)])
def test_a_writer_killed_while_it_writes_loses_no_finished_batch(tmp_path, delay):
    path = tmp_path / "acts.zarr"
    script = WRITE_SLOWLY.format(path=str(path))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as writer:
        reported = [int(writer.stdout.readline())]
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        reported += [int(line) for line in writer.stdout.read().splitlines()]
    assert writer.returncode == -signal.SIGKILL
    store = ActivationStore.resume(path)
    n = store.n_samples
    assert n in (reported[-1], reported[-1] + 700)
    store.append({"x": torch.full((1, 512), float(n))})
    store.finish()
    assert torch.equal(ActivationStore.open(path)["x"], torch.arange(n + 1.0)[:, None].expand(n + 1, 512))


def test_an_exception_in_the_loop_leaves_a_store_that_can_be_resumed(tmp_path, acts):
    def fail_after_a_batch():
        with small_chunks(tmp_path / "s", 23) as store:
            store.append(rows_of(acts, 0, 7))
            raise RuntimeError("model failed")

    with pytest.raises(RuntimeError, match="model failed"):
        fail_after_a_batch()
    with pytest.raises(StorageError, match=r"7 of 23 samples are finished(.|\n)*resume"):
        ActivationStore.open(tmp_path / "s")
    with ActivationStore.resume(tmp_path / "s") as store:
        store.append(rows_of(acts, 7, 23))
    assert_holds(ActivationStore.open(tmp_path / "s"), acts)


def test_a_failed_write_says_what_to_do_and_stops_the_writer(tmp_path, acts, monkeypatch):
    store = small_chunks(tmp_path / "s")
    store.append(rows_of(acts, 0, 7))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_module.SiteFiles, "_extend_tail", full)
        with pytest.raises(StorageError, match=r"No space left(.|\n)*resume"):
            store.append(rows_of(acts, 7, 20))
    with pytest.raises(StorageError, match="not open for writing"):
        store.append(rows_of(acts, 7, 20))
    with ActivationStore.resume(tmp_path / "s") as store:
        store.append(rows_of(acts, 7, 23))
    assert_holds(ActivationStore.open(tmp_path / "s"), acts)


def test_the_log_is_exchanged_in_one_step(tmp_path, acts, monkeypatch):
    store = small_chunks(tmp_path / "s")
    store.append(rows_of(acts, 0, 7))

    replace = Path.replace

    def interrupt(self, target):
        # Only in this thread: zarr moves its own files into place in another, which must go on.
        if target == tmp_path / "s" / "zarr.json":
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.append(rows_of(acts, 7, 9))
    assert store.n_samples == 7
    assert_holds(ActivationStore.open(tmp_path / "s", partial=True), Activations(rows_of(acts, 0, 7), DIMS))


def test_two_writers_do_not_mix(tmp_path, acts):
    first = small_chunks(tmp_path / "s")
    first.append(rows_of(acts, 0, 7))
    second = ActivationStore.resume(tmp_path / "s")
    with pytest.raises(StorageError, match="another process has resumed"):
        first.append(rows_of(acts, 7, 9))
    second.append(rows_of(acts, 7, 9))
    assert second.n_samples == 9


def test_a_writer_killed_while_it_makes_the_store_leaves_nothing_under_its_name(tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(store_module.StoreLog, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        small_chunks(tmp_path / "s")
    assert not (tmp_path / "s").exists()
    assert ActivationStore.samples_written(tmp_path / "s") == 0


def test_for_activations_starts_and_then_continues(tmp_path, acts):
    path = tmp_path / "s"
    assert ActivationStore.samples_written(path) == 0
    ActivationStore.for_activations(path, acts, n_samples=46).append(acts)
    assert ActivationStore.samples_written(path) == 23
    with ActivationStore.for_activations(path, acts, n_samples=46) as store:
        store.append(acts)
    assert ActivationStore.open(path).n_samples == 46


# --- damage ------------------------------------------------------------------------------------


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [flip_a_byte, Path.unlink, lambda path: path.write_bytes(b"abc")])
def test_a_damaged_chunk_names_the_site_the_samples_and_the_file(finished, acts, damage):
    name = "blocks.0.resid_pre"
    damage(finished.path / name / "c" / "2" / "0" / "0")
    for read in (
        lambda: finished[name],
        lambda: finished.xarray(name)[9].values,
        lambda: list(finished.batches(name, 7)),
    ):
        with pytest.raises(StorageError, match=rf"samples 8 to 11 of site '{name}'(.|\n)*c/2/0/0"):
            read()
    np.testing.assert_array_equal(finished.xarray(name)[:8].values, acts[name][:8].numpy())


@pytest.mark.parametrize("damage", [flip_a_byte, Path.unlink, lambda path: path.write_bytes(b"abc")])
def test_a_damaged_tail_is_reported_when_it_is_read_and_when_it_is_built_on(tmp_path, acts, damage):
    store = small_chunks(tmp_path / "s")
    store.append(rows_of(acts, 0, 6))
    damage(tmp_path / "s" / "blocks.0.resid_pre" / "tail.4")
    with pytest.raises(StorageError, match=r"samples 4 to 5 of site 'blocks\.0\.resid_pre'"):
        ActivationStore.open(tmp_path / "s", partial=True)["blocks.0.resid_pre"]
    with pytest.raises(StorageError, match=r"tail\.4|samples 4 to 5"):
        store.append(rows_of(acts, 6, 12))


def test_garbage_after_the_finished_samples_of_a_tail_is_ignored(tmp_path, acts):
    store = small_chunks(tmp_path / "s")
    store.append(rows_of(acts, 0, 6))
    with (tmp_path / "s" / "blocks.0.resid_pre" / "tail.4").open("ab") as file:
        file.write(b"torn write")
    store.append(rows_of(acts, 6, 7))
    store.append(rows_of(acts, 7, 23))
    store.finish()
    assert_holds(ActivationStore.open(tmp_path / "s"), acts)


def test_what_is_not_a_store_is_refused(tmp_path, finished):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    zarr.open_group(str(tmp_path / "other"), mode="w")
    for name in ("nowhere", "empty", "file", "other"):
        with pytest.raises(StorageError, match="activation store"):
            ActivationStore.open(tmp_path / name)
    (finished.path / "zarr.json").write_text("{")
    with pytest.raises(StorageError, match="damaged"):
        ActivationStore.open(finished.path)


def test_a_lost_array_description_is_reported(finished):
    (finished.path / "logit" / "zarr.json").unlink()
    with pytest.raises(StorageError, match="site 'logit' is damaged"):
        ActivationStore.open(finished.path)["logit"]


def test_a_full_disk_is_noticed_before_and_while_writing(tmp_path, acts, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10_000, 9_000, 1_000))
    with pytest.raises(StorageError, match=r"\(5000 bytes\)(.|\n)*\(1000 bytes\)"):
        ActivationStore.create(tmp_path / "s", DIMS, SHAPES, DTYPES, expected_bytes=5_000)
    with pytest.raises(StorageError, match="will not fit"):
        ActivationStore.create(tmp_path / "s", DIMS, SHAPES, DTYPES, n_samples=23)
    assert not (tmp_path / "s").exists()
    store = ActivationStore.create(tmp_path / "s", DIMS, SHAPES, DTYPES)
    with pytest.raises(StorageError, match="will not fit"):
        store.append(acts)
    store.append(rows_of(acts, 0, 1))
