"""Slow feature analysis: the functions of activity that change least from one time to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats, with_one_sign
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.parameters import Parameterised
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, p_of_draws
from neuros_mechint.neuro.dynamics.trajectories import Trajectories, as_given, trajectories

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEWEST_TIMES = 3
_FEWEST_TIMES_PER_FEATURE = 2
_LITTLE_MEMORY = 0.2
# autoregressions of 1,000 samples, which have no noise, came to .24 of the change at most
_MUCH_NOISE = 0.3


class SlowFeatures(Result):
    """How slow the features of activity are, beside those of the same activity with its times shuffled.

    ``data`` holds over ``component``: ``frequency``, that of the sine which changes as much from sample to sample;
    ``delta``, the mean square of that change per unit of time; ``p`` of time without order; ``shuffled_low`` and
    ``shuffled_high``, between which 95% of the frequencies of shuffled activity lie; ``noise_share``, at least how much
    of the variance of each is noise that is new in every sample (NaN where there is too little memory to tell); and
    over ``unit``: ``unit_frequency``.
    """

    def _draw(self, ax: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        component = self.data["component"].values
        ax.fill_between(
            component, self.data["shuffled_low"], self.data["shuffled_high"], color=MUTED_INK, alpha=0.25, lw=0,
            label="95% of shuffled times",
        )  # fmt: skip
        ax.plot(component, self.main, "o-", color=PALETTE[0], label="slow features")
        slowest = float(self.data["unit_frequency"].min())
        ax.axhline(slowest, color=PALETTE[1], ls="--", label="slowest unit")
        ax.set_xlabel("feature, slowest first")
        ax.set_ylabel(f"equivalent frequency ({self.main.attrs['units']})")
        ax.set_ylim(bottom=0)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y")
        ax.legend()

    def _summary_lines(self) -> list[str]:
        """Return how slow the slowest is and how many are slower than chance, in words."""
        units, about = self.main.attrs["units"], self.attributes
        slow = int((self.data["p"] <= SIGNIFICANT).sum())
        slowest = float(self.data["unit_frequency"].min())
        return [
            f"the slowest feature changes like a sine of {float(self.main[0]):.3g} {units}; the slowest unit like one "
            f"of {slowest:.3g} {units}",
            f"{slow} of {self.main.size} features are slower than those of shuffled times (p <= {SIGNIFICANT:g} each, "
            f"{about['n_resamples']} shuffles; smallest p {float(self.data['p'].min()):.2g})",
            f"from {about['n_times']} times in {about['n_trials']} trials, {about['n_features']} functions of "
            f"{about['n_units']} units",
        ]


class SlowFeatureAnalysis(Parameterised):
    r"""Find the functions of activity that vary most slowly, of unit variance and uncorrelated with each other.

    Of all :math:`y = w^\top h(x)`, where :math:`h` holds the units and, for ``degree`` above 1, their products, those
    with the smallest :math:`\Delta = \langle \dot y^2 \rangle` are found in closed form. Changes are taken within
    trials, never across their boundaries. Noise that is new in every sample makes features faster: of variance
    :math:`s` in a feature of variance 1 it adds about :math:`2 s / dt^2` to :math:`\Delta`, which soon is most of it;
    `test` estimates that.

    Parameters
    ----------
    n_components : int, optional
        Slow features to keep; all by default.
    degree : int
        Of the polynomials of the units: 1 is linear, 2 adds squares and products of two units.

    Attributes
    ----------
    delta_ : numpy.ndarray of shape (n_components,)
        Mean square change per unit of time, slowest first.
    frequencies_ : numpy.ndarray of shape (n_components,)
        Of the sine that changes as much, in Hz where the sampling rate is known, else in cycles per sample.
    components_ : numpy.ndarray of shape (n_components, n_functions)
        Weights of the functions of the units, which are taken around their mean and in standard deviations.
    mean_, scale_ : numpy.ndarray of shape (n_units,)
    function_mean_ : numpy.ndarray of shape (n_functions,)

    References
    ----------
    Wiskott and Sejnowski 2002, Slow feature analysis: unsupervised learning of invariances,
    doi:10.1162/089976602317318938

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> time = np.arange(2000) / 1000
    >>> slow, fast = np.sin(2 * np.pi * time), np.cos(22 * np.pi * time)
    >>> mixed = np.stack([slow + fast**2, fast], axis=1)  # the example of the paper
    >>> feature = nm.SlowFeatureAnalysis(n_components=1, degree=2).fit(mixed).transform(mixed)
    >>> bool(np.isclose(abs(np.corrcoef(feature[:, 0], slow)[0, 1]), 1))
    True
    """

    def __init__(self, n_components: int | None = None, degree: int = 1) -> None:
        self.n_components = n_components
        self.degree = degree

    def fit(self, X: Any, y: object = None) -> SlowFeatureAnalysis:
        """Find the slow features of trajectories.

        Parameters
        ----------
        X : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of arrays
            ``(time, unit)``, ``(trial, time, unit)`` or a list of trials ``(time, unit)``.
        y : None
            Ignored; scikit-learn passes it.

        Raises
        ------
        InputError
            Values that are missing, activity that does not vary, trials of fewer than 3 times, or fewer than two
            times per function of the units.
        OptionError
            More components than the data have.
        """
        found = trajectories(X, least=_FEWEST_TIMES, name="X", why="for changes")
        white, self._whitening = self._whitened(found)
        self.delta_, turned = _slowest(white, found.dt)
        count = _count(self.n_components, len(self.delta_))
        weights = with_one_sign((self._whitening @ turned[:, :count]).T)
        self.components_, self.delta_ = weights, self.delta_[:count]
        self.frequencies_ = equivalent_frequency(self.delta_, found.dt)
        return self

    def transform(self, X: Any) -> Any:
        """Return the slow features of trajectories, in the form in which these come.

        Returns
        -------
        numpy.ndarray, torch.Tensor or list of numpy.ndarray
            ``(..., time, n_components)``
        """
        return as_given(self._features(trajectories(X, least=1, name="X")), X)

    def fit_transform(self, X: Any, y: object = None) -> Any:
        """Fit and return the slow features."""
        return self.fit(X).transform(X)

    def slowness(self, X: Any) -> Floats:
        """Return the mean square change per unit of time of each feature, at unit variance, in other data.

        Parameters
        ----------
        X : see `fit`
            Held-out trials: features that are slow only where they were fitted are fast here.

        Returns
        -------
        numpy.ndarray of shape (n_components,)
        """
        found = trajectories(X, least=_FEWEST_TIMES, name="X", why="for changes")
        return _slowness(Trajectories(tuple(self._features(found)), found.sampling_rate))

    def test(self, X: Any, n_resamples: int = 199, seed: SeedLike = 0, progress: bool = True) -> SlowFeatures:
        """Compare the slowest features with those of the same activity with its times shuffled.

        Times are shuffled for all units together: what they have in common stays, and their order goes. Features are
        fitted to each shuffle anew, so that their number costs nothing. Any activity with memory is slower than that;
        whether a feature is a good one, `slowness` of held-out trials says.

        Parameters
        ----------
        X : see `fit`
        n_resamples : int
            Shuffles.
        seed : int or numpy.random.Generator
        progress : bool
            Show a bar where it takes longer than two seconds.

        Returns
        -------
        SlowFeatures
        """
        n_resamples, random = whole("n_resamples", n_resamples, 19), generator(seed)
        found = trajectories(X, least=_FEWEST_TIMES, name="X", why="for changes")
        own = SlowFeatureAnalysis(self.n_components, self.degree).fit(found)
        white, _ = own._whitened(found)
        joined, ends = np.concatenate(white), np.cumsum(found.lengths)[:-1]
        drawn = np.empty((n_resamples, len(own.delta_)))
        for index in progress_bar(range(n_resamples), description="shuffles", enabled=progress):
            shuffled = np.split(joined[random.permutation(len(joined))], ends)
            drawn[index] = _slowest(shuffled, found.dt)[0][: drawn.shape[1]]
        return _result(own, found, drawn, seed, {"X": found.joined(), **self.get_params(), "n_resamples": n_resamples})

    def _whitened(self, found: Trajectories) -> tuple[list[Floats], Floats]:
        """Return functions of the units as uncorrelated ones of unit variance, and the matrix that does it."""
        joined = found.joined()
        self.mean_, self.scale_ = joined.mean(0), joined.std(0)
        constant = (joined == joined[0]).all(0)
        self.scale_[constant] = 1.0
        if all((trial == trial[0]).all() for trial in found.trials):
            raise InputError("the activity does not vary", expected="units that change in time")
        functions = self._functions(joined)
        if len(functions) < _FEWEST_TIMES_PER_FEATURE * functions.shape[1]:
            raise InputError(
                "these are too few times for so many functions of the units",
                expected=f"at least {_FEWEST_TIMES_PER_FEATURE} times for each",
                got=f"{len(functions)} times, {functions.shape[1]} functions",
                fix="pass longer trajectories, fewer units (their principal components) or a lower degree",
            )
        self.function_mean_ = functions.mean(0)
        left, sizes, axes = np.linalg.svd(functions - self.function_mean_, full_matrices=False)
        rank = int((sizes > sizes[0] * max(functions.shape) * np.finfo(float).eps).sum())
        if not rank:
            raise InputError("the activity does not vary", expected="units that change in time")
        root = len(functions) ** 0.5
        white = left[:, :rank] * root
        return np.split(white, np.cumsum(found.lengths)[:-1]), axes[:rank].T / sizes[:rank] * root

    def _functions(self, joined: Floats) -> Floats:
        """Return the units, and their products up to the degree."""
        from sklearn.preprocessing import PolynomialFeatures

        units = (joined - self.mean_) / self.scale_
        degree = whole("degree", self.degree)
        if degree == 1:
            return units
        return np.asarray(PolynomialFeatures(degree, include_bias=False).fit_transform(units))

    def _features(self, found: Trajectories) -> list[Floats]:
        if not hasattr(self, "components_"):
            raise InputError("this SlowFeatureAnalysis is not fitted", fix="call fit(X) first")
        if found.n_units != len(self.mean_):
            raise InputError("X has another number of units than in fit", expected=len(self.mean_), got=found.n_units)
        return [(self._functions(trial) - self.function_mean_) @ self.components_.T for trial in found.trials]


def _slowest(white: list[Floats], dt: float) -> tuple[Floats, Floats]:
    """Return the mean square changes of the slow features, slowest first, and their directions."""
    changes = np.concatenate([np.diff(trial, axis=0) for trial in white]) / dt
    return np.linalg.eigh(changes.T @ changes / len(changes))


def _slowness(found: Trajectories) -> Floats:
    before, after = found.pairs()
    return ((after - before) ** 2).mean(0) / found.dt**2 / found.joined().var(0)


def _count(n_components: int | None, rank: int) -> int:
    count = rank if n_components is None else whole("n_components", n_components)
    if count > rank:
        raise InputError(
            f"{count} components are more than these data have",
            expected=f"at most {rank}, the rank of the functions of the units",
            got=count,
        )
    return count


def equivalent_frequency(delta: Floats, dt: float) -> Floats:
    r"""Return the frequency of the sine that changes as much from sample to sample as a feature of unit variance.

    .. math:: \Delta \, dt^2 = 2 - 2 \cos(2 \pi f \, dt)

    Parameters
    ----------
    delta : numpy.ndarray
        Mean square change per unit of time.
    dt : float
        Time between samples.

    Returns
    -------
    numpy.ndarray
        White noise has a quarter of the sampling rate.

    Examples
    --------
    >>> equivalent_frequency(np.array([2.0]), 1.0).round(6).tolist()
    [0.25]
    """
    return np.arccos((1 - delta * dt**2 / 2).clip(-1, 1)) / (2 * np.pi * dt)


def _result(
    own: SlowFeatureAnalysis, found: Trajectories, drawn: Floats, seed: SeedLike, arguments: dict[str, Any]
) -> SlowFeatures:
    count = len(own.delta_)
    low, high = np.quantile(equivalent_frequency(drawn, found.dt), [0.025, 0.975], axis=0)
    p = p_of_draws(-own.delta_, -drawn)  # the less they change, the slower
    varies = found.joined().std(0) > 0
    noise = _noise_share(own._features(found))
    slowness = np.full(found.n_units, np.nan)
    slowness[varies] = _slowness(found._replace(trials=tuple(trial[:, varies] for trial in found.trials)))
    units = "cycles per sample" if found.sampling_rate is None else "Hz"
    data = xr.Dataset(
        {
            "frequency": ("component", own.frequencies_, {"units": units, "long_name": "equivalent frequency"}),
            "delta": ("component", own.delta_, {"units": "1/s^2" if units == "Hz" else "1/sample^2"}),
            "p": ("component", p, {"units": "1"}),
            "shuffled_low": ("component", low, {"units": units}),
            "shuffled_high": ("component", high, {"units": units}),
            "noise_share": ("component", noise, {"units": "1", "long_name": "share of noise in the variance"}),
            "unit_frequency": ("unit", equivalent_frequency(slowness, found.dt), {"units": units}),
        },
        {"component": np.arange(1, count + 1)},
    )
    return SlowFeatures(
        data,
        "Slow features",
        attributes={
            "degree": own.degree,
            "n_resamples": len(drawn),
            "n_times": sum(found.lengths),
            "n_trials": len(found.lengths),
            "n_units": found.n_units,
            "n_features": own.components_.shape[1],
        },
        provenance=Provenance.record(seed, arguments=arguments),
        citations=("wiskott2002",),
        warnings=_noise_warning(float(noise[0]), float(own.delta_[0]), found.dt, units),
    )


def _noise_share(features: list[Floats]) -> Floats:
    r"""Return at least how much of the variance of each feature is noise that is new at every time.

    Such noise is in the variance and not in the correlations :math:`r_1, r_2` with the next times, from which
    :math:`r_1^2 / r_2` is the share without it: exactly where memory fades exponentially, too much where the feature
    is smooth.
    """
    centre = np.concatenate(features).mean(0)
    around = Trajectories(tuple(trial - centre for trial in features))
    variance = (around.joined() ** 2).mean(0)
    next_one, later = (np.multiply(*around.pairs(lag)).mean(0) / variance for lag in (1, 2))
    known = later > _LITTLE_MEMORY
    share = 1 - next_one**2 / np.where(known, later, 1.0)
    return np.where(known, share.clip(0, 1), np.nan)


def _noise_warning(share: float, delta: float, dt: float, units: str) -> tuple[str, ...]:
    added = 2 * share / dt**2
    if not added > _MUCH_NOISE * delta:
        return ()
    without = equivalent_frequency(np.array(max(delta - added, 0.0) / (1 - share)), dt)
    return (
        f"noise that is new in every sample makes at least {100 * min(added / delta, 1):.0f}% of the change of the "
        f"slowest feature, though {100 * share:.2g}% of its variance: without it, it changes like a sine of at most "
        f"{without:.2g} {units}; smooth the activity to know",
    )
