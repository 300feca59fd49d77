"""The same figures for the mouse, through plotly (the ``viz`` extra)."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.colors import to_hex

from neuros_mechint.core.errors import FigureError, InputError
from neuros_mechint.core.figures.colours import INK, MISSING, MUTED_INK, PALETTE, colour_scale
from neuros_mechint.core.figures.labels import axis_label, is_text
from neuros_mechint.core.figures.plotting import drawable
from neuros_mechint.core.figures.style import FONTS
from neuros_mechint.core.optional import soft_import

_BAR_LABEL_WIDTH = 30


def interactive_figure(values: xr.DataArray, title: str | None = None) -> Any:
    """Return one dimension as interactive lines, two as an interactive heat map.

    Parameters
    ----------
    values : xarray.DataArray
    title : str, optional

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    FigureError
        If ``values`` has neither one nor two dimensions.
    MissingDependencyError
        If plotly is not installed.
    """
    if values.ndim not in (1, 2):
        raise FigureError("an interactive figure needs one or two dimensions", got=dict(values.sizes))
    figure = interactive_heat_map(values) if values.ndim == 2 else interactive_lines(values)
    return figure.update_layout(title=title) if title else figure


def interactive_heat_map(values: xr.DataArray) -> Any:
    """Return a matrix as a plotly heat map with the colours of `heat_map`.

    Parameters
    ----------
    values : xarray.DataArray
        ``(row, column)``.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    InputError
        If ``values`` is not two-dimensional or not numeric.
    MissingDependencyError
        If plotly is not installed.
    """
    if values.ndim != 2:
        raise InputError("a heat map needs two dimensions", got=dict(values.sizes))
    graph = soft_import("plotly.graph_objects", "interactive figures", extra="viz")
    numbers = drawable(values).values
    colours, norm = colour_scale(numbers)
    scale = [[step, to_hex(colours(step))] for step in np.linspace(0, 1, 13)]
    row, column = (values[dimension] for dimension in values.dims)
    bar_label = "<br>".join(textwrap.wrap(axis_label(values), _BAR_LABEL_WIDTH))
    heat = graph.Heatmap(
        z=numbers,
        x=_plotly_labels(column),
        y=_plotly_labels(row),
        zmin=norm.vmin,
        zmax=norm.vmax,
        colorscale=scale,
        colorbar={
            "title": {"text": bar_label, "side": "right"},
            "outlinewidth": 0,
            "thickness": 14,
        },
        hovertemplate=(f"{axis_label(row)} %{{y}}<br>{axis_label(column)} %{{x}}<br><b>%{{z:.4g}}</b><extra></extra>"),
    )
    figure = _plotly_layout(graph.Figure(heat), axis_label(column), axis_label(row))
    return figure.update_layout(plot_bgcolor=MISSING).update_yaxes(autorange="reversed")


def interactive_lines(values: xr.DataArray, along: str | None = None) -> Any:
    """Return plotly lines, one per entry of the dimension that is not ``along``.

    Parameters
    ----------
    values : xarray.DataArray
        ``(x,)`` or two-dimensional.
    along : str, optional
        The dimension of the horizontal axis; the last one if not given.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    InputError
        If ``values`` has neither one nor two dimensions, or is not numeric.
    MissingDependencyError
        If plotly is not installed.
    """
    if values.ndim not in (1, 2):
        raise InputError("lines need one or two dimensions", got=dict(values.sizes))
    graph = soft_import("plotly.graph_objects", "interactive figures", extra="viz")
    along = along or str(values.dims[-1])
    numbers = drawable(values).transpose(..., along)
    x, rows = values[along], numbers.values.reshape(-1, values.sizes[along])
    names = numbers[numbers.dims[0]].values if numbers.ndim == 2 else [values.name]
    traces = [
        graph.Scatter(
            x=_plotly_labels(x),
            y=row,
            name=str(name),
            mode="markers" if is_text(x) else "lines",
            line={"color": PALETTE[i % len(PALETTE)]},
        )
        for i, (name, row) in enumerate(zip(names, rows, strict=True))
    ]
    figure = _plotly_layout(graph.Figure(traces), axis_label(x), axis_label(values))
    return figure.update_layout(showlegend=len(traces) > 1)


def _plotly_labels(coordinate: xr.DataArray) -> list[Any]:
    return [str(item) for item in coordinate.values] if is_text(coordinate) else coordinate.values.tolist()


def _plotly_layout(figure: Any, horizontal: str, vertical: str) -> Any:
    axis = {"showgrid": False, "zeroline": False, "linecolor": MUTED_INK, "ticks": "", "automargin": True}
    return figure.update_layout(
        template="none",
        font={"family": ", ".join(FONTS), "size": 12, "color": INK},
        margin={"l": 70, "r": 20, "t": 40, "b": 55},
        height=380,
        xaxis={"title": {"text": horizontal}, **axis},
        yaxis={"title": {"text": vertical}, **axis},
        paper_bgcolor="white",
        plot_bgcolor="white",
    )
