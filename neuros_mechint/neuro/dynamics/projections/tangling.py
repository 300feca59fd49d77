"""Trajectory tangling: whether activity leads in different directions from nearly the same state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, number, whole
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.dynamics.trajectories import Trajectories, trajectories

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEWEST_TIMES = 4
_NUMBERS_AT_ONCE = 4_000_000
_MOST_LINES = 10
_HIGH = 90


class Tangling(Result):
    """How tangled trajectories are at each time.

    ``data`` holds over ``trial`` and ``time``: ``tangling``, with which time of which trial each is tangled most,
    ``with_trial`` and ``with_time``, counted from 0, and the ``distance`` of the two states in standard deviations of
    all states. At the first and the last time of a trial there is none (NaN, -1), nor after the end of short trials.
    """

    @property
    def values(self) -> Floats:
        """Tangling at all times of all trials but their ends ``(n_times,)``."""
        values = self.main.values.ravel()
        return values[np.isfinite(values)]

    def percentile(self, percent: float) -> float:
        """Return the tangling that so many percent of the times do not exceed."""
        return float(np.percentile(self.values, percent))

    def _draw(self, ax: Axes) -> None:
        time, values = self.data["time"].values, self.main.values
        if len(values) <= _MOST_LINES:
            for trial, row in enumerate(values):
                ax.plot(time, row, color=PALETTE[trial % len(PALETTE)], lw=1.2, label=f"trial {trial}")
            if len(values) > 1:
                ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
        else:
            ax.plot(time, values.T, color=MUTED_INK, lw=0.5, alpha=0.4)
            defined = np.isfinite(values).any(0)
            median = np.nanmedian(values[:, defined], axis=0)
            ax.plot(time[defined], median, color=PALETTE[0], label="median over trials")
            ax.legend(fontsize=8)
        ax.axhline(self.percentile(_HIGH), color=PALETTE[1], ls="--", lw=1)
        ax.annotate(f"{_HIGH}th percentile", (1, self.percentile(_HIGH)), xycoords=("axes fraction", "data"),
                    xytext=(-2, 2), textcoords="offset points", ha="right", color=PALETTE[1], fontsize=8)  # fmt: skip
        ax.set_ylim(bottom=0)
        ax.set_xlabel(f"time ({self.data['time'].attrs['units']})")
        ax.set_ylabel(f"tangling Q ({self.main.attrs['units']})")
        ax.grid(axis="y")

    def _summary_lines(self) -> list[str]:
        """Return how tangled trajectories are, and where most, in words."""
        about, data = self.attributes, self.data
        units, clock = self.main.attrs["units"], data["time"].attrs["units"]
        trial, time = np.unravel_index(int(np.nanargmax(self.main.values)), self.main.shape)
        other = int(data["with_trial"].values[trial, time]), int(data["with_time"].values[trial, time])
        apart = data["distance"].values[trial, time]
        state = "nearly the state" if apart**2 <= about["epsilon"] else f"{apart:.2g} standard deviations from that"
        return [
            f"tangling: median {self.percentile(50):.3g}, {_HIGH}th percentile {self.percentile(_HIGH):.3g} ({units})",
            f"highest, {self.main.values[trial, time]:.3g}, in trial {trial} at {data['time'].values[time]:.3g} "
            f"{clock}: {state} of trial {other[0]} at {data['time'].values[other[1]]:.3g} {clock}, but another "
            "direction",
            f"{about['n_trials']} trials in {about['n_dimensions']} dimensions, first and last times left out; "
            f"epsilon is {about['epsilon']:g} of the total variance",
            "tangling depends on noise, smoothing and sampling: compare only what was treated alike",
        ]


def trajectory_tangling(
    X: Any, n_components: int | None = None, epsilon: float = 0.1, progress: bool = True
) -> Tangling:
    r"""Return how tangled trajectories are: the smallest speed of change of the flow that could produce them.

    .. math:: Q(t) = \max_{t'} \frac{\|\dot x_t - \dot x_{t'}\|^2}{\|x_t - x_{t'}\|^2 + \varepsilon}

    where :math:`t'` runs over all times of all trials. Where states are alike and directions are not, Q is high: no
    smooth flow without inputs leads along such paths.

    Parameters
    ----------
    X : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of arrays
        ``(time, unit)``, ``(trial, time, unit)`` or a list of trials ``(time, unit)``. Derivatives are central
        differences within trials. The first and the last time of a trial have none and are left out: one-sided
        differences have 4 times the variance in noise (13 times, where they are of second order) and would make the
        ends the most tangled times.
    n_components : int, optional
        Reduce all trials together to so many principal components first (the paper: 8); all units by default.
    epsilon : float
        In total variances over all times and trials; the paper's is 0.1.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    Tangling
        In 1/s² where the sampling rate is known, else per squared sample.

    Raises
    ------
    InputError
        Values that are missing, trials of fewer than 4 times, or activity that does not vary.
    OptionError
        ``epsilon`` of 0 or less, or more components than units.

    References
    ----------
    Russo et al. 2018, Motor cortex embeds muscle-like commands in an untangled population response,
    doi:10.1016/j.neuron.2018.01.004

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> angle = 2 * np.pi * np.arange(200) / 200
    >>> circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    >>> eight = np.stack([np.cos(angle), np.sin(2 * angle)], axis=1)
    >>> nm.trajectory_tangling(eight).percentile(100) > 20 * nm.trajectory_tangling(circle).percentile(100)
    True
    """
    epsilon = number("epsilon", epsilon, 0, np.inf)
    found = trajectories(X, _FEWEST_TIMES, name="X", why="for derivatives")
    joined = found.joined()
    centred = joined - joined.mean(0)
    variance = float((centred**2).sum(1).mean())
    if all((trial == trial[0]).all() for trial in found.trials):
        raise InputError("the activity does not vary", expected="trajectories that move")
    trials = np.split(_reduced(centred, n_components), np.cumsum(found.lengths)[:-1])
    states = np.concatenate([trial[1:-1] for trial in trials])
    speeds = np.concatenate([(trial[2:] - trial[:-2]) / (2 * found.dt) for trial in trials])
    tangling, partner = _tangling(states, speeds, epsilon * variance, progress)
    distance = np.linalg.norm(states - states[partner], axis=1) / variance**0.5
    return Tangling(
        _dataset(found, tangling, partner, distance),
        "Trajectory tangling",
        attributes={"epsilon": epsilon, "n_trials": len(found.lengths), "n_dimensions": states.shape[1]},
        provenance=Provenance.record(arguments={"X": joined, "n_components": n_components, "epsilon": epsilon}),
        citations=("russo2018",),
    )


def _reduced(centred: Floats, n_components: int | None) -> Floats:
    if n_components is None:
        return centred
    count = whole("n_components", n_components)
    if count > centred.shape[1]:
        raise OptionError("n_components is too large", expected=f"at most {centred.shape[1]}, the units", got=count)
    return centred @ np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :count]


def _tangling(states: Floats, speeds: Floats, epsilon: float, progress: bool) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Return the tangling of each time and the time it is tangled with."""
    from scipy.spatial.distance import cdist

    tangling, partner = np.empty(len(states)), np.empty(len(states), dtype=np.intp)
    at_once = max(1, _NUMBERS_AT_ONCE // len(states))
    for start in progress_bar(range(0, len(states), at_once), description="pairs of times", enabled=progress):
        rows = slice(start, start + at_once)
        ratio = cdist(speeds[rows], speeds, "sqeuclidean") / (cdist(states[rows], states, "sqeuclidean") + epsilon)
        partner[rows], tangling[rows] = ratio.argmax(1), ratio.max(1)
    return tangling, partner


def _dataset(found: Trajectories, tangling: Floats, partner: npt.NDArray[np.intp], distance: Floats) -> xr.Dataset:
    lengths = np.array(found.lengths)
    trial = np.repeat(np.arange(len(lengths)), lengths - 2)
    time = np.concatenate([np.arange(1, length - 1) for length in lengths])
    shape = (len(lengths), int(lengths.max()))
    table, others = np.full((2, *shape), np.nan), np.full((2, *shape), -1)
    table[:, trial, time] = tangling, distance
    others[:, trial, time] = trial[partner], time[partner]
    clock = ("samples", "1/sample²") if found.sampling_rate is None else ("s", "1/s²")
    axes = ("trial", "time")
    return xr.Dataset(
        {
            "tangling": (axes, table[0], {"units": clock[1], "long_name": "tangling"}),
            "with_trial": (axes, others[0], {"long_name": "trial it is tangled with most"}),
            "with_time": (axes, others[1], {"long_name": "sample it is tangled with most"}),
            "distance": (axes, table[1], {"units": "standard deviations", "long_name": "distance of the two states"}),
        },
        {"time": ("time", np.arange(shape[1]) * found.dt, {"units": clock[0]})},
    )
