"""How a report shows a result, and the results of several runs beside each other."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import xarray as xr
from markupsafe import Markup
from matplotlib.figure import Figure

from neuros_mechint.core.errors import CapabilityError, FigureError
from neuros_mechint.core.figures.style import drawing, style
from neuros_mechint.core.result import Result
from neuros_mechint.report.bodies import Blocks, Body, Chart, Grid, Picture, Raw, SideBySide, Words
from neuros_mechint.report.comparison import share_scales
from neuros_mechint.report.explorer import draw_matrices, explorer_of, explorer_of_matrices, matrices_of
from neuros_mechint.report.figures import draw_result, figure_drawing
from neuros_mechint.report.results import attempt

_BLOCK_SIZE = (6.6, 2.6)
_LONGEST_DESCRIPTION = 300  # all of the findings stand below the figure anyway
_Drawn = tuple[Figure, xr.DataArray | None]
"""A figure, and the matrices of which it shows the first."""


def body_of(result: Result, identifier: str, *, interactive: bool) -> tuple[Body, str]:
    """Return what is shown of a result, and the problem where its class fails to draw it.

    Parameters
    ----------
    result : Result
    identifier : str
        Unique in the page.
    interactive : bool
        Draw with plotly where that is possible.

    Returns
    -------
    body : Body
    problem : str
    """
    body, problem = attempt("the figure", partial(_drawn, result, identifier, interactive))
    return (body, problem) if body is not None else (Words("No figure."), problem)


def side_by_side(results: Mapping[str, Result], identifier: str, own: Mapping[str, str]) -> tuple[Body, str]:
    """Return what is shown of the same result of several runs, on the same scales where they fit.

    Parameters
    ----------
    results : mapping of str to Result
        By name of the run.
    identifier : str
        Unique in the page.
    own : mapping of str to str
        By name of the run, what only that run says of it.

    Returns
    -------
    body : Body
    problem : str
    """
    problems: list[str] = []
    figures: dict[str, list[_Drawn]] = {}
    bodies: dict[str, Body] = {}
    for number, (run, result) in enumerate(results.items()):
        if list(result.report_blocks()) or list(result.report_sections()):
            bodies[run], problem = _whole(result, f"{identifier}-{number}")
        else:
            drawn, problem = attempt("the figure", partial(_figures, result))
            figures[run] = drawn or []
        problems += [f"{run}: {problem}"] if problem else []
    scaled, problem = attempt("figures on one scale", partial(_scaled, list(figures.values())))
    note = "" if scaled or problem else "Colours mean other values in each run: see the bars beside them."
    for number, (run, result) in enumerate(results.items()):
        if run in figures:
            body, problem = attempt(
                "the figure", partial(_pictured, result, figures[run], f"{identifier}-{number}", note)
            )
            bodies[run] = body or Words("No figure.")
            problems += [f"{run}: {problem}"] if problem else []
    told = "; ".join(problems)
    if not own and all(body.kind == "text" for body in bodies.values()):
        return bodies[next(iter(results))], told
    return SideBySide({run: bodies[run] for run in results}, own), told


def _whole(result: Result, identifier: str) -> tuple[Body, str]:
    if list(result.report_sections()):
        return Words("Made of the parts that follow."), ""
    return body_of(result, identifier, interactive=False)


def _drawn(result: Result, identifier: str, interactive: bool) -> Body:
    blocks = list(result.report_blocks())
    if blocks:
        return Blocks(
            [
                (
                    heading,
                    [_block_body(item, f"{identifier}-{number}-{place}", heading) for place, item in enumerate(items)],
                )
                for number, (heading, items) in enumerate(blocks)
            ]
        )
    try:
        picture = _pictured(result, _figures(result), identifier)
    except FigureError as error:
        # A result of text, say, is still worth its findings and its table.
        return Words(f"No figure: {error.problem}.")
    if interactive and isinstance(picture, Picture):
        # Classes with a drawing of their own, and single numbers, have only the static figure.
        with contextlib.suppress(CapabilityError, FigureError):
            return Chart(result.plot_interactive().update_layout(title=None), picture)
    return picture


def _block_body(item: Any, identifier: str, heading: str) -> Body:
    """Return HTML that vouches for itself, a pandas.DataFrame, or what a callable draws on matplotlib axes."""
    if isinstance(item, Markup):
        return Raw(item)
    if hasattr(item, "itertuples"):
        return Grid(item)
    with style():
        figure = Figure(figsize=_BLOCK_SIZE, layout="constrained")
        axes = figure.subplots()
    with drawing(axes):
        item(axes)
    return Picture([(figure_drawing(figure, identifier), None)], heading, in_page_colours=True)


def _figures(result: Result) -> list[_Drawn]:
    """Return the figure of a result and, where there is a choice of matrices, that of the first one."""
    matrices = matrices_of(result)
    own_drawing = type(result)._draw is not Result._draw  # pyright: ignore[reportPrivateUsage]
    figures: list[_Drawn] = [] if matrices is not None and not own_drawing else [(draw_result(result), None)]
    return figures if matrices is None else [*figures, (draw_matrices(matrices), matrices)]


def _pictured(result: Result, figures: Sequence[_Drawn], identifier: str, note: str = "") -> Body:
    if not figures:
        return Words("No figure.")
    drawings = []
    for place, (figure, matrices) in enumerate(figures):
        drawing = figure_drawing(figure, f"{identifier}-{place}" if place else identifier)
        explorer = explorer_of(figure, result) if matrices is None else explorer_of_matrices(figure, matrices)
        drawings.append((drawing, explorer))
    description, _ = attempt("the summary", partial(_description, result))
    return Picture(drawings, description or result.title, in_page_colours=True, note=note)


def _scaled(figures: Sequence[Sequence[_Drawn]]) -> bool:
    """Give the figures of all runs the same scales, first with first and second with second."""
    return all([share_scales([figure for figure, _ in drawn]) for drawn in zip(*figures, strict=False)])


def _description(result: Result) -> str:
    lines = "\n".join([result.title, *result.findings]).splitlines()
    return textwrap.shorten(". ".join(line.rstrip(".") for line in lines), _LONGEST_DESCRIPTION, placeholder=" …")
