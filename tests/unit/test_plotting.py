from __future__ import annotations

from io import BytesIO
from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from neuros_mechint.core.errors import InputError, MissingDependencyError
from neuros_mechint.core.figures.colours import DIVERGING, SEQUENTIAL
from neuros_mechint.core.figures.interactive import interactive_figure, interactive_heat_map, interactive_lines
from neuros_mechint.core.figures.labels import axis_label
from neuros_mechint.core.figures.plotting import bars, draw, figure_size, heat_map, line
from neuros_mechint.core.figures.style import drawing, new_axes, style, use_style


def axes():
    return Figure(layout="constrained").subplots()


def matrix(values, **attributes) -> xr.DataArray:
    return xr.DataArray(values, dims=("layer", "position"), name="effect", attrs=attributes)


def tick_texts(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def lightness(colour) -> float:
    return float(np.dot(mpl.colors.to_rgb(colour), [0.299, 0.587, 0.114]))


def test_style_comes_and_goes_also_after_an_error():
    before = dict(mpl.rcParams)
    with style():
        assert mpl.rcParams["axes.spines.top"] is False
    with pytest.raises(InputError), style():
        heat_map(xr.DataArray(1.0), axes())
    assert dict(mpl.rcParams) == before


def test_a_notebook_has_the_same_look_as_the_packages_own_figures():
    with style():
        ours = dict(mpl.rcParams)
    with mpl.rc_context():
        colours = use_style()
        assert dict(mpl.rcParams) == ours
        own = axes()
        drawn = [line.get_color() for _ in colours for line in own.plot([0, 1])]
    assert tuple(drawn) == colours


def test_signs_that_a_font_lacks_come_from_another():
    with style():
        drawn = Figure()
        drawn.subplots().set(title="a → b", xlabel="a ⊣ b", ylabel="½ Δ ≥ −1")
        drawn.savefig(BytesIO())  # a missing glyph is a warning, and so an error


def test_new_axes_are_the_callers_or_pyplots():
    given = axes()
    assert new_axes(given) is given
    made = new_axes()
    assert plt.fignum_exists(made.figure.number)
    plt.close(made.figure)


@pytest.mark.parametrize("wrong", [3, Figure(), np.array([1, 2])])
def test_what_is_no_place_to_draw_on_is_refused(wrong):
    with pytest.raises(InputError, match="expected: a matplotlib Axes"), drawing(wrong):
        pass


def test_names_are_drawn_letter_by_letter():
    costs = xr.DataArray([[1.0, 2.0]], {"site": ["1$ of 2$"], "unit": ["$a$", "$b$"]}, ("site", "unit"))
    with drawing(axes()) as drawn:
        image = heat_map(costs.rename("$x$"), drawn)
        texts = [drawn.set_title("from 1$ to 2$"), image.colorbar.ax.yaxis.label]
        texts += drawn.get_xticklabels() + drawn.get_yticklabels()
    assert [text.get_text() for text in texts] == ["from 1$ to 2$", "$x$", "$a$", "$b$", "1$ of 2$"]
    assert not any(text.get_parse_math() for text in texts)
    with drawing(axes()) as drawn:
        drawn.bar(["$a$", "$b$"], [1, 2])  # names that matplotlib keeps itself
    assert not any(text.get_parse_math() for text in drawn.get_xticklabels())


def test_mathematics_of_the_caller_and_powers_of_ten_stay():
    figure = Figure()
    own, other = figure.subplots(1, 2)
    title, beside = own.set_title("$R^2$"), other.set_title("$x$")
    with drawing(own):
        own.loglog([1, 1e3], [1, 1e6])
    figure.canvas.draw()
    numbers = own.get_xticklabels()
    assert all(text.get_parse_math() for text in (title, beside, *numbers))
    assert any("10^" in text.get_text() for text in numbers)


@pytest.mark.parametrize("name", ["{}", "region {}", "blocks.{}.resid_pre", "blocks.{}.attn.hook_result[position={}]"])
@pytest.mark.parametrize("n_names", [3, 12, 40])
def test_names_below_and_beside_a_figure_do_not_touch(name, n_names):
    names = [name.format(number, number) for number in range(n_names)]
    values = xr.DataArray(
        np.zeros((n_names, n_names)), {"site": names, "other": names}, ("site", "other"), name="effect"
    )
    figure = Figure(figsize=figure_size(values.to_dataset()), layout="constrained")
    drawn = figure.subplots()
    heat_map(values, drawn)
    figure.canvas.draw()
    below, beside = drawn.get_xticklabels(), drawn.get_yticklabels()
    assert [below[0].get_text(), below[-1].get_text()] == [beside[0].get_text(), beside[-1].get_text()]
    heights = [text.get_window_extent() for text in beside]
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in pairwise(heights))
    angle = np.radians(below[0].get_rotation())
    if angle:
        places = [drawn.transData.transform((x, 0))[0] for x in drawn.get_xticks()]
        line_height = below[0].get_fontsize() * figure.dpi / 72
        assert np.diff(places).min() * np.sin(angle) >= line_height
    else:
        widths = [text.get_window_extent() for text in below]
        assert all(left.x1 <= right.x0 for left, right in pairwise(widths))


def test_signed_values_are_white_at_zero():
    image = heat_map(matrix([[-1.0, 3.0]]), axes())
    assert image.cmap.name == DIVERGING.name
    assert image.norm(0.0) == pytest.approx(0.5)
    assert lightness(image.cmap(image.norm(0.0))) > 0.95
    assert (image.norm.vmin, image.norm.vmax) == (-3.0, 3.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_values_of_one_sign_are_lightest_nearest_to_zero(sign):
    image = heat_map(matrix(sign * np.array([[0.1, 2.0]])), axes())
    near, far = (lightness(image.cmap(image.norm(sign * value))) for value in (0.1, 2.0))
    assert near > 0.9
    assert far < 0.25


def test_center_forces_a_diverging_map():
    image = heat_map(matrix([[0.5, 1.0]]), axes(), center=0.5)
    assert image.norm(0.5) == pytest.approx(0.5)
    assert image.cmap.name == DIVERGING.name


@pytest.mark.parametrize("value", [0.0, 2.0, -2.0, np.nan])
def test_constant_and_missing_matrices_can_be_drawn(value):
    image = heat_map(matrix(np.full((2, 2), value)), axes())
    assert image.norm.vmin < image.norm.vmax
    image.figure.canvas.draw()


def test_missing_values_are_grey_not_zero():
    image = heat_map(matrix([[np.nan, 1.0, 2.0]]), axes())
    assert image.get_array().mask.tolist() == [[True, False, False]]
    assert to_hex(image.cmap.get_bad()) not in (to_hex(image.cmap(0.0)), "#000000")


def test_first_row_is_on_top_and_everything_is_labelled():
    values = matrix([[0.0, 1.0], [2.0, 3.0]], units="nats", long_name="patching effect")
    values = values.assign_coords(layer=["first", "second"], position=[5, 7])
    drawn = axes()
    image = heat_map(values, drawn)
    assert drawn.yaxis_inverted()
    assert tick_texts(drawn.yaxis) == ["first", "second"]
    assert tick_texts(drawn.xaxis) == ["5", "7"]
    assert (drawn.get_xlabel(), drawn.get_ylabel()) == ("position", "layer")
    assert image.colorbar.ax.get_ylabel() == "patching effect (nats)"
    assert heat_map(matrix([[1.0]]), axes(), units="bits").colorbar.ax.get_ylabel() == "effect (bits)"


def test_long_axes_get_few_and_round_labels():
    drawn = axes()
    heat_map(xr.DataArray(np.zeros((3, 90)), dims=("unit", "position")), drawn)
    assert tick_texts(drawn.xaxis) == [str(number) for number in range(0, 90, 5)]
    time = xr.DataArray(np.zeros((3, 201)), {"time": np.linspace(0, 2, 201)}, ("unit", "time"))
    drawn = axes()
    heat_map(time, drawn)
    assert "0.5" in tick_texts(drawn.xaxis)
    assert drawn.get_xticks()[tick_texts(drawn.xaxis).index("0.5")] == pytest.approx(50)


def test_uneven_samples_keep_their_own_values():
    uneven = xr.DataArray(np.zeros((1, 30)), {"f": np.geomspace(1, 100, 30)}, ("unit", "f"))
    drawn = axes()
    heat_map(uneven, drawn)
    assert tick_texts(drawn.xaxis)[:2] == ["1", "1.37"]


def test_lines_have_one_entry_each_and_the_right_axis():
    values = xr.DataArray(
        np.arange(6.0).reshape(3, 2),
        {"time": [0.0, 0.1, 0.2], "unit": ["a", "b"]},
        ("time", "unit"),
        name="rate",
    )
    drawn = axes()
    lines = line(values, drawn, along="time")
    assert [drawn_line.get_ydata().tolist() for drawn_line in lines] == [[0, 2, 4], [1, 3, 5]]
    assert [text.get_text() for text in drawn.get_legend().get_texts()] == ["a", "b"]
    assert (drawn.get_xlabel(), drawn.get_ylabel()) == ("time", "rate")
    assert lines[0].get_xdata().tolist() == [0.0, 0.1, 0.2]


def test_many_lines_have_no_legend():
    drawn = axes()
    assert len(line(xr.DataArray(np.zeros((30, 4)), dims=("unit", "time")), drawn)) == 30
    assert drawn.get_legend() is None


def test_generic_drawing_follows_the_shape():
    named = xr.DataArray([1.0, -2.0], {"site": ["a", "b"]}, ("site",))
    for data, n_lines, n_bars, n_images in [
        (xr.Dataset({"x": 1.0, "y": 2.0}), 1, 2, 0),
        (xr.Dataset({"x": named}), 1, 2, 0),
        (xr.Dataset({"x": ("time", [1.0, 2.0])}), 1, 0, 0),
        (xr.Dataset({"x": (("a", "b"), np.zeros((2, 2)))}), 0, 0, 1),
    ]:
        drawn = axes()
        draw(data, drawn)
        assert (len(drawn.lines), len(drawn.patches), len(drawn.images)) == (n_lines, n_bars, n_images)


def test_single_numbers_share_an_axis_only_label_units_they_share():
    drawn = axes()
    draw(xr.Dataset({"x": ((), 1.0, {"units": "nats"}), "y": ((), 2.0, {"units": "nats"})}), drawn)
    assert drawn.get_ylabel() == "nats"
    assert tick_texts(drawn.xaxis) == ["x", "y"]
    draw(xr.Dataset({"x": ((), 1.0, {"units": "nats"}), "y": ((), 2.0, {"units": "Hz"})}), drawn := axes())
    assert drawn.get_ylabel() == ""


@pytest.mark.parametrize(
    ("function", "values", "problem"),
    [
        (heat_map, xr.DataArray([1.0]), "two dimensions"),
        (line, xr.DataArray(1.0), "one or two"),
        (bars, xr.DataArray([[1.0]]), "one dimension"),
        (heat_map, xr.DataArray([[1j]]), "cannot be drawn"),
        (line, xr.DataArray(["a"]), "cannot be drawn"),
    ],
)
def test_wrong_shapes_and_dtypes_are_refused(function, values, problem):
    with pytest.raises(InputError, match=problem):
        function(values, axes())


def test_unknown_dimension_is_refused():
    with pytest.raises(InputError, match="no dimension 'tim'"):
        line(xr.DataArray([1.0], dims="time"), axes(), along="tim")


def test_data_are_left_alone():
    values = matrix([[np.nan, -1.0]])
    before = values.copy(deep=True)
    heat_map(values, axes())
    line(values, axes())
    assert values.identical(before)


def test_size_grows_with_rows_within_bounds():
    heights = [figure_size(xr.Dataset({"x": (("a", "b"), np.zeros((n, 2)))}))[1] for n in (1, 12, 500)]
    assert heights == sorted(heights)
    assert heights[0] >= 2
    assert heights[-1] <= 8


def test_labels_name_units():
    assert axis_label(xr.DataArray(0, name="firing_rate", attrs={"units": "Hz"})) == "firing rate (Hz)"
    assert axis_label(xr.DataArray(0, name="x", attrs={"long_name": "score"})) == "score"


def test_both_maps_are_monotone_in_lightness():
    steps = np.linspace(0, 1, 32)
    sequential = [lightness(SEQUENTIAL(step)) for step in steps]
    assert np.all(np.diff(sequential) < 0)
    diverging = [lightness(DIVERGING(step)) for step in steps]
    assert np.all(np.diff(diverging[:16]) > 0)
    assert np.all(np.diff(diverging[16:]) < 0)


def test_interactive_figures_show_the_same_numbers_and_labels():
    values = matrix([[-1.0, 3.0]], units="nats")
    figure = interactive_heat_map(values)
    assert figure.data[0].z.tolist() == [[-1.0, 3.0]]
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-3.0, 3.0)
    assert figure.data[0].colorbar.title.text == "effect (nats)"
    assert figure.layout.yaxis.autorange == "reversed"
    lines = interactive_lines(values, along="position")
    assert lines.data[0].y.tolist() == [-1.0, 3.0]
    named = interactive_lines(xr.DataArray([1.0, 2.0], {"site": ["a", "b"]}, ("site",)))
    assert list(named.data[0].x) == ["a", "b"]
    assert named.data[0].mode == "markers"
    assert interactive_figure(values, "Title").layout.title.text == "Title"


def test_interactive_figures_refuse_other_shapes():
    for function in (interactive_figure, interactive_heat_map, interactive_lines):
        with pytest.raises(InputError, match="dimensions"):
            function(xr.DataArray(1.0))


def test_interactive_figures_name_the_extra_they_need(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "plotly.graph_objects", None)
    with pytest.raises(MissingDependencyError, match=r"neuros-mechint\[viz\]"):
        interactive_heat_map(matrix([[1.0]]))
