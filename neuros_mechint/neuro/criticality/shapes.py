"""Shape collapse: whether long avalanches look like short ones, once stretched."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.figures.plotting import SEQUENTIAL
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.bootstrap import coverage, times_drawn
from neuros_mechint.neuro.criticality.avalanches import Avalanches
from neuros_mechint.neuro.criticality.crackling import check_avalanches

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEWEST_PER_CLASS = 20
_FEWEST_CLASSES = 3
_CLASSES_PER_OCTAVE = 2
_SHORTEST = 4
_RANGE = (0.0, 4.0)


class ShapeCollapse(Result):
    """Mean shapes of avalanches of several durations, rescaled so that they fall together as far as they can.

    ``data`` holds ``exponent`` (gamma) with ``low`` and ``high``; ``error``, how far the rescaled shapes still lie
    apart, and ``error_before``, how far they do without rescaling their height; and, over ``length`` (mean duration of
    a class) and ``phase``, the ``shape`` after rescaling; with ``n_avalanches`` of each class.
    """

    @property
    def exponent(self) -> float:
        """Growth of mean size with duration, from shapes alone."""
        return float(self.main)

    def _draw(self, ax: Axes) -> None:
        shapes = self.data["shape"]
        colours = SEQUENTIAL(np.linspace(0.35, 1, shapes.sizes["length"]))
        for colour, row in zip(colours, shapes.transpose("length", "phase"), strict=True):
            ax.plot(shapes["phase"], row, color=colour, label=f"{row['length'].item():.3g}")
        ax.set_ylim(bottom=0)
        ax.set_xlabel("phase (time / duration)")
        ax.set_ylabel(f"activity / duration^{self.exponent - 1:.2f}")
        ax.grid(axis="y")
        ax.legend(title="duration (bins)", loc="upper left", bbox_to_anchor=(1, 1))

    def _summary_lines(self) -> list[str]:
        """Return the exponent and how well shapes fall together."""
        of, about = self.data, self.attributes
        low, high, error, before = (of[name].item() for name in ("low", "high", "error", "error_before"))
        length = of["length"].values
        return [
            f"exponent {self.exponent:.3f}, {100 * about['level']:g}% interval {low:.3f} to {high:.3f}",
            f"{length.size} classes of durations from {length[0]:.3g} to {length[-1]:.3g} bins, "
            f"{int(of['n_avalanches'].sum())} avalanches",
            f"rescaled shapes lie apart by {100 * error:.1f}% of their mean ({100 * before:.1f}% before)",
        ]


class _Stretched(NamedTuple):
    """Avalanches stretched to one length, summed up over those of the same duration and class.

    Parameters
    ----------
    group : numpy.ndarray of shape (n_avalanches,)
        Which duration.
    profiles : numpy.ndarray of shape (n_avalanches, n_phases)
    durations, classes : numpy.ndarray of shape (n_groups,)
    phase : numpy.ndarray of shape (n_phases,)
    """

    group: npt.NDArray[np.int64]
    profiles: Floats
    durations: Floats
    classes: npt.NDArray[np.int64]
    phase: Floats


def shape_collapse(
    avalanches: Avalanches,
    shortest: int = 10,
    n_phases: int = 40,
    n_resamples: int = 200,
    level: float = 0.95,
    seed: SeedLike = 0,
    progress: bool = True,
) -> ShapeCollapse:
    r"""Return the exponent that makes shapes of avalanches of different durations fall together.

    At a critical point the mean activity in avalanches of duration :math:`T` is
    :math:`\langle a(t) \rangle_T = T^{\gamma - 1} F(t / T)`, with one function :math:`F` for all. Every avalanche is
    stretched to the same length and divided by :math:`T^{\gamma - 1}`; shapes are averaged in classes of durations
    (two per octave, with 20 avalanches or more); :math:`\gamma` makes the variance between classes, over the squared
    mean, averaged over phases, the smallest. Its root is the error.

    Parameters
    ----------
    avalanches : Avalanches
    shortest : int
        Shortest duration that is taken, in bins; at least 4. Short avalanches have not reached the scaling shape.
    n_phases : int
        Points along the rescaled time.
    n_resamples : int
        How often the avalanches of each class are drawn anew.
    level : float
        Coverage of the interval.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    ShapeCollapse

    Raises
    ------
    InputError
        No avalanches, or fewer than three classes of durations with 20 avalanches.

    References
    ----------
    Friedman et al. 2012, Universal Critical Dynamics in High Resolution Neuronal Avalanche Data,
    doi:10.1103/PhysRevLett.108.208102;
    Marshall et al. 2016, Analysis of Power Laws, Shape Collapses, and Neural Complexity, doi:10.3389/fphys.2016.00250

    Examples
    --------
    >>> from neuros_mechint.neuro.criticality.avalanches import detect_avalanches
    >>> from neuros_mechint.neuro.criticality.generators import branching_avalanches
    >>> found = shape_collapse(detect_avalanches(branching_avalanches(n_avalanches=3000, seed=1)), n_resamples=20)
    >>> 1.7 < found.exponent < 2.3
    True
    """
    check_avalanches(avalanches)
    shortest, n_phases = whole("shortest", shortest, _SHORTEST), whole("n_phases", n_phases, 10)
    n_resamples, level = whole("n_resamples", n_resamples, 10), coverage(level)
    stretched = _stretched(avalanches, shortest, n_phases)
    n_avalanches = len(stretched.group)
    sums, counts = _summed(stretched, np.ones(n_avalanches))
    exponent = _best(stretched, sums, counts)
    random, drawn = generator(seed), []
    members = [np.flatnonzero(stretched.classes[stretched.group] == one) for one in np.unique(stretched.classes)]
    for _ in progress_bar(range(n_resamples), description="shapes of avalanches drawn anew", enabled=progress):
        weights = np.zeros(n_avalanches)
        for inside in members:
            weights[inside] = times_drawn(inside.size, 1, random)[0]
        drawn.append(_best(stretched, *_summed(stretched, weights)))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return ShapeCollapse(
        _dataset(stretched, sums, counts, (exponent, low, high), avalanches.main.attrs["units"]),
        "Shape collapse",
        attributes={"level": level, "shortest": shortest, "n_resamples": n_resamples},
        provenance=Provenance.record(
            seed,
            arguments={
                "profiles": avalanches.data["profile"].values,
                "durations": avalanches.durations,
                "shortest": shortest,
                "n_phases": n_phases,
                "n_resamples": n_resamples,
            },
        ),
        citations=("friedman2012", "marshall2016"),
        warnings=_warnings(exponent),
    )


def _stretched(avalanches: Avalanches, shortest: int, n_phases: int) -> _Stretched:
    durations = avalanches.durations
    octave = np.floor(_CLASSES_PER_OCTAVE * np.log2(durations / shortest) + 1e-9).astype(int)
    enough = [one for one in np.unique(octave[durations >= shortest]) if (octave == one).sum() >= _FEWEST_PER_CLASS]
    if len(enough) < _FEWEST_CLASSES:
        raise InputError(
            "too few long avalanches for a collapse",
            expected=f"{_FEWEST_CLASSES} classes of durations with {_FEWEST_PER_CLASS} avalanches each",
            got=f"{len(enough)} such classes among {int((durations >= shortest).sum())} avalanches of {shortest} bins "
            "and more",
            fix="use more data or a smaller shortest",
        )
    kept = np.flatnonzero(np.isin(octave, enough))
    lengths, first, group = np.unique(durations[kept], return_index=True, return_inverse=True)
    # activity of a bin belongs to its middle: no phase lies beyond those of the shortest avalanche
    phase = np.linspace(0.5 / shortest, 1 - 0.5 / shortest, n_phases)
    shapes = avalanches.shapes
    profiles = np.empty((kept.size, n_phases))
    for row, index in enumerate(kept):
        length = durations[index]
        profiles[row] = np.interp(phase, (np.arange(length) + 0.5) / length, shapes[index])
    return _Stretched(group, profiles, lengths.astype(np.float64), octave[kept][first], phase)


def _summed(stretched: _Stretched, weights: Floats) -> tuple[Floats, Floats]:
    """Return sums of profiles and numbers of avalanches of each duration."""
    from scipy.sparse import coo_array

    n_groups = len(stretched.durations)
    rows = coo_array((weights, (stretched.group, np.arange(weights.size))), shape=(n_groups, weights.size)).tocsr()
    counts = np.bincount(stretched.group, weights, n_groups).astype(np.float64)
    return np.asarray(rows @ stretched.profiles), counts


def _collapsed(stretched: _Stretched, sums: Floats, counts: Floats, exponent: float) -> Floats:
    """Return the mean rescaled shape of each class ``(n_classes, n_phases)``."""
    scaled = sums * stretched.durations[:, None] ** (1 - exponent)
    return np.stack(
        [
            scaled[stretched.classes == one].sum(0) / counts[stretched.classes == one].sum()
            for one in np.unique(stretched.classes)
        ]
    )


def _spread(shapes: Floats) -> float:
    """Return the variance between shapes over their squared mean, averaged over phases."""
    return float(shapes.var(axis=0, ddof=1).mean() / shapes.mean() ** 2)


def _best(stretched: _Stretched, sums: Floats, counts: Floats) -> float:
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda exponent: _spread(_collapsed(stretched, sums, counts, exponent)), bounds=_RANGE, method="bounded"
    )
    return float(found.x)


def _dataset(
    stretched: _Stretched, sums: Floats, counts: Floats, exponents: tuple[float, float, float], units: str
) -> xr.Dataset:
    shapes = _collapsed(stretched, sums, counts, exponents[0])
    classes = np.unique(stretched.classes)
    number_in = np.array([counts[stretched.classes == one].sum() for one in classes])
    length = [
        np.average(stretched.durations[stretched.classes == one], weights=counts[stretched.classes == one])
        for one in classes
    ]
    errors = (_spread(shapes), _spread(_collapsed(stretched, sums, counts, 1.0)))
    names = ("exponent", "low", "high", "error", "error_before")
    values = (*exponents, *np.sqrt(errors))
    return xr.Dataset(
        {name: ((), float(value), {"units": "1"}) for name, value in zip(names, values, strict=True)}
        | {
            "shape": (("length", "phase"), shapes, {"long_name": "rescaled activity", "units": units}),
            "n_avalanches": ("length", number_in.astype(int), {"units": "1"}),
        },
        {
            "length": ("length", length, {"long_name": "mean duration", "units": "bins"}),
            "phase": ("phase", stretched.phase, {"long_name": "time / duration", "units": "1"}),
        },
    )


def _warnings(exponent: float) -> tuple[str, ...]:
    if min(exponent - _RANGE[0], _RANGE[1] - exponent) > 0.01:
        return ()
    return (f"the exponent lies at the border of what was tried, {_RANGE[0]:g} to {_RANGE[1]:g}: there is no collapse",)
