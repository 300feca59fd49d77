"""LatentCircuitModel: the few-node circuit behind the activity of many units."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, number, whole
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.parameters import Parameterised
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.circuits.latent.channels import channel_names
from neuros_mechint.neuro.circuits.latent.doubts import doubts
from neuros_mechint.neuro.circuits.latent.dynamics import simulate
from neuros_mechint.neuro.circuits.latent.fitting import fit_circuit
from neuros_mechint.neuro.circuits.latent.matching import correlation, order_of_nodes
from neuros_mechint.neuro.circuits.latent.observations import (
    Observations,
    check_aligned,
    check_labels,
    folds_of_conditions,
    observations,
    trials_of,
)
from neuros_mechint.neuro.circuits.latent.parameters import LEAST_ALPHA
from neuros_mechint.neuro.circuits.latent.result import LatentCircuit, latent_circuit
from neuros_mechint.neuro.circuits.latent.scores import explained


class Prediction(NamedTuple):
    """What a circuit does with inputs.

    Parameters
    ----------
    activity : numpy.ndarray of shape (n_trials, n_times, n_units)
    outputs : numpy.ndarray of shape (n_trials, n_times, n_outputs)
    latents : numpy.ndarray of shape (n_trials, n_times, n_nodes)
    """

    activity: Floats
    outputs: Floats
    latents: Floats


class LatentCircuitModel(Parameterised):
    r"""A circuit of few nodes, its wiring and where it lies in the activity, from inputs, activity and outputs.

    .. math::
        x_{t+1} = (1 - \alpha) x_t + \alpha \max(W x_t + W_{in} u_t, 0), \quad y_t = Q x_t, \quad z_t = W_{out} x_t,
        \quad x_0 = 0, \quad Q^\top Q = 1

    Each input drives its own node, the first ones, and each output is read from its own, the last ones, both with
    gains of at least 0. This labels the nodes, so that connections have a meaning; nodes in between are hidden, and
    come in any order. All parameters are fitted at once by Levenberg-Marquardt with exact derivatives, from a rotation
    that regression on inputs and outputs suggests: first with the recorded states as what nodes receive, then with
    the circuit's own. Trials that repeat each other are averaged first where there is noise. Descents from other
    starts follow until two lead to the same circuit.

    Parameters
    ----------
    n_nodes : int
        At least the number of inputs and that of outputs; where their sum is larger, nodes are shared.
    n_inputs, n_outputs : int, optional
        Checked against the columns of the data.
    alpha : float or None
        Time step divided by the time constant of a node, up to 1. None: estimated.
    source_signs : array_like of shape (n_nodes,), optional
        Dale's law: 1 for nodes that excite, -1 for nodes that inhibit, 0 for those that may do both. Signs hold for
        what a node sends, the columns of the connectivity.
    n_starts : int
        Most descents; two of them that agree are enough.
    seed : int or numpy.random.Generator
        For starts after the second, and for hidden nodes.

    Attributes
    ----------
    connectivity_ : numpy.ndarray of shape (n_nodes, n_nodes)
        Row: the node that receives; column: the node that sends.
    connectivity_se_ : numpy.ndarray of shape (n_nodes, n_nodes)
        Standard errors, where noise is independent from time to time; 1 where the data say nothing.
    input_weights_ : numpy.ndarray of shape (n_nodes, n_inputs)
    output_weights_ : numpy.ndarray of shape (n_outputs, n_nodes)
    embedding_ : numpy.ndarray of shape (n_units, n_nodes)
        Orthonormal columns.
    alpha_ : float
    latents_ : numpy.ndarray of shape (n_trials, n_times, n_nodes)
        What the nodes do in each trial of the fit.
    r2_, r2_outputs_ : float
        Share of the variance of the activity, and of the outputs, that the circuit reproduces in the trials of the fit,
        their noise included; NaN for silent outputs.
    r2_conditions_ : float
        The same for the activity averaged over trials of the same condition.
    costs_ : tuple of float
        Of each descent, as shares of the sum of squares.
    agreed_ : bool
        Whether two of them led to the same circuit, or one to a perfect one.
    n_trials_, n_conditions_ : int
    input_names_, output_names_ : tuple of str
        As given, as labelled, or by their number.
    averaged_ : bool
        Whether the fit was to means of conditions.
    doubts_ : tuple of str
        What a reader must know before believing the circuit.

    References
    ----------
    Langdon and Engel 2025, Latent circuit inference from heterogeneous neural responses during cognitive tasks,
    doi:10.1038/s41593-025-01869-7

    Examples
    --------
    >>> import numpy as np
    >>> from neuros_mechint.neuro.circuits.latent.dynamics import simulate
    >>> random = np.random.default_rng(0)
    >>> wiring = np.array([[0.0, 0.5, 0.0], [0.0, 0.0, -0.8], [0.9, 0.0, 0.4]])  # 0 excites 2, which inhibits 1
    >>> inputs = random.uniform(0, 1, (20, 5, 2)).repeat(6, axis=1)  # 20 trials of 30 times
    >>> states = simulate(wiring, np.eye(3, 2), inputs, alpha=0.2)
    >>> activity = states @ np.linalg.qr(random.standard_normal((10, 3)))[0].T
    >>> model = LatentCircuitModel(n_nodes=3, alpha=0.2).fit(inputs, activity, states[:, :, 2:])
    >>> bool(abs(model.connectivity_ - wiring).max() < 1e-3), round(model.r2_, 6)
    (True, 1.0)
    """

    def __init__(
        self,
        n_nodes: int,
        n_inputs: int | None = None,
        n_outputs: int | None = None,
        alpha: float | None = 0.2,
        source_signs: Any = None,
        n_starts: int = 4,
        seed: SeedLike = 0,
    ) -> None:
        self.n_nodes = n_nodes
        self.n_inputs = n_inputs
        self.n_outputs = n_outputs
        self.alpha = alpha
        self.source_signs = source_signs
        self.n_starts = n_starts
        self.seed = seed

    def fit(
        self,
        inputs: Any,
        activity: Any,
        outputs: Any,
        conditions: Any = None,
        progress: bool = True,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ) -> LatentCircuitModel:
        """Find the circuit.

        Parameters
        ----------
        inputs : array_like, torch.Tensor, xarray.DataArray or Recording of shape (n_trials, n_times, n_inputs)
            The input of a time acts on the state of the next.
        activity : the same, of shape (n_trials, n_times, n_units)
            From rest: the circuit starts at 0.
        outputs : the same, of shape (n_trials, n_times, n_outputs)
            What is read out at the same times: an RNN's output, or a measure of behaviour.
        conditions : array_like of shape (n_trials,), optional
            A label of each trial; trials of one label repeat each other. By default trials of the same inputs do.
        progress : bool
            Show a bar where it takes longer than two seconds.
        input_names, output_names : sequence of str, optional
            Names of the columns, and of their nodes. By default the labels of labelled data along their columns.

        Returns
        -------
        LatentCircuitModel

        Raises
        ------
        InputError
            Values that are missing or infinite, arrays of other trials or times than each other, fewer trials or units
            than nodes, fewer numbers than parameters, activity that does not vary, labels of trials or times that
            differ from those of the activity, or names that are not one for each column.
        OptionError
            Parameters out of range, or other numbers of inputs and outputs than the data have.

        Warns
        -----
        UserWarning
            Where the data do not pin the connectivity down, starts disagree or there was only one, inputs or outputs
            are silent, outputs are clearly negative, negative inputs find their node silent, or activity does not
            start from rest.
        """
        seen = observations(inputs, activity, outputs, conditions, input_names, output_names)
        return self.fit_observations(seen, progress=progress)

    def fit_observations(self, seen: Observations, warn: bool = True, progress: bool = False) -> LatentCircuitModel:
        """Find the circuit of what was checked before, aloud or not; see `fit`."""
        n_nodes, signs = self._checked(seen)
        n_starts, random = whole("n_starts", self.n_starts), generator(self.seed)
        found = fit_circuit(seen, n_nodes, self._leak(), signs, n_starts, random, progress)
        self.input_names_, self.output_names_ = seen.input_names, seen.output_names
        circuit = found.circuit
        self.connectivity_, self.alpha_ = circuit.connectivity, circuit.alpha
        self.input_weights_, self.output_weights_ = circuit.input_weights, circuit.output_weights
        self.embedding_, self.connectivity_se_ = found.embedding, found.standard_errors
        self.costs_, self.agreed_ = found.costs, found.agreed
        predicted = self.predict(seen.inputs)
        self.latents_ = predicted.latents
        self.r2_ = explained(seen.activity, predicted.activity)
        self.r2_outputs_ = explained(seen.outputs, predicted.outputs)
        means = seen._replace(activity=predicted.activity).averaged()
        self.r2_conditions_ = explained(seen.averaged().activity, means.activity)
        self.n_trials_, self.n_conditions_, self.averaged_ = len(seen.activity), seen.n_conditions, found.averaged
        self.doubts_ = doubts(found, seen)
        for text in self.doubts_ if warn else ():
            warnings.warn(text, UserWarning, stacklevel=3)
        return self

    @property
    def result_(self) -> LatentCircuit:
        """All of the fit with labels, a summary and a figure."""
        self._require_fit()
        return latent_circuit(self)

    def estimate(
        self,
        inputs: Any,
        activity: Any,
        outputs: Any,
        conditions: Any = None,
        cv: int = 3,
        progress: bool = True,
    ) -> LatentCircuit:
        """Return the circuit with what it predicts of held-out conditions, and how it fares without each part of them.

        Parameters
        ----------
        inputs, activity, outputs, conditions
            As for `fit`.
        cv : int
            At least 2. Conditions are dealt to so many folds; the mean of each is predicted by a circuit fitted to the
            others, whose connectivity is correlated with that of the whole.
        progress : bool
            Show a bar where it takes longer than two seconds.

        Returns
        -------
        LatentCircuit

        Raises
        ------
        InputError
            As for `fit`, or fewer conditions than folds.
        """
        seen = observations(inputs, activity, outputs, conditions)
        folds = folds_of_conditions(seen, cv, generator(self.seed))
        whole_fit = type(self)(**self.get_params()).fit_observations(seen, warn=False)
        scores, alike = [], []
        for fitted, held in progress_bar(folds, description="holding out", enabled=progress):
            part = type(self)(**self.get_params()).fit_observations(seen.chosen(fitted), warn=False)
            scores.append(part.score(*seen.chosen(held).averaged()[:3]))
            order = order_of_nodes(part.embedding_, whole_fit.embedding_)
            wiring = correlation(part.connectivity_[np.ix_(order, order)], whole_fit.connectivity_)
            alike.append(float(np.nan_to_num(wiring)))  # a wiring that does not vary holds nothing of the other
        return latent_circuit(whole_fit, held_out=scores, alike=alike)

    def predict(self, inputs: Any) -> Prediction:
        """Return what the circuit does with inputs, from a start at 0.

        Parameters
        ----------
        inputs : as for `fit`

        Returns
        -------
        Prediction
            ``activity``, ``outputs`` and ``latents``.

        Raises
        ------
        InputError
            Not fitted yet, or other inputs than in the fit.
        """
        self._require_fit()
        driven = trials_of(inputs, "inputs")
        names = channel_names("input", None, inputs, driven.shape[-1])
        if driven.shape[-1] != self.input_weights_.shape[1]:
            raise InputError(
                "other inputs than in the fit", expected=self.input_weights_.shape[1], got=driven.shape[-1]
            )
        if names != self.input_names_ and set(names) == set(self.input_names_):
            raise InputError("the inputs are in another order than in the fit", expected=self.input_names_, got=names)
        latents = simulate(self.connectivity_, self.input_weights_, driven, self.alpha_)
        return Prediction(latents @ self.embedding_.T, latents @ self.output_weights_.T, latents)

    def score(self, inputs: Any, activity: Any, outputs: Any = None) -> float:
        """Return how much of what was recorded the circuit reproduces from the inputs alone.

        Parameters
        ----------
        inputs, activity, outputs
            As for `fit`; to be worth anything, trials that were not fitted.

        Returns
        -------
        float
            R2 of the activity, about the mean of each unit; with outputs, the mean of this and the R2 of the outputs.
            1 for perfect, at most 0 for no better than means. Noise of single trials counts as not reproduced; what
            does not vary is left out.

        Raises
        ------
        InputError
            Not fitted yet, other columns than in the fit, or arrays that are not aligned.
        """
        predicted, recorded = self.predict(inputs), trials_of(activity, "activity")
        check_labels("inputs", inputs, activity)
        check_labels("outputs", outputs, activity)
        pairs = [("activity", recorded, predicted.activity)]
        if outputs is not None:
            pairs.append(("outputs", trials_of(outputs, "outputs"), predicted.outputs))
        for name, given, made in pairs:
            check_aligned("inputs", made, given)
            if given.shape[-1] != made.shape[-1]:
                raise InputError(f"other {name} than in the fit", expected=made.shape[-1], got=given.shape[-1])
        scores = [explained(given, made) for _, given, made in pairs]
        if np.isnan(scores).all():
            raise InputError("nothing of what was recorded varies", got="the same values at all times of all trials")
        return float(np.nanmean(scores))

    def _require_fit(self) -> None:
        if not hasattr(self, "connectivity_"):
            raise InputError("this LatentCircuitModel is not fitted", fix="call fit(inputs, activity, outputs) first")

    def _leak(self) -> float | None:
        return None if self.alpha is None else float(number("alpha", self.alpha, LEAST_ALPHA, 1, closed="both"))

    def _checked(self, seen: Observations) -> tuple[int, Floats]:
        """Return the number of nodes and the signs of what they send, once all are known to fit the data."""
        n_nodes = whole("n_nodes", self.n_nodes)
        for name, array in (("n_inputs", seen.inputs), ("n_outputs", seen.outputs)):
            wanted, columns = getattr(self, name), array.shape[-1]
            if wanted is not None and whole(name, wanted) != columns:
                raise OptionError(f"{name} is not that of the data", expected=columns, got=wanted)
            if columns > n_nodes:
                raise OptionError(
                    f"there are more {name[2:]} than nodes",
                    expected=f"n_nodes of at least {columns}",
                    got=n_nodes,
                    fix="each input and each output has a node of its own: raise n_nodes, or leave columns out",
                )
        _check_enough(seen, n_nodes)
        return n_nodes, _signs(self.source_signs, n_nodes)


def _check_enough(seen: Observations, n_nodes: int) -> None:
    n_trials, n_times, n_units = seen.activity.shape
    if not np.ptp(seen.activity, axis=(0, 1)).any():
        raise InputError(
            "there is no activity that varies", expected="units that change", got="one value at all times of all trials"
        )
    if n_units < n_nodes:
        raise InputError("fewer units than nodes", expected=f"at least {n_nodes} units", got=n_units)
    if n_trials < n_nodes:
        raise InputError(
            "fewer trials than nodes",
            expected=f"at least {n_nodes} trials, with inputs that tell the nodes apart",
            got=n_trials,
            fix="take a smaller circuit, or cut more trials, each from rest; times of one trial are not independent",
        )
    n_numbers = seen.n_conditions * (n_times - 1) * n_nodes
    n_parameters = n_nodes**2 + n_nodes * (n_nodes - 1) // 2 + seen.inputs.shape[-1] + seen.outputs.shape[-1]
    if n_numbers <= n_parameters:
        raise InputError(
            "fewer numbers than parameters",
            expected=f"more than {n_parameters} numbers: conditions times steps times nodes",
            got=f"{seen.n_conditions} conditions of {n_times - 1} steps, {n_nodes} nodes",
            fix="longer trials, or more conditions",
        )


def _signs(source_signs: Any, n_nodes: int) -> Floats:
    if source_signs is None:
        return np.zeros(n_nodes)
    signs = real_array(source_signs, "source_signs", finite=False)
    if signs.shape != (n_nodes,) or not np.isin(signs, (-1, 0, 1)).all():
        raise OptionError(
            "source_signs are no signs of the nodes",
            expected=f"{n_nodes} numbers, each 1, -1 or 0 (free)",
            got=repr(source_signs),
        )
    return signs
