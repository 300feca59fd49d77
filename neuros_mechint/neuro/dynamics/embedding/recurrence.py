"""Recurrence plots and their quantification: when a system is back where it was, and for how long it then agrees."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.figures.plotting import MUTED_INK, SEQUENTIAL
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.dynamics.embedding.choices import EmbeddingChoice, choose_embedding
from neuros_mechint.neuro.dynamics.embedding.delays import States, Whole, embed
from neuros_mechint.neuro.dynamics.embedding.line_lengths import Lines, diagonal_lines, vertical_lines
from neuros_mechint.neuro.dynamics.embedding.neighbours import moments
from neuros_mechint.neuro.dynamics.trajectories import Trajectories
from neuros_mechint.neuro.dynamics.trajectories import trajectories as as_trajectories

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_PAIRS = 10_000_000
_MOST_DRAWN = 500
_ORDERS = 3
_MEASURES = {
    "recurrence_rate": ("recurrence rate", "1"),
    "determinism": ("determinism", "1"),
    "mean_diagonal": ("mean length of diagonal lines", ""),
    "longest_diagonal": ("longest diagonal line", ""),
    "diagonal_entropy": ("entropy of lengths of diagonal lines", "nats"),
    "laminarity": ("laminarity", "1"),
    "trapping_time": ("mean length of vertical lines", ""),
    "chance_determinism": ("determinism, samples in random order", "1"),
    "chance_laminarity": ("laminarity, samples in random order", "1"),
}


class Recurrence(Result):
    """Which states are near to each other, and the lines they form.

    ``data`` holds ``recurrence_rate``, the share of pairs of states that are near; ``determinism``, the share of
    these on diagonal lines (two stretches of time that agree); ``mean_diagonal``, ``longest_diagonal`` and
    ``diagonal_entropy`` of these lines; ``laminarity``, the share on vertical lines (a state that lasts), and
    ``trapping_time``, their mean length; ``chance_determinism`` and ``chance_laminarity`` of the same samples in random
    order; ``diagonal_lines`` and ``vertical_lines``, their numbers over ``length``; and
    over ``pair`` the rows ``first`` < ``second`` of all that are near, with ``trial`` and ``time`` of each ``state``.
    """

    @property
    def rate(self) -> float:
        """Share of pairs of states that are near."""
        return self.main.item()

    @property
    def determinism(self) -> float:
        """Share of near pairs that lie on diagonal lines."""
        return self.data["determinism"].item()

    @property
    def laminarity(self) -> float:
        """Share of near pairs that lie on vertical lines."""
        return self.data["laminarity"].item()

    @property
    def matrix(self) -> npt.NDArray[np.bool_]:
        """The recurrence plot, ``(n_states, n_states)``, without the diagonal and what is near to it in time."""
        n_states = self.data.sizes["state"]
        plot = np.zeros((n_states, n_states), dtype=bool)
        plot[self.data["first"].values, self.data["second"].values] = True
        return plot | plot.T

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 5.2, 4.8

    def _draw(self, ax: Axes) -> None:
        n_states = self.data.sizes["state"]
        width = -(-n_states // _MOST_DRAWN)
        n_cells = -(-n_states // width)
        cells = self.data["first"].values // width * n_cells + self.data["second"].values // width
        counts = np.bincount(cells, minlength=n_cells**2).reshape(n_cells, n_cells)
        shown = ((counts + counts.T) > 0).astype(float)
        ax.imshow(shown, origin="lower", cmap=SEQUENTIAL, vmin=0, vmax=1, extent=(0, n_states, 0, n_states))
        for end in np.flatnonzero(np.diff(self.data["trial"].values)) + 1:
            ax.axhline(end, color=MUTED_INK, linewidth=0.8)
            ax.axvline(end, color=MUTED_INK, linewidth=0.8)
        ax.set_xlabel("state (in order of time)")
        ax.set_ylabel("state (in order of time)")
        ax.set_title(
            f"{self.title}: determinism {self.determinism:.2f}, laminarity {self.laminarity:.2f}", fontsize="medium"
        )

    def _summary_lines(self) -> list[str]:
        """Return the rate and what the lines say."""
        about, value = self.attributes, {name: self.data[name].item() for name in _MEASURES}
        unit = self.data["mean_diagonal"].attrs["units"]
        return [
            f"{100 * value['recurrence_rate']:.3g}% of pairs of states are within {about['radius']:.3g}",
            f"determinism {value['determinism']:.3f} ({value['chance_determinism']:.3f} with samples in random order): "
            f"that share of them lie on diagonals of {about['shortest']} or more points, on average "
            f"{value['mean_diagonal']:.3g} {unit} long, at most {value['longest_diagonal']:.3g}",
            f"laminarity {value['laminarity']:.3f} ({value['chance_laminarity']:.3f}): that share lie on verticals, on "
            f"average {value['trapping_time']:.3g} {unit} long",
            f"{self.data.sizes['state']} states of {about['n_trials']} trials, delay {about['delay']} "
            f"({about['delay_rule']}), dimension {about['dimension']} ({about['dimension_rule']}), pairs more than "
            f"{about['theiler']} samples apart",
        ]


def recurrence(
    trajectories: Any,
    radius: float | None = None,
    rate: float = 0.05,
    delay: int | None = None,
    dimension: int | None = None,
    theiler: int = 1,
    shortest: int = 2,
    seed: SeedLike = 0,
    progress: bool = True,
) -> Recurrence:
    """Return when states come near to earlier ones, and the lines such recurrences form.

    Diagonal lines say that the system did the same for a while. Vertical lines say that it stayed. Lines do not run
    from one trial into the next, but states of different trials are compared. States that share samples make lines by
    themselves: compare with what the same samples give in random order, which is computed beside.

    Parameters
    ----------
    trajectories : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of arrays
        ``(time,)``, ``(time, unit)``, ``(trial, time, unit)``, or a list of trials ``(time, unit)`` of any lengths.
        Units should have one scale: distances are Euclidean.
    radius : float, optional
        Distance within which states are near, in units of the data. By default such that ``rate`` of the pairs are.
    rate : float
        Share of pairs that are near, where no radius is given.
    delay, dimension : int, optional
        See `delay_embedding`. By default several units are the whole state, and a single one is embedded.
    theiler : int
        Pairs of one trial less than or just so many samples apart do not count.
    shortest : int
        Points of the shortest line that counts.
    seed : int or numpy.random.Generator
        For the random orders.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    Recurrence

    Raises
    ------
    InputError
        Values that are missing, data that are constant, too few samples for the embedding, or so many recurrent pairs
        that they do not fit the memory.
    OptionError
        A parameter out of range.

    References
    ----------
    Eckmann, Oliffson Kamphorst and Ruelle 1987, Recurrence plots of dynamical systems, doi:10.1209/0295-5075/4/9/004;
    Marwan et al. 2007, Recurrence plots for the analysis of complex systems, doi:10.1016/j.physrep.2006.11.001

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> wave = np.sin(2 * np.pi * np.arange(400) / 25)
    >>> found = nm.recurrence(wave, radius=0.05, delay=6, dimension=2)
    >>> found.determinism
    1.0
    >>> noise = np.random.default_rng(0).normal(size=400)
    >>> bool(nm.recurrence(noise, dimension=1).determinism < 0.2)
    True
    """
    theiler, shortest = whole("theiler", theiler, 0), whole("shortest", shortest, 2)
    rate = number("rate", rate, 0, 0.5)
    if radius is not None:
        radius = number("radius", radius, 0, float("inf"))
    given = as_trajectories(trajectories, 3, why="to come back")
    choice = choose_embedding(given, delay, dimension, progress=progress)
    states = embed(given.trials, choice.delay, choice.dimension)
    clock = moments(states, theiler)
    possible = _possible_pairs(clock, theiler)
    if not possible:
        raise InputError(
            "too few samples for recurrences",
            expected=f"states more than {theiler} samples apart",
            got=f"{len(clock)} states in {len(given.trials)} trials",
        )
    distance = radius if radius is not None else _radius(states, clock, theiler, rate)
    pairs = _near_pairs(states.points, clock, theiler, distance)
    chance = _chance(given.trials, choice, theiler, radius, rate, shortest, generator(seed), progress)
    for text in choice.warnings:
        warnings.warn(text, UserWarning, stacklevel=2)
    arguments = {"radius": radius, "rate": rate, "delay": delay, "dimension": dimension}
    return Recurrence(
        _dataset(given, states, pairs, clock, possible, shortest, chance),
        "Recurrence",
        attributes={
            "radius": distance,
            "radius_rule": "given" if radius is not None else f"{100 * rate:g}% of pairs are near",
            "shortest": shortest,
            **_about(choice),
            "theiler": theiler,
            "n_trials": len(given.trials),
        },
        provenance=Provenance.record(
            seed,
            arguments={
                "trajectories": given.joined(),
                "lengths": list(given.lengths),
                **arguments,
                "theiler": theiler,
                "shortest": shortest,
            },
        ),
        citations=("eckmann1987", "marwan2007"),
        warnings=choice.warnings,
    )


def _chance(
    trials: Sequence[Floats],
    choice: EmbeddingChoice,
    theiler: int,
    radius: float | None,
    rate: float,
    shortest: int,
    random: np.random.Generator,
    progress: bool,
) -> tuple[float, float]:
    """Return determinism and laminarity of the same samples in random orders, on average."""
    joined, ends = np.concatenate(trials), np.cumsum([len(trial) for trial in trials])[:-1]
    found = []
    for _ in progress_bar(range(_ORDERS), _ORDERS, "random orders", progress):
        states = embed(np.split(random.permutation(joined), ends), choice.delay, choice.dimension)
        clock = moments(states, theiler)
        distance = radius if radius is not None else _radius(states, clock, theiler, rate)
        pairs = _near_pairs(states.points, clock, theiler, distance)
        found.append((diagonal_lines(*pairs, clock).share(shortest), vertical_lines(*pairs, clock).share(shortest)))
    determinism, laminarity = np.mean(found, axis=0).tolist()
    return determinism, laminarity


def _about(choice: EmbeddingChoice) -> dict[str, Any]:
    return {
        "delay": choice.delay,
        "delay_rule": choice.delay_rule,
        "dimension": choice.dimension,
        "dimension_rule": choice.dimension_rule,
    }


def _possible_pairs(clock: Whole, theiler: int) -> int:
    """Return how many pairs of states are more than a Theiler window apart."""
    later = np.searchsorted(clock, clock + theiler, side="right")
    return int((len(clock) - later).sum())


def _radius(states: States, clock: Whole, theiler: int, rate: float) -> float:
    """Return the distance within which a share of all pairs lie, from all pairs or those of evenly spread states."""
    from scipy.spatial.distance import cdist

    rows = np.unique(np.linspace(0, len(clock) - 1, min(len(clock), 1000)).astype(np.int64))
    distances = cdist(states.points[rows], states.points)
    far = np.abs(clock[rows, None] - clock) > theiler
    return float(np.quantile(distances[far], rate))


def _near_pairs(points: Floats, clock: Whole, theiler: int, radius: float) -> tuple[Whole, Whole]:
    """Return the rows of all pairs within a radius, the earlier first, but for those that are near in time."""
    from scipy.spatial import KDTree

    tree = KDTree(points)
    n_pairs = (int(tree.count_neighbors(tree, radius)) - len(points)) // 2
    if n_pairs > _MOST_PAIRS:
        raise InputError(
            "so many recurrent pairs do not fit the memory",
            expected=f"at most {_MOST_PAIRS:,}",
            got=f"{n_pairs:,} pairs of {len(points):,} states",
            fix="take a smaller radius or rate, or every n-th sample",
        )
    pairs = np.sort(tree.query_pairs(radius, output_type="ndarray"), axis=1)
    pairs = pairs[clock[pairs[:, 1]] - clock[pairs[:, 0]] > theiler]
    return pairs[:, 0], pairs[:, 1]


def _dataset(
    given: Trajectories,
    states: States,
    pairs: tuple[Whole, Whole],
    clock: Whole,
    possible: int,
    shortest: int,
    chance: tuple[float, float],
) -> xr.Dataset:
    unit = "s" if given.sampling_rate else "samples"
    diagonals, verticals = diagonal_lines(*pairs, clock), vertical_lines(*pairs, clock)
    values = (
        len(pairs[0]) / possible,
        diagonals.share(shortest),
        diagonals.mean(shortest) * given.dt,
        diagonals.longest * given.dt,
        diagonals.entropy(shortest),
        verticals.share(shortest),
        verticals.mean(shortest) * given.dt,
        *chance,
    )
    data: dict[str, Any] = {
        name: ((), value, {"long_name": text, "units": units or unit})
        for (name, (text, units)), value in zip(_MEASURES.items(), values, strict=True)
    }
    longest = max(diagonals.longest, verticals.longest, 1)
    for name, lines in (("diagonal_lines", diagonals), ("vertical_lines", verticals)):
        data[name] = ("length", _padded(lines, longest), {"long_name": f"number of {name.replace('_', ' ')}"})
    data["first"] = ("pair", pairs[0].astype(np.int32))
    data["second"] = ("pair", pairs[1].astype(np.int32))
    coordinates = {
        "length": ("length", np.arange(1, longest + 1), {"units": "points"}),
        "trial": ("state", states.trial),
        "time": ("state", states.position * given.dt, {"units": unit}),
    }
    return xr.Dataset(data, coordinates)


def _padded(lines: Lines, longest: int) -> Whole:
    return np.pad(lines.counts, (0, longest + 1 - len(lines.counts)))[1:]
