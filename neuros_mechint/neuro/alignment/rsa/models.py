"""Models of RDMs: fixed, or families of RDMs of which fitting picks, weighs or interpolates some."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import CapabilityError, InputError, check_option
from neuros_mechint.neuro.alignment.rsa.compare import (
    METHODS,
    WHITENED,
    check_varied,
    directions,
    directions_and_lengths,
    similarities,
)
from neuros_mechint.neuro.alignment.rsa.interop import to_rsatoolbox
from neuros_mechint.neuro.alignment.rsa.stack import RDMStack, rdm_array, rdm_stack

KINDS = ("fixed", "select", "weighted", "interpolate")
_LINEAR = ("corr", "cosine", *WHITENED)


class RDMModel:
    """One or several RDMs as a model of data RDMs.

    Parameters
    ----------
    rdms : array_like, torch.Tensor, xarray.DataArray or rsatoolbox RDMs
        One RDM for ``fixed``, two or more for the others, ``(n_rdms, n, n)`` or ``(n_rdms, n_pairs)``.
    kind : {"fixed", "select", "weighted", "interpolate"}
        What is predicted: the RDM; the one of them that is most similar to the data; their sum with weights of at
        least 0; or a mean of two neighbours with weights that add up to 1.
    compare : {"corr", "cosine", "spearman", "tau-a", "rho-a", "corr_cov", "cosine_cov"}
        The similarity that scores, and that fitting makes largest, mean over data RDMs. Weights that are best for a
        rank correlation cannot be found surely: there they are those that are best for ``corr``.

    Attributes
    ----------
    stack : RDMStack
        The RDMs as vectors.
    weights_ : numpy.ndarray of shape (n_rdms,)
        How much each RDM contributes, after `fit`; for ``weighted`` of length 1, all 0 where nothing but negative
        weights would do.

    Raises
    ------
    InputError
        The wrong number of RDMs for the kind, or what is no RDM.
    OptionError
        Unknown kind or measure.

    References
    ----------
    Schütt et al. 2023, Statistical inference on representational geometries, doi:10.7554/eLife.82566

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> parts = np.random.default_rng(0).random((3, 45))
    >>> model = nm.RDMModel(parts, kind="weighted").fit(2 * parts[0] + parts[2])
    >>> model.weights_.round(3).tolist()
    [0.894, 0.0, 0.447]
    """

    weights_: Floats

    def __init__(self, rdms: Any, kind: str = "fixed", compare: str = "corr") -> None:
        check_option("kind", kind, KINDS)
        check_option("compare", compare, METHODS)
        self.rdms, self.kind, self.compare = rdms, kind, compare
        self.stack = rdm_stack(rdms, "rdms of the model")
        if (len(self.stack) == 1) != (kind == "fixed"):
            raise InputError(
                f"a {kind} model of {len(self.stack)} RDM{'s' if len(self.stack) > 1 else ''}",
                expected="one RDM" if kind == "fixed" else "at least two RDMs",
                fix="use kind='select', 'weighted' or 'interpolate'" if kind == "fixed" else "use kind='fixed'",
            )

    def __repr__(self) -> str:
        return f"RDMModel({len(self.stack)} x {self.stack.n_conditions} conditions, {self.kind}, {self.compare})"

    def fit(self, data: Any, conditions: Sequence[Any] | None = None) -> RDMModel:
        """Fit the model to the RDMs of one subject or several.

        Parameters
        ----------
        data : array_like, torch.Tensor, xarray.DataArray or rsatoolbox RDMs
            Labelled data may hold some conditions of a labelled model only: those of a training set.
        conditions : sequence, optional
            For data without labels: which conditions of the model they have, as labels or, where the model has none,
            as places.

        Returns
        -------
        RDMModel
            Itself.

        Raises
        ------
        InputError
            Conditions that the model lacks, or RDMs that are constant over the conditions at hand.

        Examples
        --------
        >>> import numpy as np, neuros_mechint as nm
        >>> parts = np.random.default_rng(0).random((3, 45))
        >>> training = [0, 1, 3, 4, 6, 7, 9]
        >>> data = nm.compute_rdm(np.random.default_rng(1).normal(size=(7, 5)))
        >>> nm.RDMModel(parts, kind="select").fit(data, training).predict([2, 5, 8]).shape
        (3, 3)
        """
        models, found = self._joined(data, conditions)
        check_varied(found.pairs, self.compare, "data")
        if self.kind == "fixed":
            self.weights_ = np.ones(1)
            return self
        check_varied(models.pairs, self.compare, "the model")
        self.weights_ = self._fitted(models, found)
        if not self.weights_.any():
            warnings.warn("no weights of at least 0 make the model similar to the data: all are 0", stacklevel=2)
        return self

    def _fitted(self, models: RDMStack, data: RDMStack) -> Floats:
        model = toolbox_model(models, self.kind)
        found = model.fit(to_rsatoolbox(data.pairs), method=self.compare)
        return np.eye(len(models))[found] if self.kind == "select" else np.asarray(found)

    def predict(self, conditions: Sequence[Any] | None = None) -> Any:
        """Return the predicted RDM ``(n, n)``, of all conditions or of those given, in their order.

        Parameters
        ----------
        conditions : sequence, optional
            Labels or, where the model has none, places.

        Returns
        -------
        numpy.ndarray, torch.Tensor or xarray.DataArray
            Of the kind of the model's RDMs.

        Raises
        ------
        CapabilityError
            Before `fit`, unless the model is fixed.
        InputError
            Conditions that the model lacks.
        """
        stack = self._chosen(conditions)
        return rdm_array(self._weights() @ stack.pairs, stack.conditions, like=self.rdms)

    def score(self, data: Any, conditions: Sequence[Any] | None = None) -> float:
        """Return the mean similarity of the prediction with data; held out where `fit` did not see them.

        Parameters
        ----------
        data, conditions
            As in `fit`.

        Returns
        -------
        float
            By the measure ``compare``.

        Raises
        ------
        CapabilityError
            Before `fit`, unless the model is fixed.
        InputError
            As in `fit`.
        """
        models, found = self._joined(data, conditions)
        predicted = (self._weights() @ models.pairs)[None]
        check_varied(predicted, self.compare, "the prediction")
        check_varied(found.pairs, self.compare, "data")
        return float(similarities(predicted, found.pairs, self.compare).mean())

    def _weights(self) -> Floats:
        if self.kind == "fixed":
            return np.ones(1)
        if not hasattr(self, "weights_"):
            raise CapabilityError(f"a {self.kind} model predicts nothing before it is fitted", fix="call fit(data)")
        return self.weights_

    def _joined(self, data: Any, conditions: Sequence[Any] | None) -> tuple[RDMStack, RDMStack]:
        """Return the model's RDMs and the data, of the data's conditions in their order."""
        found = rdm_stack(data, "data")
        if found.conditions is not None and conditions is not None:
            raise InputError("the data have labels of their own", expected="conditions only for data without labels")
        if found.conditions is not None and self.stack.conditions is None:
            raise InputError(
                "data has labels and the model has none",
                expected="labels on both, to join by, or on neither",
                fix="label the model's RDMs, or pass data.values and conditions as places",
            )
        if found.conditions is None and conditions is None and self.stack.conditions is not None:
            raise InputError(
                "the model has labels and data has none",
                expected="labels on both, to join by, or on neither",
                fix="pass conditions=, the labels of the data",
            )
        models = self._chosen(found.conditions if conditions is None else conditions)
        if models.n_conditions != found.n_conditions:
            raise InputError(
                "data and model have different numbers of conditions",
                expected=f"{models.n_conditions} conditions",
                got=found.n_conditions,
                fix="pass conditions=, those of the model that the data have",
            )
        return models, found

    def _chosen(self, conditions: Sequence[Any] | None) -> RDMStack:
        if conditions is None:
            return self.stack
        known = range(self.stack.n_conditions) if self.stack.conditions is None else self.stack.conditions
        places = {label: place for place, label in enumerate(known)}
        chosen = [value.item() if isinstance(value, np.generic) else value for value in conditions]
        wrong = [label for label in chosen if label not in places]
        if wrong or len(set(chosen)) < len(chosen):
            raise InputError(
                "these are no conditions of the model" if wrong else "conditions are repeated",
                expected="labels of the model, each once" if self.stack.conditions else "places from 0, each once",
                got=", ".join(map(repr, (wrong or chosen)[:5])),
            )
        return self.stack.take([places[label] for label in chosen])


def toolbox_model(stack: RDMStack, kind: str, name: str = "model") -> Any:
    """Return a model as rsatoolbox has it, with a fitter for ``weighted`` that always ends; see `fit_weights`.

    Examples
    --------
    >>> toolbox_model(rdm_stack([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), "select").predict(1).tolist()
    [3.0, 2.0, 1.0]
    """
    from rsatoolbox.model import model

    classes = {
        "fixed": model.ModelFixed,
        "select": model.ModelSelect,
        "weighted": model.ModelWeighted,
        "interpolate": model.ModelInterpolate,
    }
    made = classes[kind](name, to_rsatoolbox(stack.pairs))
    if kind == "weighted":
        made.default_fitter = _toolbox_weights
    return made


def fit_weights(models: Floats, data: Floats, compare: str) -> Floats:
    """Return the weights of at least 0, together of length 1, whose sum of RDMs is most similar to the data.

    By scipy: the loop of rsatoolbox's `fit_regress_nn`, which solves the same problem, may not end, because it stops at
    an absolute size of the gradient that rounding can exceed.

    Parameters
    ----------
    models, data : numpy.ndarray of shape (n_rdms, n_pairs)
        NaN in the same places in all.
    compare : str
        For rank correlations, weights that are best for ``corr``.

    Returns
    -------
    numpy.ndarray of shape (n_models,)
        All 0 where only weights below 0 would help.

    Examples
    --------
    >>> parts = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    >>> fit_weights(parts, np.array([[3.0, 8.0, 0.0]]), "cosine").round(3).tolist()
    [0.6, 0.8]
    """
    from scipy.optimize import nnls

    measure = compare if compare in _LINEAR else "corr"
    vectors, lengths = directions_and_lengths(models, measure)
    target = directions(data, measure).mean(0)
    weights = nnls(np.nan_to_num(vectors).T, target)[0] / lengths
    size = np.sqrt(weights @ weights)
    return weights / size if size else weights


def _toolbox_weights(
    model: Any,
    data: Any,
    method: str = "cosine",
    pattern_idx: Any = None,
    pattern_descriptor: str | None = None,
    sigma_k: Any = None,
) -> Floats:
    """Fit weights in the way that rsatoolbox calls its fitters."""
    parts = model.rdm_obj
    if pattern_idx is not None and pattern_descriptor is not None:
        parts = parts.subsample_pattern(pattern_descriptor, pattern_idx)
    return fit_weights(parts.get_vectors(), data.get_vectors(), method)
