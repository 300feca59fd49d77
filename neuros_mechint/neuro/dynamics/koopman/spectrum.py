"""The spectrum of a Koopman operator with what to believe of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Complexes, Floats
from neuros_mechint.core.errors import InputError, number
from neuros_mechint.core.figures.plotting import INK, MUTED_INK, PALETTE
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.standard_errors import t_reach
from neuros_mechint.neuro.dynamics.koopman.forecast import folds, squared_errors
from neuros_mechint.neuro.dynamics.koopman.pydmd_methods import ONE_TRIAL
from neuros_mechint.neuro.dynamics.koopman.uncertainty import FEWEST_TRIALS, standard_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from neuros_mechint.neuro.dynamics.koopman.operator import KoopmanOperator
    from neuros_mechint.neuro.dynamics.trajectories import Trajectories

_GRID, _REACH, _LARGEST_RANK_WITH_GRID = 41, 1.25, 64
_MOST_NAMED = 4
_MOST_RESIDUALS = 12
_PARALLEL = 1e8
_STEADY = 1e-6
_CITATIONS = {
    "dmd": ("schmid2010",),
    "hankel": ("schmid2010", "arbabi2017"),
    "edmd": ("williams2015",),
    "bopdmd": ("askham2018",),
    "dmdc": ("proctor2016",),
    "havok": ("brunton2017",),
    "least_squares": (),
    "total_least_squares": ("hemati2017",),
    "forward_backward": ("dawson2016",),
}


class KoopmanSpectrum(Result):
    """Eigenvalues of a Koopman operator, the strongest in the units first.

    ``data`` holds over ``mode``: ``eigenvalue_real`` and ``eigenvalue_imag`` per step, ``frequency``, ``decay_rate``,
    ``frequency_se`` and ``decay_rate_se``, their standard errors over trials (NaN with fewer than 8; what noise does to
    all trials alike is not in them), ``amplitude``, ``residual`` and whether it is ``confirmed``, which says no more
    than that the residual is at most the tolerance: how wrong the eigenfunction is over one step, on the data it was
    fitted to. An eigenvalue in a rich dictionary may be spurious with a residual of a few percent; look for the gap
    among all residuals, and at held-out R2. Over ``unit`` and ``mode``: ``mode_real`` and ``mode_imag``; over ``fold``
    and ``step``, the number of steps ahead: ``r2`` on held-out data against the mean of the fitted ones, and
    ``r2_no_change``, of the present state as prediction; and ``smallest_residual`` on a grid of the complex plane, for
    ranks of at most 64.
    """

    @property
    def eigenvalues(self) -> Complexes:
        """Complexes eigenvalues per step ``(n_modes,)``."""
        return self.data["eigenvalue_real"].values + 1j * self.data["eigenvalue_imag"].values

    @property
    def modes(self) -> Complexes:
        """Complexes modes ``(n_units, n_modes)``."""
        return self.data["mode_real"].values + 1j * self.data["mode_imag"].values

    @property
    def confirmed(self) -> npt.NDArray[np.bool_]:
        """Whether the residual of each is at most the tolerance, which is no proof that the system has it."""
        return self.data["confirmed"].values

    @property
    def r2(self) -> Floats:
        """Held-out R2 by number of steps ahead, averaged over folds ``(horizon,)``."""
        return self.data["r2"].mean("fold").values

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches: the plane is drawn to scale, with room for the legend beside it."""
        return 6.6, 3.8

    def _draw(self, ax: Axes) -> None:
        data, tolerance = self.data, self.attributes["tolerance"]
        if "smallest_residual" in data and data["smallest_residual"].min() <= tolerance:
            plane = data["smallest_residual"]
            ax.contourf(plane["real"], plane["imag"], plane, levels=[0, tolerance], colors=[PALETTE[0]], alpha=0.15)
            label = f"{tolerance:g}-pseudospectrum"
            ax.scatter([], [], 80, marker="s", color=PALETTE[0], alpha=0.15, label=label)
        angle = np.linspace(0, 2 * np.pi, 200)
        ax.plot(np.cos(angle), np.sin(angle), color=MUTED_INK, linewidth=0.8, label="neither grows nor decays")
        values, confirmed = self.eigenvalues, self.confirmed
        size = 20 + 60 * np.sqrt(data["amplitude"].values / (data["amplitude"].values.max() or 1.0))
        for chosen, face, label in (
            (confirmed, PALETTE[0], f"residual at most {tolerance:g}"),
            (~confirmed, "none", "larger residual"),
        ):
            if chosen.any():
                edge = PALETTE[0] if face != "none" else PALETTE[1]
                at = values[chosen]
                ax.scatter(at.real, at.imag, size[chosen], facecolor=face, edgecolor=edge, label=label, zorder=3)
        ax.axhline(0, color=INK, linewidth=0.5)
        ax.axvline(0, color=INK, linewidth=0.5)
        ax.set_aspect("equal")
        ax.set_xlabel("real part of eigenvalue (per step)")
        ax.set_ylabel("imaginary part")
        ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))

    def _summary_lines(self) -> list[str]:
        """Return what was found in words: which modes fit the data how well, and what they predict."""
        about, confirmed = self.attributes, self.confirmed
        trials = "1 trial" if about["n_trials"] == 1 else f"{about['n_trials']} trials"
        lines = [
            f"{about['method']}, rank {about['rank']} of {about['n_features']} observations, from {about['n_pairs']} "
            f"pairs of states in {trials}",
            f"{int(confirmed.sum())} of {confirmed.size} eigenvalues within tolerance: residual at most "
            f"{about['tolerance']:g}",
            self._residuals_in_words(),
        ]
        strong = [index for index in self._told() if self.eigenvalues[index].imag >= 0]
        lines += [f"- {self._in_words(index)}" for index in strong[:_MOST_NAMED]]
        if len(strong) > _MOST_NAMED:
            lines.append(f"- and {len(strong) - _MOST_NAMED} weaker ones (conjugates not counted)")
        if strong and not about["n_groups"]:
            lines.append(f"no errors of frequencies and decays: they need {FEWEST_TRIALS} trials at least")
        return [*lines, self._prediction_in_words()]

    def _told(self) -> npt.NDArray[np.intp]:
        """Return which modes to tell of: those within tolerance; where there are none, all, if they predict at all."""
        if self.confirmed.any():
            return np.flatnonzero(self.confirmed)
        predictable = _above_chance(self.data["r2"].isel(step=0).values)
        return np.arange(self.confirmed.size if predictable else 0)

    def _residuals_in_words(self) -> str:
        """Return all residuals, smallest first, or the ends where they are many."""
        found = self.data["residual"].values
        told = [f"{value:.2g}" for value in np.sort(found[np.isfinite(found)])]
        if not told:
            return "residuals are not known"
        if len(told) > _MOST_RESIDUALS:
            told = [*told[: _MOST_RESIDUALS // 2], "...", *told[-_MOST_RESIDUALS // 2 :]]
        return f"residuals: {', '.join(told)}; small ones may be spurious too, up to a gap among them"

    def _in_words(self, index: int) -> str:
        row = self.data.isel(mode=index)
        time, rate = self.attributes["time_unit"], row["decay_rate"].item()
        frequency = abs(row["frequency"].item())
        what = f"{frequency:.4g} {row['frequency'].attrs['units']}" if frequency else "no oscillation"
        if abs(rate) * self.attributes["dt"] < _STEADY:
            life = "neither grows nor decays"
        else:
            life = f"{'falls to 1/e' if rate > 0 else 'grows e-fold'} in {1 / abs(rate):.4g} {time}"
        sure = "" if row["confirmed"] else ", above the tolerance"
        told = f"{what}, {life}; amplitude {row['amplitude'].item():.3g}, residual {row['residual'].item():.2g}{sure}"
        return told + self._interval_in_words(row, frequency, rate)

    def _interval_in_words(self, row: xr.Dataset, frequency: float, rate: float) -> str:
        error, rate_error = row["frequency_se"].item(), row["decay_rate_se"].item()
        if not np.isfinite(rate_error):
            return ""
        reach = t_reach(1.0, self.attributes["n_groups"] - 1, 0.95)
        low, high = rate - reach * rate_error, rate + reach * rate_error
        told = []
        if max(abs(low), abs(high)) * self.attributes["dt"] > _STEADY:
            told.append(f"decay rate {low:.3g} to {high:.3g} {row['decay_rate'].attrs['units']}")
        if frequency:
            units = row["frequency"].attrs["units"]
            told.append(f"{frequency - reach * error:.4g} to {frequency + reach * error:.4g} {units}")
        return f"; 95% over trials: {', '.join(told)}" if told else ""

    def _prediction_in_words(self) -> str:
        r2, still = self.data["r2"], self.data["r2_no_change"]
        steps = [0] if r2.sizes["step"] == 1 else [0, r2.sizes["step"] - 1]
        parts = []
        for step in steps:
            values = r2.isel(step=step).values
            error = f" ± {values.std(ddof=1) / np.sqrt(values.size):.2g} (s.e.)" if values.size > 1 else ""
            ahead = "1 step" if step == 0 else f"{step + 1} steps"
            parts.append(
                f"{ahead} ahead {values.mean():.3f}{error}, no change {still.isel(step=step).mean().item():.3f}"
            )
        return f"held-out R2 ({self.attributes['held_out']}): " + "; ".join(parts)


def estimate_spectrum(
    fitted: KoopmanOperator,
    given: Trajectories,
    inputs: Sequence[Floats] | None,
    horizon: int,
    cv: int,
    tolerance: float,
    progress: bool,
) -> KoopmanSpectrum:
    """Return the spectrum of a fitted operator, with errors on held-out parts of its data.

    Parameters
    ----------
    fitted : KoopmanOperator
        To all of the data.
    given : Trajectories
    inputs : sequence of numpy.ndarray, optional
    horizon, cv, tolerance, progress
        See `KoopmanOperator.estimate`.

    Returns
    -------
    KoopmanSpectrum

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> trials = [np.exp(-0.1 * np.arange(12.0)) * size for size in (1, 2, 3)]
    >>> found = nm.KoopmanOperator().estimate(np.array(trials)[:, :, None])
    >>> print(found.summary())
    Koopman spectrum
    dmd, rank 1 of 1 observations, from 33 pairs of states in 3 trials
    1 of 1 eigenvalues within tolerance: residual at most 0.1
    residuals: ...; small ones may be spurious too, up to a gap among them
    - no oscillation, falls to 1/e in 10 steps; amplitude 1.44, residual ...
    no errors of frequencies and decays: they need 8 trials at least
    held-out R2 (3 folds of trials): 1 step ahead 1.000 ± ... (s.e.), no change 0.9...
    """
    tolerance = number("tolerance", tolerance, 0, 1)
    r2, still, held_out = _held_out(fitted, given, inputs, horizon, cv, progress)
    labelled = given.sampling_rate is not None
    time = "s" if labelled else ("steps" if fitted.dt is None else "units of time")
    rate = "Hz" if labelled else ("cycles per step" if fitted.dt is None else "cycles per unit of time")
    errors, n_groups = standard_errors(fitted, given.trials, inputs, progress)
    data = _modes(fitted, errors, tolerance, time, rate) | {
        "r2": (("fold", "step"), r2, {"units": "1", "long_name": "held-out R2"}),
        "r2_no_change": (("fold", "step"), still, {"units": "1", "long_name": "R2 of no change"}),
    }
    ahead = ("step", np.arange(1, r2.shape[1] + 1), {"units": "steps", "long_name": "time ahead"})
    coordinates: dict[str, Any] = {"step": ahead, "unit": _labels(given)}
    if fitted.rank_ <= _LARGEST_RANK_WITH_GRID:
        axis, plane = _grid(fitted, progress)
        about = {"units": "1", "long_name": "smallest residual"}
        data["smallest_residual"] = (("imag", "real"), plane, about)
        coordinates |= {"real": axis, "imag": axis}
    arguments = {"trajectories": given.joined(), "lengths": list(given.lengths), **fitted.get_params()}
    arguments |= {"horizon": horizon, "cv": cv, "tolerance": tolerance}
    if inputs is not None:
        arguments["inputs"] = np.concatenate(list(inputs))
    seed = arguments.pop("seed")
    return KoopmanSpectrum(
        xr.Dataset(data, coordinates),
        "Koopman spectrum",
        attributes={
            "method": fitted.method,
            "regression": fitted.regression,
            "rank": fitted.rank_,
            "n_features": fitted.n_features_,
            "delays": fitted.delays,
            "n_pairs": fitted.n_pairs_,
            "n_trials": len(given.trials),
            "n_groups": n_groups,
            "dt": fitted.dt_,
            "time_unit": time,
            "tolerance": tolerance,
            "held_out": held_out,
            "condition": fitted.condition_ if np.isfinite(fitted.condition_) else None,
        },
        provenance=Provenance.record(seed, arguments=arguments),
        citations=(*_CITATIONS[fitted.method], *_CITATIONS[fitted.regression], "colbrook2024"),
        warnings=(*fitted.doubts(), *_warnings(fitted, r2, still, tolerance)),
    )


def _held_out(
    fitted: KoopmanOperator,
    given: Trajectories,
    inputs: Sequence[Floats] | None,
    horizon: int,
    cv: int,
    progress: bool,
) -> tuple[Floats, Floats, str]:
    """Return R2 of the model and of no change, ``(n_folds, horizon)``, and what was held out."""
    delays, in_order = int(fitted.delays), fitted.method in ONE_TRIAL
    dealt = list(folds(given.lengths, cv, in_order))
    pieces = [len(given.trials[n][part]) for fold in dealt for n, part in (*fold.train, *fold.test)]
    if min(pieces) <= delays:
        raise InputError(
            "there is too little to hold any of it out",
            expected=f"stretches of at least {delays + 1} times; one trial is cut into {cv}",
            got=f"{min(pieces)} times in the shortest",
            fix="pass more trials, take fewer folds or delays, or use fit alone",
        )
    horizon = min(horizon, min(len(given.trials[n][part]) for fold in dealt for n, part in fold.test) - delays)
    r2, still = [], []
    for fold in progress_bar(dealt, description="held-out folds", enabled=progress):
        chosen = fold.train, fold.test
        train, test = (tuple(given.trials[n][part] for n, part in side) for side in chosen)
        driven = (None, None) if inputs is None else [tuple(inputs[n][part] for n, part in side) for side in chosen]
        model = fitted.refitted(train, driven[0])
        errors = squared_errors(model.model_, test, model.mean_, horizon, driven[1])
        total = np.where(errors.mean > 0, errors.mean, np.nan)
        r2.append(1 - errors.model / total)
        still.append(1 - errors.no_change / total)
    what = "the last stretch" if in_order else f"{len(dealt)} stretches of one trial"
    return np.array(r2), np.array(still), f"{len(dealt)} folds of trials" if len(given.trials) > 1 else what


def _modes(fitted: KoopmanOperator, errors: Floats, tolerance: float, time: str, rate: str) -> dict[str, Any]:
    """Return the variables over modes."""
    values, modes = fitted.eigenvalues_, fitted.modes_
    largest, per = np.finfo(float).max, f"1/({time})" if " " in time else f"1/{time.removesuffix('s') or 's'}"
    columns = {
        "eigenvalue_real": (values.real, "1", "real part of eigenvalue"),
        "eigenvalue_imag": (values.imag, "1", "imaginary part of eigenvalue"),
        "frequency": (fitted.frequencies_, rate, "frequency"),
        "decay_rate": (np.clip(fitted.decay_rates_, -largest, largest), per, "decay rate"),
        "decay_rate_se": (errors[0], per, "standard error of the decay rate"),
        "frequency_se": (errors[1], rate, "standard error of the frequency"),
        "amplitude": (fitted.amplitudes_, "units of the data", "amplitude"),
        "residual": (fitted.residuals_, "1", "residual"),
        "confirmed": (fitted.residuals_ <= tolerance, "1", "residual within tolerance"),
    }
    data: dict[str, Any] = {
        name: ("mode", array, {"units": units, "long_name": words}) for name, (array, units, words) in columns.items()
    }
    for name, part in (("real", modes.real), ("imag", modes.imag)):
        about = {"units": "units of the data", "long_name": f"mode, {name} part"}
        data[f"mode_{name}"] = (("unit", "mode"), part, about)
    return data


def _labels(given: Trajectories) -> Any:
    labels = np.array(given.units) if given.units is not None else np.arange(given.n_units)
    return labels if labels.ndim == 1 and labels.dtype.kind in "iufU" else np.arange(given.n_units)


def _grid(fitted: KoopmanOperator, progress: bool) -> tuple[Floats, Floats]:
    """Return an axis and the smallest residuals on a square around all eigenvalues, row by row."""
    reach = _REACH * max(1.0, float(np.abs(fitted.eigenvalues_).max()))
    axis = np.linspace(-reach, reach, _GRID)
    upper = axis[_GRID // 2 :]
    rows = progress_bar(upper, description="pseudospectrum", enabled=progress)
    found = np.array([fitted.pseudospectrum(axis + 1j * height) for height in rows])
    # real data: the lower half is the mirror image
    return axis, np.concatenate([found[:0:-1], found])


def _warnings(fitted: KoopmanOperator, r2: Floats, still: Floats, tolerance: float) -> list[str]:
    found = []
    predictable = _above_chance(r2[:, 0])
    if not predictable:
        found.append(
            "held-out states are predicted no better than by their mean: no predictable dynamics were found, whatever "
            "the eigenvalues"
        )
    elif not _above_chance((r2[:, 0] - still[:, 0]) / np.maximum(1 - still[:, 0], np.finfo(float).tiny)):
        found.append("held-out states are predicted no better than by no change at all")
    n_confirmed = int((fitted.residuals_ <= tolerance).sum())
    if predictable and n_confirmed < fitted.rank_ / 2:
        ways = ["rank='optimal' may leave out what is noise"] if fitted.rank is None else []
        if fitted.method in ("dmd", "hankel"):
            more = "method='hankel' with delays" if fitted.method == "dmd" else "more delays"
            ways.append(f"noise in the states is in every residual, and {more} (as long as a period, say) averages it")
            if (fitted.method, fitted.regression) == ("dmd", "least_squares"):
                ways.append("it also makes decays look faster, which no interval shows: see regression")
        fix = "".join(f"; {way}" for way in ways)
        found.append(
            f"{fitted.rank_ - n_confirmed} of {fitted.rank_} eigenvalues have a residual above the tolerance{fix}"
        )
    if fitted.condition_ > _PARALLEL:
        found.append(
            f"eigenvectors are almost parallel (condition number {fitted.condition_:.1g}): predictions hold, single "
            "modes and amplitudes mean little"
        )
    if np.abs(fitted.eigenvalues_).max() > 1 + tolerance:
        found.append("an eigenvalue is well outside of the unit circle: long predictions will grow without bound")
    return found


def _above_chance(values: Floats) -> bool:
    """Return whether values, one per fold, are above 0 by more than two standard errors."""
    error = values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 else 0.0
    return bool(values.mean() > 2 * error)
