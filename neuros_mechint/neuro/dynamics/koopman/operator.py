"""KoopmanOperator: one linear operator for trajectories of any system."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.arrays import Complexes, Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, number, whole
from neuros_mechint.core.parameters import Parameterised
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.dynamics.embedding.delays import delay_vectors
from neuros_mechint.neuro.dynamics.koopman import pydmd_methods
from neuros_mechint.neuro.dynamics.koopman.decomposition import decompose, smallest_residuals
from neuros_mechint.neuro.dynamics.koopman.fitting import FitSettings, fit_model
from neuros_mechint.neuro.dynamics.koopman.forecast import squared_errors
from neuros_mechint.neuro.dynamics.koopman.observables import (
    Observables,
    check_observables,
    make_dictionary,
)
from neuros_mechint.neuro.dynamics.koopman.regression import (
    OPTIMAL,
    REGRESSIONS,
    optimal_rank,
)
from neuros_mechint.neuro.dynamics.koopman.spectrum import KoopmanSpectrum, estimate_spectrum
from neuros_mechint.neuro.dynamics.trajectories import Trajectories, as_given, trajectories

METHODS = ("dmd", "hankel", "edmd", *pydmd_methods.METHODS)
_UNEQUAL = 1e5
_MOSTLY_MEAN = 0.9


class KoopmanOperator(Parameterised):
    r"""The linear operator that takes functions of the state one step on, from recorded or simulated trajectories.

    However nonlinear a system is, functions of its state evolve linearly, and its slow, oscillating and conserved
    quantities are eigenfunctions: :math:`\varphi(x_{t+1}) = \lambda \varphi(x_t)`. Eigenvalues give frequencies and
    decay rates, modes say in which units each shows. Pairs of states are taken within trials only, so that trials of
    any length make one operator. States are taken as they are: of a system that rests elsewhere than at 0, such as
    counts of spikes, subtract the mean first, or the mean is what is found.

    Parameters
    ----------
    method : {"dmd", "hankel", "edmd", "bopdmd", "dmdc", "havok"}
        Which functions of the state are used. ``dmd``: the units; ``hankel``: the last ``delays`` times of the units;
        ``edmd``: a dictionary of these. Through PyDMD, with the extra ``koopman``: ``bopdmd`` fits exponentials to one
        trial by variable projection; ``dmdc`` takes known inputs into account; ``havok`` explains one chaotic trial by
        linear dynamics with an intermittent forcing.
    rank : int, "optimal" or None
        How many principal directions of the observations are kept. None: all of more than 1e-10 of the largest
        singular value. ``"optimal"``: those above the threshold of Gavish and Donoho, best for low rank in white noise.
    delays : int
        Times in one observation, the present one included.
    dictionary : {"polynomial", "rbf"} or callable, optional
        For ``edmd``, ``"polynomial"`` unless given: all products up to ``degree`` of the standardised states, or
        ``n_centers`` thin-plate splines besides 1 and the states, or any function from states ``(n, n_units * delays)``
        to ``(n, n_features)``. Columns are scaled to unit mean square before the rank is chosen.
    degree : int
        Of the polynomials.
    n_centers : int
        Of the splines, at means of clusters of the data.
    regression : {"least_squares", "total_least_squares", "forward_backward"}
        For the first three methods. Noise in the states pulls eigenvalues of ``least_squares`` towards 0; the others
        correct for that, see `neuros_mechint.neuro.dynamics.koopman.regression.reduced_operator`. Give a rank too:
        directions of nothing but noise cannot be corrected.
    dt : float, optional
        Time between two states. Without it, of labelled data by their sampling rate, in seconds; otherwise 1.
    seed : int or numpy.random.Generator
        For the centres of the splines.

    Attributes
    ----------
    eigenvalues_ : numpy.ndarray of shape (n_modes,)
        Complexes, per step; the strongest in the units first.
    continuous_eigenvalues_ : numpy.ndarray of shape (n_modes,)
        ``log(eigenvalues_) / dt``: growth rate, and angular frequency times i.
    frequencies_, decay_rates_ : numpy.ndarray of shape (n_modes,)
        In cycles, and in units of 1 / e, per unit of time.
    modes_ : numpy.ndarray of shape (n_units, n_modes)
        Complexes: the states are eigenfunctions times modes, summed up.
    amplitudes_ : numpy.ndarray of shape (n_modes,)
        Root mean square of what each mode adds to the states, over all units.
    residuals_ : numpy.ndarray of shape (n_modes,)
        How far each is from an eigenfunction in the data: 0 for a true one, about 1 for one that cannot be predicted;
        NaN where there are no more pairs than coefficients.
    singular_values_ : numpy.ndarray
        From which the rank was chosen.
    rank_, n_pairs_, n_features_ : int
    condition_ : float
        Condition number of the eigenvectors; where it is large, single modes mean little.
    model_ : LinearModel
        The operator as real matrices.
    mean_, scale_ : numpy.ndarray of shape (n_units,)
    dt_ : float

    References
    ----------
    Schmid 2010, Dynamic mode decomposition of numerical and experimental data, doi:10.1017/S0022112010001217; Arbabi
    and Mezic 2017, Ergodic theory, dynamic mode decomposition, and computation of spectral properties of the Koopman
    operator, doi:10.1137/17M1125236; Williams, Kevrekidis and Rowley 2015, A data-driven approximation of the Koopman
    operator: extending dynamic mode decomposition, doi:10.1007/s00332-015-9258-5

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> time = np.arange(200) * 0.05
    >>> wave = np.exp(-0.1 * time) * np.cos(2 * np.pi * time)  # 1 Hz, decaying by 0.1 per second
    >>> koopman = nm.KoopmanOperator("hankel", delays=10, dt=0.05).fit(wave)
    >>> koopman.frequencies_.round(6).tolist(), koopman.decay_rates_.round(6).tolist()
    ([1.0, -1.0], [0.1, 0.1])
    >>> bool(abs(koopman.predict(wave[:100], 5)[:, 0] - wave[100:105]).max() < 1e-9)
    True
    """

    def __init__(
        self,
        method: str = "dmd",
        rank: int | str | None = None,
        delays: int = 1,
        dictionary: Any = None,
        degree: int = 2,
        n_centers: int = 100,
        regression: str = "least_squares",
        dt: float | None = None,
        seed: SeedLike = 0,
    ) -> None:
        self.method = method
        self.rank = rank
        self.delays = delays
        self.dictionary = dictionary
        self.degree = degree
        self.n_centers = n_centers
        self.regression = regression
        self.dt = dt
        self.seed = seed

    def fit(self, trajectories: Any, inputs: Any = None) -> KoopmanOperator:
        """Find the operator.

        Parameters
        ----------
        trajectories : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of arrays
            ``(time,)``, ``(time, unit)``, ``(trial, time, unit)`` or a list of trials ``(time, unit)``, which may
            differ in length; see `neuros_mechint.neuro.dynamics.trajectories.trajectories`.
        inputs : as trajectories, optional
            For ``dmdc``: what drove the system, at the same times.

        Returns
        -------
        KoopmanOperator

        Raises
        ------
        InputError
            Trials shorter than ``delays + 1``, values that are missing or do not vary, a rank above that of the data,
            or inputs of other lengths.
        OptionError
            Unknown options, or such as do not go together.
        MissingDependencyError
            A method of PyDMD without PyDMD.

        Warns
        -----
        UserWarning
            Where nothing stands out of noise, residuals are not known, or a regression can have no effect.
        """
        given = self._given(trajectories)
        driven = self._inputs(inputs, given)
        self._fit(given.trials, driven, self._time_step(given))
        for text in self.doubts():
            warnings.warn(text, UserWarning, stacklevel=2)
        return self

    def transform(self, trajectories: Any) -> Any:
        """Return the eigenfunctions along trajectories, of unit mean square over the data of the fit.

        Parameters
        ----------
        trajectories
            As for `fit`.

        Returns
        -------
        numpy.ndarray of shape (n_times - delays + 1, n_modes), or (n_trials, ...); of a list of trials, a list
            Complex.
        """
        given = self._seen(trajectories)
        values = [self.model_.observables(trial) @ self._weights for trial in given.trials]
        return as_given(values, trajectories, tensors=False)

    def predict(self, trajectories: Any, n_steps: int, inputs: Any = None) -> Any:
        """Return the states that follow each trial.

        Parameters
        ----------
        trajectories
            As for `fit`; of each trial the last ``delays`` times are used. One state ``(n_units,)`` will do without
            delays.
        n_steps : int
        inputs : array of shape (n_steps, n_inputs) or (trial, n_steps, n_inputs), or a list of such, optional
            For ``dmdc``, from the last time of each trial on.

        Returns
        -------
        numpy.ndarray of shape (n_steps, n_units) or (n_trials, n_steps, n_units); of a list of trials, a list

        Raises
        ------
        InputError
            Other units than in the fit, trials too short, or a prediction that grows beyond all numbers.
        """
        self._require_fit()
        n_units = len(self.mean_)
        if np.ndim(trajectories) == 1 and n_units > 1 and np.shape(trajectories) == (n_units,):
            trajectories = np.asarray(trajectories)[None]
        given, n_steps = self._seen(trajectories), whole("n_steps", n_steps)
        driven = self._inputs(inputs, given, n_steps)
        states = [
            self.model_.predict(trial, n_steps, None if driven is None else driven[index])
            for index, trial in enumerate(given.trials)
        ]
        return as_given(states, trajectories, tensors=False)

    def score(self, trajectories: Any, horizon: int = 1, inputs: Any = None) -> float:
        """Return how well states are predicted ``horizon`` steps ahead, as R2 against the mean of the fitted data.

        Parameters
        ----------
        trajectories
            As for `fit`; to be worth anything, trials that were not fitted. `estimate` holds out each in turn.
        horizon : int
        inputs
            As for `fit`.

        Returns
        -------
        float
            1 for perfect, at most 0 for no better than the mean.

        Raises
        ------
        InputError
            Other units than in the fit, or no trial of ``delays + horizon`` times.
        """
        self._require_fit()
        horizon = whole("horizon", horizon)
        given = self._seen(trajectories, self.model_.observables.delays + horizon)
        errors = squared_errors(self.model_, given.trials, self.mean_, horizon, self._inputs(inputs, given))
        return 1 - float(errors.model[-1] / errors.mean[-1])

    def pseudospectrum(self, points: npt.ArrayLike) -> Floats:
        """Return the smallest residual that any function of the coordinates has at points of the complex plane.

        Parameters
        ----------
        points : array_like of any shape
            Complex.

        Returns
        -------
        numpy.ndarray of that shape
            Where it is below some tolerance, the data cannot tell the point from an eigenvalue.

        References
        ----------
        Colbrook and Townsend 2024, Rigorous data-driven computation of spectral properties of Koopman operators for
        dynamical systems, doi:10.1002/cpa.22125
        """
        self._require_fit()
        try:
            plane = np.asarray(points, dtype=complex)
        except (TypeError, ValueError) as error:
            raise InputError("points are no complex numbers", got=str(error)) from error
        return smallest_residuals(self._reduced, torch.from_numpy(plane)).numpy()

    def estimate(
        self,
        trajectories: Any,
        inputs: Any = None,
        horizon: int = 10,
        cv: int = 5,
        tolerance: float = 0.1,
        progress: bool = True,
    ) -> KoopmanSpectrum:
        """Return the spectrum with what to believe of it: residuals, pseudospectrum, and errors on held-out trials.

        From 8 trials on, frequencies and decay rates have standard errors by the jackknife over trials. Of one trial
        or a few there are none: cut a long stationary recording into stretches longer than its memory to get them.

        Parameters
        ----------
        trajectories, inputs
            As for `fit`.
        horizon : int
            Most steps to predict ahead; fewer where held-out trials are shorter.
        cv : int
            At least 2. Trials are dealt to so many folds, each of which is predicted from the others. One trial is cut
            into as many stretches; of ``bopdmd`` and ``havok``, only the last one is held out.
        tolerance : float
            Eigenvalues of at most this residual are marked as ``confirmed``. The residual says how wrong an
            eigenfunction is over one step, on the data it was fitted to, and not whether the system has it: spurious
            ones of a rich dictionary had residuals of .002 to .04.
        progress : bool
            Show a bar where it takes longer than two seconds.

        Returns
        -------
        KoopmanSpectrum

        Raises
        ------
        InputError
            As for `fit`, or trials too short to hold any out.
        """
        given = self._given(trajectories)
        driven = self._inputs(inputs, given)
        fitted = type(self)(**self.get_params())._fit(given.trials, driven, self._time_step(given))
        return estimate_spectrum(
            fitted, given, driven, whole("horizon", horizon), whole("cv", cv, 2), tolerance, progress
        )

    def refitted(
        self, trials: tuple[Floats, ...], inputs: tuple[Floats, ...] | None = None, rank: int | None = None
    ) -> KoopmanOperator:
        """Return an operator of the same settings, fitted to other trials ``(time, unit)`` that were checked before.

        With ``rank``, of that rank instead of the one that the settings would choose.
        """
        again = type(self)(**self.get_params())
        again.rank = self.rank if rank is None else rank
        return again._fit(trials, inputs, self.dt_)

    def _require_fit(self) -> None:
        if not hasattr(self, "eigenvalues_"):
            raise InputError("this KoopmanOperator is not fitted", fix="call fit(trajectories) first")

    def _given(self, x: Any) -> Trajectories:
        """Return what is to be fitted, once all options are known to fit."""
        check_option("method", self.method, METHODS)
        check_option("regression", self.regression, REGRESSIONS)
        generator(self.seed)  # also where nothing is drawn
        delays = check_observables(self.method, self.delays, self.dictionary)
        if self.regression != REGRESSIONS[0] and self.method in pydmd_methods.METHODS:
            raise OptionError(f"{self.method} has a regression of its own", got=self.regression)
        given = trajectories(x, least=delays + 1, why=f"{delays} delays and a step" if delays > 1 else "for one step")
        pydmd_methods.check_one_trial(self.method, len(given.trials))
        states = given.joined()
        if not (states.max(0) > states.min(0)).any():
            raise InputError("nothing varies: these trajectories have no dynamics", got="constant units")
        return given

    def _seen(self, x: Any, least: int | None = None) -> Trajectories:
        self._require_fit()
        delays = self.model_.observables.delays
        given = trajectories(x, least=least or delays, why=f"for {delays} delays" if delays > 1 else None)
        if given.n_units != len(self.mean_):
            raise InputError("other units than in the fit", expected=len(self.mean_), got=given.n_units)
        return given

    def _time_step(self, given: Trajectories) -> float:
        if self.dt is None:
            return given.dt
        dt = float(number("dt", self.dt, 0, np.inf))
        if given.sampling_rate is not None and not np.isclose(dt * given.sampling_rate, 1, rtol=1e-6):
            raise OptionError(
                "dt is not that of the data",
                expected=f"{given.dt:g} s, by their sampling rate",
                got=dt,
                fix="leave dt out",
            )
        return dt

    def _inputs(self, inputs: Any, given: Trajectories, n_steps: int | None = None) -> tuple[Floats, ...] | None:
        """Return inputs of each trial, checked against its length, or against the number of steps."""
        if (inputs is None) == (self.method == "dmdc"):
            wanted = "dmdc needs inputs" if inputs is None else f"{self.method} takes no inputs"
            raise OptionError(wanted, fix="pass inputs to method='dmdc', and to no other")
        if inputs is None:
            return None
        found = trajectories(inputs, least=1, name="inputs")
        lengths = given.lengths if n_steps is None else (n_steps,) * len(given.trials)
        if found.lengths != lengths:
            raise InputError("inputs are of other lengths", expected=f"{lengths}", got=f"{found.lengths}")
        return found.trials

    def _fit(self, trials: tuple[Floats, ...], inputs: tuple[Floats, ...] | None, dt: float) -> KoopmanOperator:
        joined = np.concatenate(trials)
        self.dt_, self.mean_, self.scale_ = dt, joined.mean(0), joined.std(0)
        settings = FitSettings(self.method, self.rank, int(self.delays), self.regression, dt)
        dictionary = None
        if self.method == "edmd":
            past = np.concatenate([delay_vectors(trial, settings.delays) for trial in trials])
            name = "polynomial" if self.dictionary is None else self.dictionary
            dictionary = make_dictionary(name, past, self.degree, self.n_centers, self.seed)
        model, reduced = fit_model(trials, inputs, Observables(settings.delays, dictionary), settings)
        found = decompose(reduced, torch.from_numpy(model.decode))
        self.model_, self._reduced, self._weights = model, reduced, found.weights.numpy()
        self.eigenvalues_: Complexes = found.eigenvalues.numpy()
        self.modes_: Complexes = found.modes.numpy()
        self.amplitudes_ = found.amplitudes.numpy() / np.sqrt(len(self.mean_))
        self.residuals_ = found.residuals.numpy()
        self.condition_ = float(found.condition)
        self.singular_values_ = reduced.singular_values.numpy()
        self.rank_, self.n_pairs_, self.n_features_ = reduced.rank, reduced.n_pairs, len(self._weights)
        with np.errstate(divide="ignore"):
            self.continuous_eigenvalues_ = np.log(self.eigenvalues_) / dt
        self.frequencies_ = self.continuous_eigenvalues_.imag / (2 * np.pi)
        self.decay_rates_ = -self.continuous_eigenvalues_.real
        return self

    def doubts(self) -> tuple[str, ...]:
        """Return what a reader must know of this fit."""
        found, features = [], self.n_features_
        if self.rank == OPTIMAL and not int(optimal_rank(self._reduced.singular_values, self.n_pairs_, features)):
            found.append("no direction of the data stands out of noise; one was kept, which means nothing")
        if self.n_pairs_ <= self.rank_:
            found.append(
                f"{self.rank_} coefficients were fitted to {self.n_pairs_} pairs of states each: they fit whatever the "
                "data are, and residuals are not known; take a smaller rank, or more data"
            )
        size = float(np.square(self.mean_).sum())
        if self.method in ("dmd", "hankel") and size > _MOSTLY_MEAN * (size + float(np.square(self.scale_).sum())):
            found.append(
                "the mean is more than nine tenths of the states, and what is found is mostly the mean: where the "
                "system does not rest at 0, subtract it (states - states.mean())"
            )
        sizes = self.scale_[self.scale_ > 0]
        unequal = sizes.max() / sizes.min()
        if self.rank is None and self.rank_ < self.n_features_ and unequal > _UNEQUAL:
            found.append(
                f"the largest unit varies {unequal:.0e} times as much as the smallest, and directions of 1e-10 of the "
                "largest are left out, small units with them: bring units to like sizes"
            )
        return tuple(found)
