"""Curvature of trajectories: by how much each step turns from the one before, and the radius of the bend."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option, whole
from neuros_mechint.core.figures.plotting import INK, MUTED_INK, PALETTE
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.p_values import p_of_draws
from neuros_mechint.core.statistics.standard_errors import jackknife_error, t_reach
from neuros_mechint.neuro.dynamics.trajectories import trajectories

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEWEST_TIMES = 3
_FEWEST_REPEATS = 2
_FEWEST_FOR_INTERVAL = 3
_FEWEST_PERMUTATIONS = 19
_NOISY = 105.0
"""Degrees: above a right angle steps turn back, as they do where noise is as large as they are."""


class Curvature(Result):
    """How much trajectories turn.

    ``data`` holds ``mean_angle`` in degrees with ``low`` and ``high``, its ``p`` and, over ``permutation``,
    ``angle_in_random_order``; ``mean_curvature`` in 1 / units; and over ``trial`` and ``time``: ``angle`` and
    ``curvature`` at each time but the first and the last (NaN where the trial has ended, or does not move).
    """

    @property
    def angle(self) -> float:
        """Mean angle between successive steps in degrees: 0 where straight, 90 for a random walk, 120 for noise."""
        return float(self.main)

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of its interval over trials or repeats; NaN with fewer than three."""
        return float(self.data["low"]), float(self.data["high"])

    @property
    def curvature(self) -> float:
        """Mean of 1 / radius of the circle through each three successive states."""
        return float(self.data["mean_curvature"])

    @property
    def p(self) -> float:
        """The p of a mean angle as far from that of steps in random order."""
        return float(self.data["p"])

    def _draw(self, ax: Axes) -> None:
        angles = self.data["angle"]
        times = angles["time"].values
        for colour, values in zip(PALETTE * angles.sizes["trial"], angles.values, strict=False):
            ax.plot(times, values, color=colour, lw=0.8, alpha=0.7 if angles.sizes["trial"] < 8 else 0.25)
        ax.axhline(self.angle, color=INK, lw=1.6, label=f"mean {self.angle:.3g}°")
        drawn = self.data["angle_in_random_order"].values
        ax.axhspan(*np.quantile(drawn, [0.025, 0.975]), color=MUTED_INK, alpha=0.3, lw=0, label="steps in random order")
        ax.set_ylim(0, 180)
        ax.set_yticks([0, 45, 90, 120, 180])
        ax.set_xlabel(f"time ({angles['time'].attrs['units']})")
        ax.set_ylabel("angle between steps (degrees)")
        ax.legend(fontsize=8)

    def _summary_lines(self) -> list[str]:
        """Return angle, curvature and null in words."""
        low, high = self.interval
        about, drawn = self.attributes, self.data["angle_in_random_order"].values
        what = "repeats, products of different ones only" if about["repeats"] else "trials"
        known = f", {100 * about['level']:g}% interval {low:.3g} to {high:.3g}" if np.isfinite(low) else ""
        return [
            f"successive steps turn by {self.angle:.3g} degrees{known}",
            f"steps in random order: {drawn.mean():.3g} (p = {self.p:.2g}, {len(drawn)} times)",
            f"curvature {self.curvature:.3g} per unit of the data: bends of radius {1 / self.curvature:.3g}"
            if self.curvature > 0
            else "no bends",
            f"{about['n_trials']} {what}",
        ]


class _Turns(NamedTuple):
    """Dot products of steps, in which noise cancels where repeats are crossed."""

    between: Floats
    first: Floats
    second: Floats
    chord: Floats

    def cosines(self) -> Floats:
        """Return the cosine of each turn, NaN where nothing moves."""
        lengths = np.sqrt(self.first.clip(0) * self.second.clip(0))
        out = np.full(self.between.shape, np.nan)
        return np.divide(self.between, lengths, out=out, where=lengths > 0).clip(-1, 1)

    def curvatures(self) -> Floats:
        """Return 1 / radius of the circle through three states: twice the sine of the turn by the chord."""
        chord = np.sqrt(self.chord.clip(0))
        sine = np.sqrt(1 - self.cosines() ** 2)
        return np.divide(2 * sine, chord, out=np.full(chord.shape, np.nan), where=chord > 0)

    def mean_cosine(self) -> float:
        """Return the cosine of all turns together; products are summed before noise meets a root or a ratio."""
        length = self.first.sum() * self.second.sum()
        return float(self.between.sum() / np.sqrt(length)) if length > 0 and self.first.sum() > 0 else np.nan

    def mean_curvature(self) -> float:
        """Return the curvature of all turns together."""
        sine, chord = np.sqrt(1 - np.clip(self.mean_cosine(), -1, 1) ** 2), self.chord.mean()
        return float(2 * sine / np.sqrt(chord)) if chord > 0 else np.nan


def curvature(
    X: Any,
    repeats: bool = False,
    n_permutations: int = 99,
    level: float = 0.95,
    seed: SeedLike = 0,
) -> Curvature:
    r"""Return by how much trajectories turn from step to step.

    Between successive steps :math:`v_t = x_{t+1} - x_t` lies the angle :math:`\theta_t`; through three successive
    states goes a circle of curvature :math:`2 \sin \theta_t / \|x_{t+1} - x_{t-1}\|`, which tends to Frenet's
    curvature as steps become short.

    Parameters
    ----------
    X : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of arrays
        ``(time, unit)``, ``(trial, time, unit)`` or a list of trials, in equal steps of time.
    repeats : bool
        Whether trials repeat one trajectory and differ by noise. Then only products of different repeats count, in
        which independent noise cancels: without repeats it bends what is straight, up to 120 degrees.
    n_permutations : int
        How often the steps of each trial are put in random order, at least 19.
    level : float
        Coverage of the interval: over trials, or jackknifed over repeats.
    seed : int or numpy.random.Generator

    Returns
    -------
    Curvature
        With ``.angle`` in degrees, ``.interval``, ``.p`` and ``.curvature``.

    Raises
    ------
    InputError
        Fewer than three times, values that are missing, states that never move, or repeats that are fewer than two or
        differ in length.

    References
    ----------
    Hénaff, Goris and Simoncelli 2019, Perceptual straightening of natural videos, doi:10.1038/s41593-019-0377-4

    Examples
    --------
    >>> angle = np.linspace(0, 2 * np.pi, 37)
    >>> circle = 5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    >>> found = curvature(circle)
    >>> round(found.angle, 6), round(found.curvature, 6)  # 36 steps round a circle of radius 5
    (10.0, 0.2)
    """
    check_option("repeats", repeats, (True, False))
    level, random = coverage(level), generator(seed)
    n_permutations = whole("n_permutations", n_permutations, _FEWEST_PERMUTATIONS)
    given = trajectories(X, _FEWEST_TIMES, _FEWEST_REPEATS if repeats else 1, name="X", why="to cross them")
    steps = [np.diff(trial, axis=0) for trial in given.trials]
    if not any(step.any() for step in steps):
        raise InputError("nothing moves", expected="states that change", got="the same state at all times")
    crossed = _crossed_steps(steps) if repeats else None
    turns = [_turns(crossed, crossed=True)] if crossed is not None else [_turns(step[None]) for step in steps]
    mean, low, high = _mean(turns, crossed, level)
    drawn = np.array([_in_random_order(steps, crossed, random) for _ in range(n_permutations)])
    drawn = drawn[np.isfinite(drawn)]  # where pauses part all steps nothing turns
    expected = np.append(drawn, mean).mean()  # of all alike, so that p is exact
    p = p_of_draws(abs(mean - expected), np.abs(drawn - expected)).item()
    bends = np.concatenate([turn.curvatures() for turn in turns])
    bend = turns[0].mean_curvature() if repeats else float(np.nanmean(bends))
    cautions = _cautions(mean, repeats)
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    arguments = {"X": X, "repeats": repeats, "n_permutations": n_permutations, "level": level}
    return Curvature(
        _dataset(turns, (mean, low, high), bend, p, drawn, given.dt),
        "Curvature of trajectories",
        attributes={"level": level, "repeats": bool(repeats), "n_trials": len(steps), "n_units": given.n_units},
        provenance=Provenance.record(seed, arguments=arguments),
        citations=("henaff2019",),
        warnings=cautions,
    )


def _crossed_steps(steps: list[Floats]) -> Floats:
    lengths = sorted({len(step) for step in steps})
    if len(lengths) > 1:
        raise InputError(
            "repeats differ in length",
            expected="the same times in each",
            got=f"{[length + 1 for length in lengths]} times",
            fix="cut them to the times that all have",
        )
    return np.stack(steps)


def _turns(steps: Floats, crossed: bool = False) -> _Turns:
    """Return the products of steps ``(n_repeats, n_steps, n_units)``, of the same repeat or of different ones only."""
    first, second = steps[:, :-1], steps[:, 1:]
    n_repeats = len(steps)

    def product(one: Floats, other: Floats) -> Floats:
        within = (one * other).sum(-1)
        if not crossed:
            return within.mean(0)
        return ((one.sum(0) * other.sum(0)).sum(-1) - within.sum(0)) / (n_repeats * (n_repeats - 1))

    chord = first + second
    return _Turns(product(first, second), product(first, first), product(second, second), product(chord, chord))


def _mean(turns: list[_Turns], crossed: Floats | None, level: float) -> tuple[float, float, float]:
    """Return the mean angle and the ends of its interval; NaN where too few trials or repeats say nothing of it."""
    if crossed is None:
        each = np.array([_plain_mean(turn) for turn in turns])
        each = each[np.isfinite(each)]
        if not len(each):
            raise InputError(
                "no two successive steps move, so that nothing turns",
                expected="states that change from each time to the next",
                got="a pause before or after every step",
                fix="take every few samples only",
            )
        mean, reach = float(each.mean()), np.nan
        if len(each) >= _FEWEST_FOR_INTERVAL:
            reach = t_reach(float(each.std(ddof=1)) / len(each) ** 0.5, len(each) - 1, level)
        return mean, float(np.clip(mean - reach, 0, 180)), float(np.clip(mean + reach, 0, 180))
    cosine, n_repeats, reach = turns[0].mean_cosine(), len(crossed), np.nan
    if not np.isfinite(cosine):
        raise InputError(
            "repeats have no steps in common: noise is all there is",
            expected="steps that correlate between repeats",
            fix="pass more repeats, or longer steps",
        )
    if n_repeats >= _FEWEST_FOR_INTERVAL:
        without = [_turns(np.delete(crossed, one, axis=0), crossed=True).mean_cosine() for one in range(n_repeats)]
        reach = t_reach(float(jackknife_error(without)), n_repeats - 1, level)
    return _degrees(cosine), _degrees(cosine + reach), _degrees(cosine - reach)


def _degrees(cosine: float) -> float:
    """Return an angle; noise may take a cosine a little beyond 1."""
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _plain_mean(turn: _Turns) -> float:
    angles = np.degrees(np.arccos(turn.cosines()))
    return float(np.nanmean(angles)) if np.isfinite(angles).any() else np.nan


def _in_random_order(steps: list[Floats], crossed: Floats | None, random: np.random.Generator) -> float:
    if crossed is not None:
        return _degrees(_turns(crossed[:, random.permutation(crossed.shape[1])], crossed=True).mean_cosine())
    means = np.array([_plain_mean(_turns(step[random.permutation(len(step))][None])) for step in steps])
    return float(np.nanmean(means)) if np.isfinite(means).any() else np.nan


def _cautions(mean: float, repeats: bool) -> tuple[str, ...]:
    if mean < _NOISY or repeats:
        return ()
    # without the angle, so that Python shows it once in a loop over networks
    return (
        f"steps turn back, by more than {_NOISY:.0f} degrees on average: noise does so (120 where there is nothing "
        "else), and hides the bends; take longer steps, average trials, or pass repeats of one trajectory with "
        "repeats=True",
    )


def _dataset(
    turns: list[_Turns], mean: tuple[float, float, float], bend: float, p: float, drawn: Floats, dt: float
) -> xr.Dataset:
    longest = max(len(turn.between) for turn in turns)
    angles, bends = np.full((2, len(turns), longest), np.nan)
    for row, turn in enumerate(turns):
        angles[row, : len(turn.between)] = np.degrees(np.arccos(turn.cosines()))
        bends[row, : len(turn.between)] = turn.curvatures()
    unit = {"units": "degrees"}
    times = (np.arange(longest) + 1) * dt
    return xr.Dataset(
        {
            "mean_angle": ((), mean[0], {"long_name": "mean angle between steps", **unit}),
            "low": ((), mean[1], unit),
            "high": ((), mean[2], unit),
            "p": ((), p, {"long_name": "p against steps in random order"}),
            "mean_curvature": ((), bend, {"long_name": "mean curvature", "units": "1 / units of the data"}),
            "angle_in_random_order": ("permutation", drawn, {"long_name": "mean angle in random order", **unit}),
            "angle": (("trial", "time"), angles, {"long_name": "angle between steps", **unit}),
            "curvature": (("trial", "time"), bends, {"long_name": "curvature", "units": "1 / units of the data"}),
        },
        coords={"time": ("time", times, {"units": "samples" if dt == 1 else "s"})},
    )
