"""Rotational dynamics of population activity (jPCA), with the surrogates that tell them from smoothness."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, number, whole
from neuros_mechint.core.parameters import Parameterised
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.p_values import p_of_draws
from neuros_mechint.neuro.dynamics.projections.rotation_results import Rotations, RotationTest
from neuros_mechint.neuro.dynamics.projections.skew import (
    fit_free,
    fit_skew,
    fresh_noise,
    rotation_planes,
    steps,
    turning_angle,
)
from neuros_mechint.neuro.dynamics.projections.tensor_entropy import maximum_entropy
from neuros_mechint.neuro.dynamics.projections.trials import stacked
from neuros_mechint.neuro.dynamics.trajectories import Trajectories, as_given, trajectories

_FEWEST_TIMES = 3
# of 100 runs of smooth noise with 3, 4, 5, 6, 8 and 10 conditions 90, 40, 15, 10, 2 and 4 had p of .05 and less
_FEWEST_TESTED = 8
_FEWEST_STEPS_PER_DIMENSION = 3
# of 24 autoregressions of 0 to .9, which have no noise in the measurement, at most .06
_MUCH_NOISE = 0.15
_MOST_NOISE = 0.5  # above, there may be far more than what is seen of it


class RotationalDynamics(Parameterised):
    r"""Find the planes in which population activity rotates (jPCA).

    Activity, its mean over conditions at each time subtracted, is reduced to principal components. Of all dynamics
    :math:`\dot x = M x` with :math:`M = -M^\top`, which only rotate, those that explain most of the changes are found
    in closed form, and beside them free linear dynamics. Their planes come in pairs of axes (jPCs), fastest first;
    activity turns from the first towards the second, and the first is the one along which conditions differ most at
    the first time. Changes are compared with the state half-way between two times, so that a rotation is recovered
    exactly whatever its angle per sample. Noise that is new in every sample lowers R² a lot and frequencies a little;
    at least how much is estimated (``noise_share``, ``frequency_loss`` of the result) and warned of.

    Parameters
    ----------
    n_components : int
        Principal components, an even number.
    subtract_mean : bool
        Subtract, at each time, the mean over conditions: what all conditions have in common is not found then.
    soft_normalization : float, optional
        Divide each unit by its range plus this number, in the unit of the activity (the paper: 5 spikes per second), so
        that strong units do not dominate. By default units stay as they are.

    Attributes
    ----------
    components_ : numpy.ndarray of shape (n_components, n_units)
        Orthonormal axes, two per plane.
    frequencies_ : numpy.ndarray of shape (n_components / 2,)
        In Hz where the sampling rate is known, else in cycles per sample.
    r2_skew_, r2_best_ : float
        Share of the squared changes that rotations and free linear dynamics explain in all components.
    mean_ : numpy.ndarray of shape (n_times, n_units) or (n_units,)
    scale_ : numpy.ndarray of shape (n_units,)
    result_ : Rotations
        All of it, with the fit in each plane and its share of the variance; ``result_.plot()`` draws the first plane.

    References
    ----------
    Churchland et al. 2012, Neural population dynamics during reaching, doi:10.1038/nature11129; Elsayed and
    Cunningham 2017, Structure in neural population recordings: an expected byproduct of simpler phenomena?,
    doi:10.1038/nn.4617

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> random = np.random.default_rng(0)
    >>> start, time = random.uniform(0, 2 * np.pi, 10), np.arange(40)
    >>> angle = start[:, None] + 2 * np.pi * 0.03 * time
    >>> plane = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    >>> activity = plane @ np.linalg.qr(random.normal(size=(20, 2)))[0].T
    >>> found = nm.RotationalDynamics(n_components=2).fit(activity)
    >>> bool(np.isclose(found.frequencies_[0], 0.03))
    True
    """

    def __init__(
        self, n_components: int = 6, subtract_mean: bool = True, soft_normalization: float | None = None
    ) -> None:
        self.n_components = n_components
        self.subtract_mean = subtract_mean
        self.soft_normalization = soft_normalization

    def fit(self, X: Any, y: object = None) -> RotationalDynamics:
        """Find the rotations of activity.

        Parameters
        ----------
        X : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of arrays
            ``(condition, time, unit)``, customarily averages over repetitions; all conditions have the same times.
        y : None
            Ignored; scikit-learn passes it.

        Raises
        ------
        InputError
            Values that are missing, activity that does not vary, one condition only where their mean is subtracted,
            conditions of different times, fewer than 3 times, or too few for so many components.
        OptionError
            An odd number of components, or more than the activity has.

        Warns
        -----
        UserWarning
            Where noise that is new in every sample makes 15% of the changes or more.
        """
        self._fit_result(X)
        for text in self.result_.warnings:
            warnings.warn(text, UserWarning, stacklevel=2)
        return self

    def estimate(self, X: Any) -> Rotations:
        """Fit and return planes, frequencies and fits as a result that says, draws and keeps them.

        Parameters
        ----------
        X : see `fit`

        Returns
        -------
        Rotations
            The same as ``fit(X).result_``, which tells what `fit` warns of; this object stays as it is.

        Raises
        ------
        InputError, OptionError
            As `fit`.
        """
        return RotationalDynamics(**self.get_params())._fit_result(X).result_

    def transform(self, X: Any) -> Any:
        """Return activity along the axes of the planes, in the form in which it comes.

        Returns
        -------
        numpy.ndarray, torch.Tensor or list of numpy.ndarray
            ``(condition, time, n_components)``
        """
        if not hasattr(self, "components_"):
            raise InputError("this RotationalDynamics is not fitted", fix="call fit(X) first")
        found = trajectories(X, name="X")
        if found.n_units != len(self.scale_):
            raise InputError("X has another number of units than in fit", expected=len(self.scale_), got=found.n_units)
        if self.subtract_mean and set(found.lengths) != {len(self.mean_)}:
            raise InputError(
                "X has other times than in fit, whose mean over conditions is subtracted",
                expected=f"{len(self.mean_)} times",
                got=f"{sorted(set(found.lengths))}",
            )
        return as_given([(trial / self.scale_ - self.mean_) @ self.components_.T for trial in found.trials], X)

    def fit_transform(self, X: Any, y: object = None) -> Any:
        """Fit and return activity along the axes of the planes."""
        return self.fit(X).transform(X)

    def test(self, X: Any, n_surrogates: int = 200, seed: SeedLike = 0, progress: bool = True) -> RotationTest:
        """Compare rotations with those of surrogates that have the covariances of the activity and nothing else.

        Activity that is smooth in time and has few dimensions looks rotational by itself. Surrogates are drawn from the
        distribution of largest entropy that has the means and the covariances across times, units and conditions of
        the activity, and are analysed as it is.

        Parameters
        ----------
        X : see `fit`
            At least 8 conditions: with fewer, smooth noise is called rotational too often.
        n_surrogates : int
        seed : int or numpy.random.Generator
        progress : bool
            Show a bar where it takes longer than two seconds.

        Returns
        -------
        RotationTest
            p is the share of surrogates, the activity counted as one, in which rotations explain as much.

        Raises
        ------
        InputError
            Fewer than 8 conditions, and what `fit` refuses.
        """
        n_surrogates, random = whole("n_surrogates", n_surrogates, 19), generator(seed)
        _, values = self._values(X, _FEWEST_TESTED)
        own = RotationalDynamics(**self.get_params())._fit(values)
        # what is subtracted from the activity is not to shape its surrogates
        normal = values / own.scale_ - own.mean_
        source = maximum_entropy(normal)
        plain = RotationalDynamics(self.n_components, self.subtract_mean)
        drawn = np.empty((n_surrogates, 2))
        for index in progress_bar(range(n_surrogates), description="surrogates", enabled=progress):
            plain._fit(source.draw(random))
            drawn[index] = plain.r2_skew_, plain.r2_skew_ / plain.r2_best_
        arguments = {"X": values, **self.get_params(), "n_surrogates": n_surrogates}
        return _test_result(own, drawn, Provenance.record(seed, arguments=arguments))

    def _values(self, x: Any, fewest: int | None = None) -> tuple[Trajectories, Floats]:
        """Return activity as an array ``(condition, time, unit)``."""
        check_option("subtract_mean", self.subtract_mean, (True, False))
        why = "with which smooth noise has small p rarely enough" if fewest else "for a mean over conditions"
        fewest = fewest or (2 if self.subtract_mean else 1)
        found = trajectories(x, _FEWEST_TIMES, fewest, "X", why)
        return found, stacked(found, "jPCA")

    def _fit_result(self, x: Any) -> RotationalDynamics:
        found, values = self._values(x)
        self._fit(values)
        self.frequencies_ = self._angles / (2 * np.pi * found.dt)
        self.result_ = self._result(values, found)
        return self

    def _fit(self, values: Floats) -> RotationalDynamics:
        ranges = np.ptp(values, axis=(0, 1))
        if not ranges.any():
            raise InputError("the activity does not vary", expected="units that change in time or over conditions")
        soft = self.soft_normalization
        self.scale_ = np.ones(len(ranges)) if soft is None else ranges + number("soft_normalization", soft, 0, np.inf)
        normal = values / self.scale_
        self.mean_ = normal.mean(0) if self.subtract_mean else normal.mean((0, 1))
        normal = normal - self.mean_
        axes, self._variances = self._principal(normal)
        states = normal @ axes.T
        given = steps(list(states))
        if not given.changes.any():
            raise InputError("the activity does not change in time", expected="conditions that move")
        skew, best = fit_skew(given), fit_free(given)
        self.r2_skew_, self.r2_best_ = given.explained(skew), given.explained(best)
        planes, self._angles = rotation_planes(skew)
        self._planes = np.stack([_aligned(plane, states[:, 0], axes) for plane in planes])
        self.components_ = self._planes.reshape(-1, len(axes)) @ axes
        self._steps = given
        return self

    def _principal(self, normal: Floats) -> tuple[Floats, Floats]:
        """Return the principal axes of activity around its mean, and the variances along all of them."""
        count = whole("n_components", self.n_components, 2)
        if count % 2:
            raise OptionError("n_components is odd", expected="an even number: planes have two axes", got=count)
        rows = normal.reshape(-1, normal.shape[-1])
        variances, axes = _principal_axes(rows)
        rank = int((variances > variances[0] * max(rows.shape) * np.finfo(float).eps).sum())
        if count > rank:
            raise OptionError(
                f"{count} components are more than the activity has",
                expected=f"at most {rank // 2 * 2}, even: its rank, without the mean over conditions, is {rank}",
                got=count,
            )
        n_steps = normal.shape[0] * (normal.shape[1] - 1)
        if n_steps < _FEWEST_STEPS_PER_DIMENSION * count:
            raise InputError(
                f"these are too few steps in time for {count} components",
                expected=f"at least {_FEWEST_STEPS_PER_DIMENSION * count}",
                got=f"{n_steps} in {normal.shape[0]} conditions",
            )
        return axes[:count], variances

    def _result(self, values: Floats, found: Trajectories) -> Rotations:
        within = [self._steps.within(plane) for plane in self._planes]
        fits = np.array([[one.explained(fit(one)) for fit in (fit_skew, fit_free)] for one in within])
        free = [turning_angle(fit_free(one)) / (2 * np.pi * found.dt) for one in within]
        projection = (values / self.scale_ - self.mean_) @ self.components_.T
        share = (projection**2).mean((0, 1)).reshape(-1, 2).sum(1) / self._variances.sum()
        noise = fresh_noise(list(projection))
        # both changes and states half-way hold two values of the noise
        noise_share = min(2 * noise * projection.shape[2] / (self._steps.changes**2).sum(1).mean(), 1.0)
        loss = [min(noise / 2 / (one.states**2).mean(), 1.0) for one in within]
        units = "cycles per sample" if found.sampling_rate is None else "Hz"
        data = xr.Dataset(
            {
                "frequency": ("plane", self.frequencies_, {"units": units, "long_name": "frequency of the rotation"}),
                "free_frequency": ("plane", free, {"units": units, "long_name": "frequency of free dynamics"}),
                "variance_share": ("plane", share, {"units": "1", "long_name": "share of the variance"}),
                "plane_r2_skew": ("plane", fits[:, 0], {"units": "1"}),
                "plane_r2_best": ("plane", fits[:, 1], {"units": "1"}),
                "r2_skew": ((), self.r2_skew_, {"units": "1"}),
                "r2_best": ((), self.r2_best_, {"units": "1"}),
                "noise_share": ((), noise_share, {"units": "1", "long_name": "share of noise in the changes"}),
                "frequency_loss": ("plane", loss, {"units": "1", "long_name": "share of the frequency lost to noise"}),
                "projection": (("trial", "time", "axis"), projection[..., :2], {"units": "activity"}),
            },
            {"plane": np.arange(1, len(fits) + 1), "time": np.arange(values.shape[1]) * found.dt},
        )
        return Rotations(
            data,
            "Rotational dynamics (jPCA)",
            attributes={**self.get_params(), "n_trials": values.shape[0], "n_times": values.shape[1]},
            provenance=Provenance.record(arguments={"X": values, **self.get_params()}),
            citations=("churchland2012",),
            warnings=_noise_warning(noise_share, loss, self.r2_skew_),
        )


def _noise_warning(noise_share: float, loss: list[float], r2: float) -> tuple[str, ...]:
    if noise_share < _MUCH_NOISE:
        return ()
    if noise_share > _MOST_NOISE:
        rest = "too little is left to say how much rotations explain of it"
    else:
        better = 100 * min(r2 / (1 - noise_share), 1)
        rest = f"of the rest rotations explain {better:.0f}% or more, not {100 * r2:.0f}%"
    return (
        f"noise that is new in every sample makes at least {100 * noise_share:.0f}% of the changes: {rest}; "
        f"frequencies are about {', '.join(f'{100 * one:.2g}%' for one in loss)} too low, or more; average more "
        "repetitions, or smooth",
    )


def _principal_axes(rows: Floats) -> tuple[Floats, Floats]:
    """Return variances, largest first, and axes ``(n_axes, n_units)``, from the smaller matrix of products."""
    if len(rows) >= rows.shape[1]:
        variances, axes = np.linalg.eigh(rows.T @ rows / len(rows))
        return variances[::-1], axes.T[::-1]
    variances, weights = np.linalg.eigh(rows @ rows.T / len(rows))
    axes = weights.T @ rows
    return variances[::-1], axes[::-1] / np.linalg.norm(axes[::-1], axis=1, keepdims=True).clip(np.finfo(float).tiny)


def _aligned(plane: Floats, starts: Floats, axes: Floats) -> Floats:
    """Return the two axes of a plane turned so that conditions differ most along the first at the first time."""
    main = np.linalg.svd(starts @ plane.T, full_matrices=False)[2][0]
    turned = np.array([main, [-main[1], main[0]]]) @ plane  # a turn keeps the sense of rotation
    weights = turned[0] @ axes
    return turned if weights[np.abs(weights).argmax()] > 0 else -turned


def _test_result(own: RotationalDynamics, drawn: Floats, provenance: Provenance) -> RotationTest:
    observed = np.array([own.r2_skew_, own.r2_skew_ / own.r2_best_])
    p = p_of_draws(observed, drawn)
    unitless = {"units": "1"}
    data = xr.Dataset(
        {
            "r2_skew": ((), observed[0], {**unitless, "long_name": "share of the changes that rotations explain"}),
            "p": ((), p[0], unitless),
            "r2_best": ((), own.r2_best_, unitless),
            "ratio": ((), observed[1], unitless),
            "ratio_p": ((), p[1], unitless),
            "surrogate_r2": ("surrogate", drawn[:, 0], unitless),
            "surrogate_ratio": ("surrogate", drawn[:, 1], unitless),
        }
    )
    return RotationTest(
        data,
        "Rotational dynamics beside surrogates",
        attributes={**own.get_params(), "n_surrogates": len(drawn)},
        provenance=provenance,
        citations=("churchland2012", "elsayed2017"),
    )
