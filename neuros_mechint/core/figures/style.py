"""The look of every figure, and the axes to draw on."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, ScalarFormatter

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.figures.colours import GRID, INK, MUTED_INK, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURE_WIDTH = 6.6
"""In inches."""

# Fonts of the same widths, so that a page shows text where it was laid out.
FONTS = ["Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"]
_STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "figure.dpi": 110,
    "savefig.facecolor": "white",
    "font.family": ["sans-serif", "DejaVu Sans"],  # what the first font lacks, such as ⊣, comes from matplotlib's own
    "font.sans-serif": FONTS,
    "font.size": 10,
    "text.color": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 10,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED_INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.axisbelow": True,
    "xtick.color": MUTED_INK,
    "ytick.color": MUTED_INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "image.interpolation": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "neuros-mechint",
}
_WRITE_MATHEMATICS = (ScalarFormatter, LogFormatter)  # powers of ten


@contextmanager
def style() -> Generator[None]:
    """Draw in the package's style inside a ``with`` block; the caller's settings come back afterwards.

    Examples
    --------
    >>> before = mpl.rcParams["font.size"], mpl.rcParams["legend.frameon"]
    >>> with style():
    ...     mpl.rcParams["legend.frameon"]
    False
    >>> before == (mpl.rcParams["font.size"], mpl.rcParams["legend.frameon"])
    True
    """
    with mpl.rc_context(_STYLE):  # pyright: ignore[reportArgumentType]
        yield


def use_style() -> tuple[str, ...]:
    """Draw every figure from now on in the package's style, as a notebook wants it.

    ``matplotlib.rcdefaults()`` brings matplotlib's own look back. The results' ``plot`` methods need no such call.

    Returns
    -------
    tuple of str
        The colours of lines, in this order, which readers with any common colour blindness can tell apart; the last is
        a grey, for controls.

    References
    ----------
    Okabe & Ito 2008, *Color Universal Design*, https://jfly.uni-koeln.de/color/

    Examples
    --------
    >>> with mpl.rc_context():  # here only, so that this example leaves nothing behind
    ...     blue, *others, grey = use_style()
    ...     mpl.rcParams["legend.frameon"], blue, grey
    (False, '#0072B2', '#7F7F7F')
    """
    mpl.rcParams.update(_STYLE)  # pyright: ignore[reportArgumentType, reportCallIssue]
    return PALETTE


@contextmanager
def drawing(ax: Axes | None = None, size: tuple[float, float] | None = None) -> Generator[Axes]:
    """Draw in the package's style inside a ``with`` block; what is written there is shown letter by letter.

    A ``$`` in the name of a site or a unit begins no mathematics. What the axes said before stays as it was.

    Parameters
    ----------
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it a new pyplot figure is made.
    size : tuple of float, optional
        Width and height of a new figure, in inches.

    Yields
    ------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If ``ax`` is something else than axes.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> with drawing(Figure().subplots()) as axes:
    ...     title = axes.set_title("from 1$ to 2$")
    >>> title.get_parse_math()
    False
    """
    with style():
        axes = new_axes(ax, size)
        axes.set_axisbelow(True)  # also where the caller made the axes
        others = [one for one in axes.figure.axes if one is not axes]
        before = _texts(axes)
        yield axes
        for drawn in axes.figure.axes:
            for text, said in {} if drawn in others else _texts(drawn).items():
                if said != before.get(text) and not isinstance(said, _WRITE_MATHEMATICS):
                    text.set_parse_math(False)


def _texts(axes: Axes) -> dict[Text, object]:
    """Return each text on axes with what it says: words, or for the labels of ticks what writes them."""
    found: dict[Text, object] = {text: text.get_text() for text in axes.findobj(Text)}
    for axis in (axes.xaxis, axes.yaxis):
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            found |= dict.fromkeys((tick.label1, tick.label2), axis.get_major_formatter())
    return found


def new_axes(ax: Axes | None = None, size: tuple[float, float] | None = None) -> Axes:
    """Return ``ax``, or the axes of a new pyplot figure, so that a notebook shows it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes, optional
    size : tuple of float, optional
        Width and height of a new figure, in inches.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If ``ax`` is something else than axes.
    """
    if ax is not None:
        return _checked_axes(ax)
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size or (FIGURE_WIDTH, 3.6), layout="constrained")[1]


def _checked_axes(ax: Any) -> Axes:
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise InputError(
            "ax is no place to draw on",
            expected="a matplotlib Axes",
            got=type(ax).__name__,
            fix="pass one of the axes, such as figure.axes[0] or axes[0]",
        )
    return ax
