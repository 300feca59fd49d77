from __future__ import annotations

import ast
import os
import signal
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis.extra import numpy as hnp
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neuros_mechint.core import result as result_module
from neuros_mechint.core.errors import CapabilityError, InputError, StorageError
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result, load_result


class NamedResult(Result):
    @property
    def best(self) -> int:
        return int(np.nanargmax(self.main.values))

    def summary(self) -> str:
        return f"{self.title}\nbest: {self.best}"

    def _draw(self, ax) -> None:
        ax.plot(self.main.values)
        ax.set_title("my own title")


def effects(**changes) -> Result:
    values = xr.DataArray(
        [[0.0, np.nan, 1.5], [-1.0, 0.25, 0.5]],
        {"site": ["blocks.0.z", "blocks.1.z"], "position": [0, 1, 2]},
        ("site", "position"),
        attrs={"units": "nats", "long_name": "effect"},
    )
    data = xr.Dataset({"effect": values, "baseline": ("position", [1.0, 2.0, 3.0]), "n": 12})
    arguments = {
        "title": "Effects",
        "attributes": {"method": "exact", "levels": [1, 2.5], "nothing": None},
        "provenance": Provenance.record(seed=0, arguments={"by": "position"}),
        "citations": ("meng2022rome",),
        "warnings": ("few pairs",),
    }
    return Result(data, **(arguments | changes))


def test_round_trip_keeps_everything(tmp_path):
    result = effects()
    loaded = load_result(result.save(tmp_path / "folder" / "effects.nc"))
    assert loaded == result
    assert type(loaded) is Result
    assert loaded.data["effect"].attrs == {"units": "nats", "long_name": "effect"}
    assert loaded.provenance.seed == 0
    assert list(loaded.data.coords) == list(result.data.coords)
    assert list(loaded.data.data_vars) == list(result.data.data_vars)


def test_one_file_and_nothing_else_is_written(tmp_path):
    path = effects().save(tmp_path / "effects.nc")
    effects().save(path)
    assert list(tmp_path.iterdir()) == [path]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize(
    "values",
    [
        np.array([1 + 2j, np.nan * 1j], dtype=np.complex128),
        np.array([1 + 2j], dtype=np.complex64),
        np.array([True, False]),
        np.array(["a", "ünï", 'quote " and \\', "nul\0inside", "", "\ud800"]),
        np.array(["short", "longer text"], dtype=object),
        np.array(["2026-01-01", "NaT"], dtype="datetime64[ns]"),
        np.array([1, -5], dtype="timedelta64[ms]").astype("timedelta64[ns]"),
        np.array([0.5, -0.0, np.inf], dtype=np.float16),
        np.array([2**64 - 1], dtype=np.uint64),
        np.array([], dtype=np.float32),
        np.array([1, 2], dtype=">i4"),
    ],
    ids=lambda values: str(values.dtype),
)
def test_every_dtype_comes_back_as_it_was(tmp_path, values):
    result = Result(xr.Dataset({"main": ("x", values)}, {"label": ("x", values)}), "Any dtype")
    loaded = load_result(result.save(tmp_path / "any.nc"))
    assert loaded == result
    assert loaded.main.dtype == values.dtype.newbyteorder("=")
    assert "label" in loaded.data.coords
    scalar = Result(xr.Dataset({"main": values.reshape(-1)[0] if values.size else values.dtype.type(0)}), "Scalar")
    assert load_result(scalar.save(tmp_path / "scalar.nc")) == scalar


numbers = st.one_of(
    hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.int16, np.bool_, np.complex128]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    ),
    hnp.arrays(object, hnp.array_shapes(max_dims=2, max_side=3), elements=st.text(max_size=6)),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays=st.lists(numbers, min_size=1, max_size=3), title=st.text(max_size=20), data=st.data())
def test_any_result_survives_the_round_trip(tmp_path, arrays, title, data):
    attributes = data.draw(st.dictionaries(st.text(max_size=5), json_values, max_size=3))
    variables = {
        f"variable {number}": ([f"d{number}_{axis}" for axis in range(array.ndim)], array, attributes)
        for number, array in enumerate(arrays)
    }
    warnings = data.draw(st.lists(st.text(max_size=10), max_size=2))
    result = Result(xr.Dataset(variables), title, attributes=attributes, warnings=tuple(warnings))
    loaded = load_result(result.save(tmp_path / "any.nc"))
    assert loaded.title == title
    assert loaded.warnings == tuple(warnings)
    for name, array in zip(variables, arrays, strict=True):
        np.testing.assert_array_equal(loaded.data[name].values, array)
        assert loaded.data[name].dtype == array.dtype
    assert repr(loaded.attributes) == repr(result.attributes)


def test_long_metadata_does_not_hit_the_limit_of_hdf5_attributes(tmp_path):
    result = effects(attributes={"prompt": "x" * 200_000})
    assert load_result(result.save(tmp_path / "long.nc")).attributes["prompt"] == "x" * 200_000


def test_subclasses_come_back_as_themselves(tmp_path):
    result = NamedResult(effects().data, "Named")
    loaded = load_result(result.save(tmp_path / "named.nc"))
    assert isinstance(loaded, NamedResult)
    assert loaded.best == 2
    assert loaded.summary() == "Named\nbest: 2"
    assert loaded != Result(effects().data, "Named")


def test_unknown_class_says_which_module_to_import(tmp_path, monkeypatch):
    path = NamedResult(effects().data, "Named").save(tmp_path / "named.nc")
    monkeypatch.setattr(Result, "_classes", {})
    with pytest.raises(StorageError, match=f"import {NamedResult.__module__}"):
        load_result(path)


def test_a_file_cannot_make_us_import_another_package(tmp_path, monkeypatch):
    monkeypatch.setattr(NamedResult, "__module__", "antigravity")
    path = NamedResult(effects().data, "Named").save(tmp_path / "named.nc")
    monkeypatch.setattr(Result, "_classes", {})
    monkeypatch.setattr(result_module.importlib, "import_module", pytest.fail)
    with pytest.raises(StorageError, match="antigravity"):
        load_result(path)


def test_missing_foreign_and_empty_files_are_refused(tmp_path):
    with pytest.raises(StorageError, match="no such file"):
        load_result(tmp_path / "missing.nc")
    foreign = tmp_path / "foreign.nc"
    xr.Dataset({"x": 1.0}).to_netcdf(foreign, engine="h5netcdf")
    with pytest.raises(StorageError, match="not a saved result"):
        load_result(foreign)
    for content in (b"", b"hello", b"\x89HDF\r\n\x1a\n"):
        (tmp_path / "junk.nc").write_bytes(content)
        with pytest.raises(StorageError, match="damaged"):
            load_result(tmp_path / "junk.nc")


def test_no_damage_goes_unnoticed(tmp_path):
    result = Result(xr.Dataset({"x": ("unit", np.arange(1.0, 65.0))}), "Numbers", provenance=effects().provenance)
    path = result.save(tmp_path / "numbers.nc")
    content = path.read_bytes()
    start = content.index(np.arange(1.0, 65.0).tobytes())
    for position in [start, start + 300, start + 511, *range(0, len(content), 997)]:
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        try:
            loaded = load_result(path)
        except StorageError:
            continue
        assert not start <= position < start + 512
        assert loaded == result
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StorageError, match="damaged"):
        load_result(path)


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file size")
def test_a_failed_write_leaves_the_old_file(tmp_path):
    """HDF5 that could not write a file of many variables took Python down with it."""
    import resource

    path = effects().save(tmp_path / "effects.nc")
    many = Result(xr.Dataset({f"x{i}": ("i", np.zeros(700) + i) for i in range(20)}), "New")
    unlimited, handled = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, unlimited[1]))
    try:
        with pytest.raises(StorageError, match="cannot write"):
            many.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        signal.signal(signal.SIGXFSZ, handled)
    assert load_result(path).title == "Effects"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_where_it_is_impossible_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        effects().save(tmp_path / "file" / "effects.nc")


def test_a_file_of_a_newer_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("neuros_mechint.core.result_files._VERSION", 99)
    path = effects().save(tmp_path / "effects.nc")
    monkeypatch.undo()
    with pytest.raises(StorageError, match="newer version"):
        load_result(path)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (xr.DataArray([1.0]), "needs data"),
        (xr.Dataset(), "needs data"),
        (xr.Dataset({"x": ("unit", np.array([{}, None]))}), "cannot be stored"),
        (xr.Dataset({"a/b": 1.0}), "cannot name"),
        (xr.Dataset({3: 1.0}), "cannot name"),
        (xr.Dataset({"x": 1.0}, attrs={"bad": object()}), "attrs cannot be stored"),
        (xr.Dataset({"x": ((), 1.0, {"bad": 1j})}), "attrs of x cannot be stored"),
    ],
)
def test_data_that_cannot_be_kept_are_refused(data, problem):
    with pytest.raises(InputError, match=problem):
        Result(data, "Bad")


def test_multi_indices_are_refused_with_the_way_out():
    stacked = xr.Dataset({"x": (("a", "b"), np.zeros((2, 2)))}, {"a": [0, 1], "b": [0, 1]}).stack(ab=["a", "b"])
    with pytest.raises(InputError, match="reset_index"):
        Result(stacked, "Stacked")


def test_bad_attributes_citations_and_warnings_are_refused():
    with pytest.raises(InputError, match="attributes cannot be stored"):
        effects(attributes={"model": object()})
    with pytest.raises(InputError, match="unknown citation key 'meng2022rom'"):
        effects(citations=("meng2022rom",))
    with pytest.raises(InputError, match="warnings is one string"):
        effects(warnings="few pairs")


def test_a_result_is_a_copy_and_cannot_be_changed():
    source = np.zeros(3)
    settings_given = {"levels": [1]}
    result = Result(xr.Dataset({"x": ("unit", source)}), "Copy", attributes=settings_given)
    source[0] = 5
    settings_given["levels"].append(2)
    assert result.main.values[0] == 0
    assert result.attributes["levels"] == [1]
    with pytest.raises(AttributeError):
        result.title = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        result.attributes["new"] = 1  # type: ignore[index]


def test_numpy_scalars_in_attributes_become_numbers():
    result = effects(attributes={"r2": np.float32(0.5), "units": np.arange(2), "path": Path("a")})
    assert result.attributes == {"r2": 0.5, "units": [0, 1], "path": "a"}


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "x"},
        {"attributes": {}},
        {"citations": ()},
        {"warnings": ()},
        {"provenance": Provenance.record(seed=1)},
    ],
)
def test_every_field_takes_part_in_equality(changes):
    assert effects(provenance=effects().provenance) != effects(**changes)
    assert effects() != "Effects"


def test_values_labels_and_units_take_part_in_equality():
    base = effects()

    def same_but(data: xr.Dataset) -> bool:
        return Result(data, base.title, base.attributes, base.provenance, base.citations, base.warnings) == base

    assert same_but(base.data)
    assert not same_but(base.data.assign(n=13))
    assert not same_but(base.data.assign_coords(position=[0, 1, 3]))
    other_units = base.data.copy()
    other_units["effect"].attrs["units"] = "bits"
    assert not same_but(other_units)


def test_dataframe_has_one_row_per_value_of_the_main_variable():
    table = effects().to_dataframe()
    assert table.columns.tolist() == ["site", "position", "effect", "baseline", "n"]
    assert len(table) == 6
    assert table["site"].tolist() == ["blocks.0.z"] * 3 + ["blocks.1.z"] * 3
    assert table["baseline"].tolist() == [1, 2, 3] * 2
    single = Result(xr.Dataset({"score": 0.5, "error": 0.1}), "Score").to_dataframe()
    pd.testing.assert_frame_equal(single, pd.DataFrame({"score": [0.5], "error": [0.1]}))


def test_dataframe_leaves_variables_of_other_dimensions_aside():
    data = xr.Dataset({"x": ("unit", [1.0, 2.0]), "curve": ("time", np.arange(1000.0))})
    table = Result(data, "Two").to_dataframe()
    assert table.columns.tolist() == ["unit", "x"]
    assert len(table) == 2


def test_text_columns_of_pandas_are_accepted(tmp_path):
    table = pd.DataFrame({"name": ["a", "b"], "value": [1.0, 2.0]})
    result = Result(xr.Dataset.from_dataframe(table)[["value", "name"]], "Table")
    assert load_result(result.save(tmp_path / "table.nc")).data["name"].values.tolist() == ["a", "b"]


def test_repr_and_html_are_short_and_escaped():
    result = effects(title="<b>bold</b>", warnings=("a", "b"))
    assert repr(result) == "<Result '<b>bold</b>': effect (site: 2, position: 3); 2 warnings>"
    assert repr(Result(xr.Dataset({"r2": 0.123456}), "Fit")) == "<Result 'Fit': r2 = 0.1235>"
    assert "&lt;b&gt;bold&lt;/b&gt;" in result._repr_html_()
    assert "<b>bold" not in result._repr_html_()


def test_summary_tells_range_units_missing_values_and_warnings():
    lines = effects().summary().splitlines()
    assert lines[0] == "Effects"
    assert "effect: 2 site x 3 position, from -1 to 1.5 nats (median 0.25, 1 not finite)" in lines
    assert "method: exact" in lines
    assert lines[-1] == "warning: few pairs"


def test_plot_draws_on_the_axes_given_and_titles_them():
    axes = Figure().subplots()
    assert effects().plot(axes) is axes
    assert axes.get_title(loc="left") == "Effects"
    assert len(axes.images) == 1
    own = NamedResult(effects().data["baseline"].to_dataset(), "Named").plot(Figure().subplots())
    assert own.get_title(loc="left") == "my own title"


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_every_plot_returns_axes_whose_figure_is_saved(tmp_path, ending):
    import matplotlib.pyplot as plt

    path = tmp_path / f"effects.{ending}"
    axes = effects().plot()
    axes.figure.savefig(path, dpi=200)
    plt.close(axes.figure)
    assert path.stat().st_size > 1000


def test_every_method_that_plots_returns_axes():
    """What is said of saving a figure is so of all: ``plot().figure.savefig(path)``."""
    texts = [file.read_text(encoding="utf-8") for file in Path(result_module.__file__).parents[1].rglob("*.py")]
    plots = [
        one
        for text in texts
        if "def plot(" in text
        for one in ast.walk(ast.parse(text))
        if isinstance(one, ast.FunctionDef) and one.name == "plot"
    ]
    assert len(plots) >= 3
    assert all(ast.unparse(one.returns) == "Axes" for one in plots)


class NotedResult(Result):
    """A drawing with a note in the line of the title."""

    def _draw(self, ax):
        super()._draw(ax)
        ax.set_title("20 of 192 dead", loc="right")


@pytest.mark.parametrize("kind", [Result, NotedResult])
def test_a_long_title_is_saved_whole_and_apart_from_a_note(kind):
    figure = Figure(figsize=(6.6, 3.6), dpi=100, layout="constrained")
    title = "Sparse autoencoder on 6400 observations of blocks.0.resid_post, " * 2
    axes = kind(xr.Dataset({"x": ("unit", [1.0, 2.0])}), title).plot(figure.subplots())
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., 0] < 128
    top = drawn[: int(drawn.shape[0] - axes.bbox.y1)]
    assert not top[:, -2:].any()  # no letter is cut off at the edge
    rows = top.any(1).astype(int)
    lines = int((np.diff(rows) == 1).sum() + rows[0])
    assert lines == (3 if kind is NotedResult else 2)


def test_plot_wants_axes():
    with pytest.raises(InputError, match="expected: a matplotlib Axes"):
        effects().plot(ax=3)


def test_plot_without_axes_makes_a_pyplot_figure():
    import matplotlib.pyplot as plt

    axes = Result(xr.Dataset({"x": ("unit", [1.0, 2.0])}), "Line").plot()
    assert plt.fignum_exists(axes.figure.number)
    plt.close(axes.figure)


def test_three_dimensions_cannot_be_drawn_without_a_drawing_of_their_own():
    result = Result(xr.Dataset({"x": (("a", "b", "c"), np.zeros((2, 2, 2)))}), "Cube")
    with pytest.raises(InputError, match="3 dimensions"):
        result.plot(Figure().subplots())


def test_interactive_figure_of_generic_results_only():
    assert effects().plot_interactive().layout.title.text == "Effects"
    with pytest.raises(CapabilityError, match="NamedResult"):
        NamedResult(effects().data, "Named").plot_interactive()


def test_every_result_says_what_it_found_through_the_same_hook():
    """Notebooks show the summary only where classes override `_summary_lines`, not `summary`."""
    package = Path(result_module.__file__).parents[1]
    for path in package.rglob("*.py"):
        if path != Path(result_module.__file__) and path.name != "run.py":  # the outcome of a workflow is no result
            assert "def summary(" not in path.read_text(encoding="utf-8"), path

    class Told(Result):
        def _summary_lines(self):
            return ["the answer is 42"]

    told = Told(xr.Dataset({"x": 1.0}), "Title", warnings=("beware",))
    assert told.summary().splitlines() == ["Title", "the answer is 42", "warning: beware"]
    assert "the answer is 42" in told._repr_html_()
