"""Recordings as tables: .csv, .tsv and .npz files and DataFrames, read with their names or refused in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, NeurosMechintError, StorageError
from neuros_mechint.workflows.alignment.align import align
from neuros_mechint.workflows.alignment.brain_data import brain_data, open_recording, open_stimuli
from neuros_mechint.workflows.alignment.tables import read_table, table_of

VALUES = np.random.default_rng(0).normal(size=(12, 5))
NAMES = [f"image {one}" for one in range(12)]
UNITS = [f"unit {one}" for one in range(5)]


def network() -> torch.nn.Module:
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 6))).float()
    layer = torch.nn.Linear(6, 4, bias=False)
    layer.load_state_dict({"weight": weights})
    return torch.nn.Sequential(layer, torch.nn.Tanh()).eval()


# -- .csv ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_names_are_read_where_there_are_any(tmp_path: Path, named: bool, header: bool, ending: str) -> None:
    frame = pd.DataFrame(VALUES, NAMES if named else None, UNITS if header else None)
    path = tmp_path / f"responses{ending}"
    frame.to_csv(path, index=named, header=header, sep="\t" if ending == ".tsv" else ",")
    found = read_table(path)
    assert found.dims == ("stimulus", "unit")
    np.testing.assert_allclose(found.values, VALUES)
    assert ("stimulus" in found.coords) == named
    assert ("unit" in found.coords) == header
    if named:
        assert found["stimulus"].values.tolist() == NAMES
    if header:
        assert found["unit"].values.tolist() == UNITS


@pytest.mark.parametrize(
    ("text", "shape", "stimuli", "units"),
    [
        (",0,1\n0,.1,.2\n1,.3,.4\n", (2, 2), None, None),  # as pandas writes a table without names
        ("0,1\n.1,.2\n.3,.4\n", (2, 2), None, None),  # the same without its index
        (",0,1\n7,.1,.2\n3,.3,.4\n", (2, 2), ["7", "3"], None),
        ("stimulus,0,1\n1,.1,.2\n2,.3,.4\n", (2, 2), ["1", "2"], None),
        ("stimulus,a,b\nface,.1,.2\ncar,.3,.4\n", (2, 2), ["face", "car"], ["a", "b"]),
        ("name,a,b\nface,.1,.2\ncar,.3,.4\n", (2, 2), ["face", "car"], ["a", "b"]),
        ("face,.1,.2\ncar,.3,.4\n", (2, 2), ["face", "car"], None),
        ("a,b\n.1,.2\n.3,.4\n", (2, 2), None, ["a", "b"]),
        ("a;b\n.1;.2\n.3;.4\n", (2, 2), None, ["a", "b"]),
        ("\ufeffa,b\r\n.1,.2\r\n\r\n.3,.4\r\n", (2, 2), None, ["a", "b"]),
        ('"a, left",b\n1e-3,.2\n.3,-4\n', (2, 2), None, ["a, left", "b"]),
        ("v1\n.1\n.2\n.3\n", (3, 1), None, ["v1"]),
        (".1\n.2\n", (2, 1), None, None),
    ],
)
def test_what_is_a_name_and_what_a_number(
    tmp_path: Path, text: str, shape: tuple[int, int], stimuli: Any, units: Any
) -> None:
    (tmp_path / "one.csv").write_text(text, encoding="utf-8")
    found = read_table(tmp_path / "one.csv")
    assert found.shape == shape
    for axis, names in (("stimulus", stimuli), ("unit", units)):
        assert (found[axis].values.tolist() if axis in found.coords else None) == names


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n.1,.2\n.3,high\n", "'high' in row 3, column 2"),
        ("face,.1,.2\ncar,,.4\n", "'' in row 2, column 2"),
        (".1,,.3\n.4,.5,.6\n", "'' in row 1, column 2"),
        ("a,b\n.1,.2\n.3\n", "rows of 1 to 2 cells"),
        ("n;m\n0,5;0,7\n", "'0,7' in row 2"),
        ("", "an empty file"),
    ],
)
def test_what_is_no_table_is_refused_with_the_place(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "one.csv").write_text(text, encoding="utf-8")
    with pytest.raises(StorageError) as refused:
        read_table(tmp_path / "one.csv")
    assert told in str(refused.value)


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_bytes("größe,b\n1,2\n".encode("latin-1"))
    with pytest.raises(StorageError, match="UTF-8"):
        read_table(tmp_path / "one.csv")


def test_stimuli_that_come_several_times_are_repetitions_and_squares_are_dissimilarities(tmp_path: Path) -> None:
    repeated = pd.DataFrame(np.concatenate([VALUES, VALUES + 0.1]), NAMES * 2, UNITS)
    repeated.to_csv(tmp_path / "repeated.csv")
    data = brain_data(open_recording(tmp_path / "repeated.csv").value, None, "euclidean")
    assert (data.counted, data.labels) == ("repetition", tuple(NAMES))
    np.testing.assert_allclose(data.responses, VALUES + 0.05)
    rdm = nm.compute_rdm(VALUES, "euclidean")
    pd.DataFrame(rdm, NAMES, NAMES).to_csv(tmp_path / "rdm.csv")
    data = brain_data(open_recording(tmp_path / "rdm.csv").value, None, "euclidean")
    assert (data.responses, data.labels) == (None, tuple(NAMES))
    np.testing.assert_allclose(data.rdms.squeeze(), rdm)


# -- .npz, .npy and other files ----------------------------------------------------------------------------------------


def test_one_array_of_an_archive_is_read_and_several_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", responses=VALUES)
    found = open_recording(tmp_path / "one.npz")
    np.testing.assert_array_equal(found.value, VALUES)
    assert found.source.kind == "file"
    np.savez(tmp_path / "two.npz", responses=VALUES, depth=np.arange(5))
    with pytest.raises(StorageError) as refused:
        open_recording(tmp_path / "two.npz")
    assert "responses (12, 5), depth (5,)" in str(refused.value)
    assert "numpy.save('two.npy', numpy.load('two.npz')['responses'])" in str(refused.value)
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    np.savez(tmp_path / "objects.npz", one=np.array([{}], dtype=object))
    for name in ("broken.npz", "objects.npz"):
        with pytest.raises(StorageError, match=r"numpy\.savez"):
            open_recording(tmp_path / name)


def test_three_axes_are_refused_with_how_to_name_them(tmp_path: Path) -> None:
    np.save(tmp_path / "three.npy", np.stack([VALUES, VALUES + 1]))
    with pytest.raises(InputError) as refused:
        brain_data(open_recording(tmp_path / "three.npy").value, None, "correlation")
    assert "shape (2, 12, 5)" in str(refused.value)
    assert "xarray.DataArray(array, None, names)" in str(refused.value)
    # the advice works
    names = ("repetition", "stimulus", "unit")
    array = np.load(tmp_path / "three.npy")
    xr.DataArray(array, None, names).to_netcdf(tmp_path / "responses.nc", engine="h5netcdf")
    found = brain_data(open_recording(tmp_path / "responses.nc").value, None, "correlation")
    assert found.counted == brain_data(nm.Recording(array, names), None, "correlation").counted == "repetition"


@pytest.mark.parametrize("name", ["data.mat", "data.xlsx", "data.nc", "data"])
def test_other_files_are_refused_in_plain_words(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(StorageError) as refused:
        open_recording(tmp_path / name)
    assert "of a kind that is not read" in str(refused.value)
    assert ".csv, .tsv, .npy or .npz" in str(refused.value)
    assert "signature" not in str(refused.value)


# -- DataFrames ------------------------------------------------------------------------------------------------------


def test_index_and_columns_of_a_frame_are_its_labels() -> None:
    frame = pd.DataFrame(VALUES, NAMES, UNITS)
    recording = nm.Recording(frame)
    assert recording.dims == ("stimulus", "unit")
    assert recording.data["stimulus"].values.tolist() == NAMES
    assert recording.data["unit"].values.tolist() == UNITS
    np.testing.assert_array_equal(recording.data.values, VALUES)
    assert nm.Recording(frame, ("trial", "unit")).data["trial"].values.tolist() == NAMES
    assert not nm.Recording(pd.DataFrame(VALUES)).data.coords  # counted from 0: no names
    moved = pd.DataFrame(VALUES, range(1, 13)).iloc[::-1]
    assert nm.Recording(moved).data["stimulus"].values.tolist() == list(range(12, 0, -1))
    for wrong, told in (
        (frame.assign(area="V1"), "columns area"),
        (frame.set_index([UNITS[0], UNITS[1]]), "2 levels"),
    ):
        with pytest.raises(InputError, match=told):
            nm.Recording(wrong)
    with pytest.raises(InputError, match="two axes"):
        nm.Recording(frame, ("stimulus", "time", "unit"))
    with pytest.raises(InputError, match="not finite"):
        nm.Recording(frame.mask(frame > 1))


def test_names_may_stand_in_a_column() -> None:
    frame = pd.DataFrame(VALUES, columns=UNITS).assign(stimulus=NAMES)
    assert table_of(frame)["stimulus"].values.tolist() == NAMES
    with pytest.raises(InputError, match="a column 'trial', which is no unit"):
        table_of(frame.assign(trial=range(12)))


def test_a_frame_is_joined_to_the_stimuli_by_its_index() -> None:
    """The known answer: rows in another order give the same; by position they would give nothing."""
    random = np.random.default_rng(1)
    stimuli = random.normal(size=(40, 6))
    names = [f"image {one}" for one in range(40)]
    responses = network()(torch.from_numpy(stimuli).float()).detach().numpy()
    order = random.permutation(40)
    frame = pd.DataFrame(responses, names).iloc[order]
    shown = pd.DataFrame(stimuli, names)
    options: dict[str, Any] = {"n_resamples": 19, "progress": False}
    found = align(network(), frame, shown, **options)
    expected = align(network(), responses, stimuli, **options)
    np.testing.assert_allclose(
        found.results["chance"].data["score"], expected.results["chance"].data["score"], atol=1e-6
    )
    assert found.results["chance"].data["score"].max() > 0.9
    with pytest.raises(InputError, match="the stimuli have none"):
        align(network(), frame, stimuli, **options)
    mixed = align(network(), responses[order], stimuli, **options)
    assert mixed.results["chance"].data["score"].max() < 0.3
    assert open_stimuli(shown).value.dims == ("stimulus", "feature")


@pytest.mark.parametrize("kind", [".csv", ".npz"])
def test_a_run_on_a_table_is_repeated(tmp_path: Path, kind: str) -> None:
    stimuli = np.random.default_rng(1).normal(size=(24, 6)).astype(np.float32)
    responses = network()(torch.from_numpy(stimuli)).detach().numpy()
    np.save(tmp_path / "stimuli.npy", stimuli)
    path = tmp_path / f"responses{kind}"
    if kind == ".csv":
        pd.DataFrame(responses).to_csv(path)
    else:
        np.savez(path, responses=responses)
    found = align(network(), path, tmp_path / "stimuli.npy", n_resamples=19, folder=tmp_path / "run", progress=False)
    assert found.results["chance"].data["score"].max() > 0.9
    assert nm.reproduce(tmp_path / "run", model=network(), progress=False).reproduced


def test_every_refusal_teaches(tmp_path: Path) -> None:
    for given in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(NeurosMechintError, match="there is no file"):
            open_recording(given)
