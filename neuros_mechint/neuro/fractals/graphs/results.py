"""The result of box covering: dimensions, the number of boxes over their size, and two laws for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, label_logarithmic
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.standard_errors import t_reach
from neuros_mechint.neuro.fractals.scaling import FEWEST_SCALES, LineFit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from neuros_mechint.neuro.fractals.graphs.dimension import GraphFractalDimension


_MOST_CURVES = 6
_FIGURE_SIZE = (6.6, 3.4)


class Covering(NamedTuple):
    """How many boxes cover one graph.

    Parameters
    ----------
    sizes : numpy.ndarray of shape (n_sizes,)
    counts : numpy.ndarray of shape (n_orders, n_sizes)
    n_nodes, n_left_out : int
        In the largest connected part, and outside of it.
    diameter : float
    holds_all : float
        Size of the box that just holds all of that part.
    """

    sizes: Floats
    counts: npt.NDArray[np.int64]
    n_nodes: int
    n_left_out: int
    diameter: float
    holds_all: float


class GraphFit(NamedTuple):
    """Two laws for the number of boxes.

    Parameters
    ----------
    fitted : numpy.ndarray of bool, shape (n_sizes,)
        Up to the first box that holds the whole graph.
    power, exponential : LineFit
        Of the logarithm of the number of boxes, over the logarithm of their size and over the size.
    deviation : float
        Standard deviation of the slope over single orders of the nodes.
    """

    fitted: npt.NDArray[np.bool_]
    power: LineFit
    exponential: LineFit
    deviation: float


class GraphDimension(Result):
    """Box dimension of graphs.

    ``data`` holds, over the axes of a batch: ``dimension``; ``standard_error``, ``low`` and ``high`` of the slope;
    ``r2`` of the power law and ``r2_exponential`` of the exponential law; ``order_deviation``, how far the dimension
    scatters between single orders of the nodes; and over ``scale`` as well ``box_size`` and ``boxes``, with NaN where
    a graph has fewer sizes than others, and which of them were ``fitted``.
    """

    @property
    def values(self) -> np.ndarray:
        """The dimension of each graph."""
        return self.main.values

    @property
    def is_fractal(self) -> np.ndarray:
        """Whether a power law describes the number of boxes of each graph better than an exponential one."""
        return self.data["r2"].values > self.data["r2_exponential"].values

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches of a new figure."""
        return _FIGURE_SIZE

    def _draw(self, ax: Axes) -> None:
        names = ("box_size", "boxes", "fitted")
        sizes, boxes, fitted = (self.data[name].values.reshape(-1, self.data.sizes["scale"]) for name in names)
        values, fractal = self.values.ravel(), np.asarray(self.is_fractal).ravel()
        for index in range(min(len(values), _MOST_CURVES)):
            color, within = PALETTE[index % len(PALETTE)], fitted[index]
            text = f"{values[index]:.2f}" + ("" if fractal[index] else " (no power law)")
            ax.plot(sizes[index], boxes[index], "o", color=color, markerfacecolor="none", label=text)
            if not np.isfinite(values[index]):
                continue
            x, y = sizes[index, within], np.log(boxes[index, within])
            ax.plot(x, np.exp(np.polyval(np.polyfit(np.log(x), y, 1), np.log(x))), color=color)
            fine = np.geomspace(x[0], x[-1])
            ax.plot(fine, np.exp(np.polyval(np.polyfit(x, y, 1), fine)), "--", color=MUTED_INK, linewidth=1)
        ax.set_xscale("log")
        ax.set_yscale("log")
        label_logarithmic(ax.xaxis, sizes[np.isfinite(sizes)])
        ax.set_xlabel(f"box size ({self.data['box_size'].attrs['units']})")
        ax.set_ylabel("boxes that cover the graph")
        ax.plot([], [], "--", color=MUTED_INK, linewidth=1, label="exponential law")
        ax.legend(title="box dimension", loc="upper left", bbox_to_anchor=(1, 1))

    def _summary_lines(self) -> list[str]:
        """Return dimension, fit and what it was fitted to in words."""
        values, about = self.values.ravel(), self.attributes
        found, exponential = (self.data[name].values.ravel() for name in ("r2", "r2_exponential"))
        if len(values) == 1:
            low, high, scatter = (self.data[name].item() for name in ("low", "high", "order_deviation"))
            text = f"{values[0]:.3f}, {100 * about['level']:g}% interval of the slope {low:.3f} to {high:.3f}"
            lines = [f"dimension: {text}; deviation between orders {scatter:.3f}"]
            lines += [f"power law r2 {found[0]:.3f}, exponential law r2 {exponential[0]:.3f}"]
        else:
            spread = f"{np.nanmin(values):.3f} to {np.nanmax(values):.3f}" if np.isfinite(values).any() else "none"
            lines = [f"dimension: {spread} over {len(values)} graphs"]
            lines += [f"a power law is better than an exponential one for {int(self.is_fractal.sum())} of them"]
        nodes = "-".join(f"{count}" for count in sorted({min(about["n_nodes"]), max(about["n_nodes"])}))
        diameter = "-".join(f"{size:.4g}" for size in sorted({min(about["diameter"]), max(about["diameter"])}))
        return [
            *lines,
            f"{nodes} nodes, diameter {diameter}; fewest boxes over {about['n_orders']} orders of the nodes",
        ]


def cautions(coverings: list[Covering], fits: list[GraphFit]) -> tuple[str, ...]:
    """Return what a reader must know before believing any of the dimensions.

    Examples
    --------
    >>> cautions([], [])
    ()
    """
    apart = [covering for covering in coverings if covering.n_left_out]
    narrow = sum(fit.fitted.sum() < FEWEST_SCALES for fit in fits)
    found = []
    if apart:
        nodes = sum(covering.n_left_out for covering in apart)
        found.append(
            f"{len(apart)} of {len(coverings)} graphs are not connected: their largest part is measured, and "
            f"{nodes} of {nodes + sum(covering.n_nodes for covering in apart)} nodes are left out"
        )
    if narrow:
        found.append(
            f"{narrow} of {len(coverings)} graphs have fewer than {FEWEST_SCALES} box sizes between their edges and "
            f"their diameter: their dimension is NaN"
        )
    return tuple(found)


def graph_dimension(
    metric: GraphFractalDimension,
    coverings: list[Covering],
    fits: list[GraphFit],
    shape: tuple[int, ...],
    level: float,
    provenance: Provenance,
) -> GraphDimension:
    """Return what was found as a result."""
    axes = tuple(f"axis_{axis}" for axis in range(len(shape)))
    units = "edges" if metric.lengths == "hops" else "1 / weight"
    variables: dict[str, Any] = {}
    for name, (values, text) in _columns(fits, level).items():
        variables[name] = (axes, values.reshape(shape), {"long_name": text, "units": "1"})
    n_sizes = max(len(covering.sizes) for covering in coverings)
    sizes, boxes, fitted = (np.full((len(coverings), n_sizes), fill) for fill in (np.nan, np.nan, False))
    for row, (covering, fit) in enumerate(zip(coverings, fits, strict=True)):
        n = len(covering.sizes)
        sizes[row, :n], boxes[row, :n], fitted[row, :n] = covering.sizes, covering.counts.min(0), fit.fitted
    texts = {"box_size": (sizes, "box size", units), "boxes": (boxes, "number of boxes", "1")}
    for name, (values, text, unit) in texts.items():
        variables[name] = ((*axes, "scale"), values.reshape(*shape, -1), {"long_name": text, "units": unit})
    variables["fitted"] = ((*axes, "scale"), fitted.reshape(*shape, -1), {"long_name": "in the range of the fit"})
    return GraphDimension(
        xr.Dataset(variables),
        "Box dimension of a graph" if len(fits) == 1 else f"Box dimensions of {len(fits)} graphs",
        attributes={
            "level": level,
            "n_orders": metric.n_orders,
            "n_nodes": [covering.n_nodes for covering in coverings],
            "n_left_out": [covering.n_left_out for covering in coverings],
            "diameter": [covering.diameter for covering in coverings],
        },
        provenance=provenance,
        citations=("song2005", "song2007"),
        warnings=(*cautions(coverings, fits), *_doubts(fits)),
    )


def _columns(fits: list[GraphFit], level: float) -> dict[str, tuple[Floats, str]]:
    """Return one number for each graph under each name, with what it is."""
    slope, r2 = (np.array([float(getattr(fit.power, name)) for fit in fits]) for name in ("slope", "r2"))
    freedom = np.array([fit.fitted.sum() - 2 for fit in fits]).clip(1)
    error = np.abs(slope) * np.sqrt((1 - r2) / r2 / freedom)
    reach = t_reach(error, freedom, level)
    return {
        "dimension": (-slope, "box dimension"),
        "standard_error": (error, "standard error of the slope"),
        "low": (-slope - reach, "lower limit"),
        "high": (-slope + reach, "upper limit"),
        "r2": (r2, "share of variance explained by the power law"),
        "r2_exponential": (
            np.array([float(fit.exponential.r2) for fit in fits]),
            "share of variance explained by the exponential law",
        ),
        "order_deviation": (np.array([fit.deviation for fit in fits]), "standard deviation over orders of the nodes"),
    }


def _doubts(fits: list[GraphFit]) -> tuple[str, ...]:
    measured = [fit for fit in fits if np.isfinite(float(fit.power.r2))]
    worse = [fit for fit in measured if fit.power.r2 <= fit.exponential.r2]
    if not worse:
        return ()
    power, exponential = (
        float(np.mean([float(getattr(fit, law).r2) for fit in worse])) for law in GraphFit._fields[1:3]
    )
    return (
        f"{len(worse)} of {len(measured)} graphs are not fractal: the number of boxes falls exponentially with "
        f"their size rather than as a power of it (r2 {exponential:.3f} against {power:.3f}), and the dimension has "
        "no meaning",
    )
