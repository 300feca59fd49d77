"""Information between a layer and what it is about, by four estimators that fail in different ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.information.dependence.conditional import bins_of_tables
from neuros_mechint.neuro.information.estimators.binned import bins_by_rank, counts_information
from neuros_mechint.neuro.information.estimators.gaussian import gaussian_information
from neuros_mechint.neuro.information.estimators.nearest import kraskov, ross
from neuros_mechint.neuro.information.estimators.repeats import occurrences
from neuros_mechint.neuro.information.variables import Whole

ESTIMATORS = ("neighbours", "binned", "gaussian", "noise")
NEIGHBORS = 3
_LEAST_VARIANCE, _LEAST_EIGENVALUE = 1e-6, 1e-10
_SAMPLES_PER_COMPONENT = 5
_APART = 0.95


class Side(NamedTuple):
    """One side of the question, a layer, inputs or labels: all estimators see the same samples of it.

    Parameters
    ----------
    few : numpy.ndarray of shape (n_samples, n_components) or None
        Its first principal components, each of variance 1; None of categories.
    many : numpy.ndarray of shape (n_samples, n_components) or None
        All components that vary, each of variance 1.
    values : numpy.ndarray of shape (n_samples, n_features) or None
        Itself, centred, in units of the root mean square over samples and features.
    codes : numpy.ndarray of shape (n_samples,) or None
        Of categories.
    share : float
        Of its variance, that ``few`` hold; NaN of categories.
    """

    few: Floats | None = None
    many: Floats | None = None
    values: Floats | None = None
    codes: Whole | None = None
    share: float = float("nan")

    def of(self, rows: Whole) -> Side:
        """Return some of its samples."""
        parts: list[Any] = [None if part is None else part[rows] for part in self[:-1]]
        return Side(*parts, share=self.share)


def reduced(values: Floats, fitted_on: Whole, kept: Whole, n_components: int) -> Side | None:
    """Return a layer by its principal components, fitted on some samples, of others; None where nothing varies.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_samples, n_features)
    fitted_on, kept : numpy.ndarray
        Numbers of samples.
    n_components : int
        For the estimators that stand few.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(100, 5))
    >>> side = reduced(values, np.arange(50), np.arange(50, 100), 2)
    >>> side.few.shape, side.many.shape
    ((50, 2), (50, 5))
    """
    largest = np.abs(values).max(initial=0.0)  # first, so that no square overflows
    values = values / (largest or 1.0)
    centred = values - values[fitted_on].mean(0)
    axes, sizes = np.linalg.svd(centred[fitted_on], full_matrices=False)[2:0:-1]
    varying = sizes > np.sqrt(_LEAST_VARIANCE) * sizes[0]
    if sizes[0] <= 1e-12:
        return None
    components = (centred[kept] @ axes[varying].T)[:, : max(1, len(kept) // _SAMPLES_PER_COMPONENT)]
    components = components - components.mean(0)
    spread = components.std(0)
    if not (spread > 0).all():
        return None
    components = components / spread
    own = centred[kept] - centred[kept].mean(0)
    share = float((spread[:n_components] ** 2).sum() / (own**2).sum(1).mean())
    return Side(components[:, :n_components], components, own / np.sqrt((own**2).mean()), share=share)


def information(layer: Side, about: Side, estimator: str, noise: float) -> float:
    """Return nats between a layer and inputs or labels; NaN where an estimator has no answer.

    Parameters
    ----------
    layer, about : Side
    estimator : {"neighbours", "binned", "gaussian", "noise"}
    noise : float
        Standard deviation of the noise that ``noise`` adds, in the root mean square of the layer.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> x, error = random.normal(size=(2, 1000, 1))
    >>> every = np.arange(1000)
    >>> layer, about = (reduced(values, every, every, 1) for values in (x + error, x))
    >>> found = [information(layer, about, name, 0.1) for name in ("neighbours", "gaussian")]  # half of log 2: 0.35
    >>> [bool(abs(one - 0.35) < 0.05) for one in found]
    [True, True]
    """
    by_name: dict[str, Callable[..., float]] = {
        "neighbours": _neighbours,
        "binned": _binned,
        "gaussian": _gaussian,
        "noise": _noisy,
    }
    return by_name[estimator](layer, about, noise)


def _neighbours(layer: Side, about: Side, _: float) -> float:
    assert layer.few is not None
    if occurrences(layer.few).max() > NEIGHBORS:
        return float("nan")
    if about.codes is not None:
        smallest = np.bincount(about.codes)
        return ross(layer.few, about.codes, NEIGHBORS) if smallest[smallest > 0].min() > 1 else float("nan")
    if about.few is None or occurrences(about.few).max() > NEIGHBORS:
        return float("nan")
    return kraskov(layer.few, about.few, NEIGHBORS)


def _binned(layer: Side, about: Side, _: float) -> float:
    assert layer.few is not None
    n_samples = len(layer.few)
    if about.codes is not None:
        bins = bins_of_tables(n_samples, layer.few.shape[1], int(about.codes.max()) + 1)
        return counts_information(_sorted(layer.few, bins), about.codes).value
    if about.few is None:
        return float("nan")
    bins = bins_of_tables(n_samples, layer.few.shape[1] + about.few.shape[1])
    return counts_information(_sorted(layer.few, bins), _sorted(about.few, bins)).value


def _sorted(columns: Floats, n_bins: int) -> Whole:
    codes = np.zeros(len(columns), dtype=np.intp)
    for column in columns.T:
        codes = codes * n_bins + bins_by_rank(column, n_bins)
    return np.unique(codes, return_inverse=True)[1].astype(np.intp)


def _gaussian(layer: Side, about: Side, _: float) -> float:
    if about.many is None or layer.many is None:
        return float("nan")
    joint = np.hstack([layer.many, about.many])
    if np.linalg.eigvalsh(joint.T @ joint / len(joint))[0] < _LEAST_EIGENVALUE and len(joint) > joint.shape[1]:
        return float("inf")  # one is a linear function of the other
    return gaussian_information(layer.many, about.many).value


def _noisy(layer: Side, about: Side, noise: float) -> float:
    assert layer.values is not None
    whole = pairwise_information(layer.values, noise)
    if about.codes is None:
        return whole if about.values is None else float("nan")
    shares = np.bincount(about.codes) / len(about.codes)
    within = [
        share * pairwise_information(layer.values[about.codes == code], noise)
        for code, share in enumerate(shares)
        if share
    ]
    return whole - sum(within)


def all_apart(layer: Side, noise: float) -> bool:
    """Return whether noise leaves nearly all samples of a layer apart: then it says the whole of any label.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(100, 10))
    >>> every = np.arange(100)
    >>> layer = reduced(values, every, every, 2)
    >>> all_apart(layer, 0.1), all_apart(layer, 1.0)
    (True, False)
    """
    assert layer.values is not None
    return bool(pairwise_information(layer.values, noise) > _APART * np.log(len(layer.values)))


def pairwise_information(values: Floats, noise: float) -> float:
    r"""Return an upper bound of the information between inputs and what they are mapped to, with noise added.

    :math:`-\langle \log \langle e^{-|t_i - t_j|^2 / 2 \sigma^2} \rangle_j \rangle_i`: each input is one of
    ``n_samples``, so that there is no more than their logarithm.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_samples, n_features)
    noise : float
        Standard deviation in each feature.

    References
    ----------
    Kolchinsky and Tracey 2017, Estimating Mixture Entropy with Pairwise Distances, doi:10.3390/e19070361

    Examples
    --------
    >>> round(pairwise_information(np.array([[0.0], [0.0], [9.0], [9.0]]), 0.1), 3)  # log 2: two can be told apart
    0.693
    """
    from scipy.spatial.distance import cdist

    squares = cdist(values, values, "sqeuclidean")
    alike = np.exp(squares * (-0.5 / noise**2)).mean(1)  # never 0: each is like itself
    return float(-np.log(alike).mean())
