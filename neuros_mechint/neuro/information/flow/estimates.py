"""Information between a layer and what it is about, by four estimators that fail in different ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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
    alike : numpy.ndarray of shape (n_samples, n_samples) or None
        Of a layer with noise: how much one sample looks like another, see `likeness`.
    codes : numpy.ndarray of shape (n_samples,) or None
        Of categories.
    share : float
        Of its variance, that ``few`` hold; NaN of categories.
    decides : bool
        Whether it decides what layers are, as inputs do.
    """

    few: Floats | None = None
    many: Floats | None = None
    alike: Floats | None = None
    codes: Whole | None = None
    share: float = float("nan")
    decides: bool = False

    def of(self, rows: Whole) -> Side:
        """Return some of its samples."""
        few, many, codes = (None if part is None else part[rows] for part in (self.few, self.many, self.codes))
        alike = None if self.alike is None else self.alike[np.ix_(rows, rows)]
        return self._replace(few=few, many=many, codes=codes, alike=alike)


def reduced(
    values: Floats, fitted_on: Whole, kept: Whole, n_components: int, noise: float | None = None
) -> Side | None:
    """Return a layer by its principal components, fitted on some samples, of others; None where nothing varies.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_samples, n_features)
    fitted_on, kept : numpy.ndarray
        Numbers of samples.
    n_components : int
        For the estimators that stand few.
    noise : float, optional
        Standard deviation of the noise that is added, in the root mean square of the layer over samples and features.

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
    alike = None if noise is None else likeness(own / np.sqrt((own**2).mean()), noise)
    return Side(components[:, :n_components], components, alike, share=share)


def information(layer: Side, about: Side, estimator: str) -> float:
    """Return nats between a layer and inputs or labels; NaN where an estimator has no answer.

    Parameters
    ----------
    layer, about : Side
    estimator : {"neighbours", "binned", "gaussian", "noise"}

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> x, error = random.normal(size=(2, 1000, 1))
    >>> every = np.arange(1000)
    >>> layer, about = (reduced(values, every, every, 1) for values in (x + error, x))
    >>> found = [information(layer, about, name) for name in ("neighbours", "gaussian")]  # half of log 2: 0.35
    >>> [bool(abs(one - 0.35) < 0.05) for one in found]
    [True, True]
    """
    by_name: dict[str, Callable[[Side, Side], float]] = {
        "neighbours": _neighbours,
        "binned": _binned,
        "gaussian": _gaussian,
        "noise": _noisy,
    }
    return by_name[estimator](layer, about)


def _neighbours(layer: Side, about: Side) -> float:
    assert layer.few is not None
    if occurrences(layer.few).max() > NEIGHBORS:
        return float("nan")
    if about.codes is not None:
        smallest = np.bincount(about.codes)
        return ross(layer.few, about.codes, NEIGHBORS) if smallest[smallest > 0].min() > 1 else float("nan")
    if about.few is None or occurrences(about.few).max() > NEIGHBORS:
        return float("nan")
    return kraskov(layer.few, about.few, NEIGHBORS)


def _binned(layer: Side, about: Side) -> float:
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


def _gaussian(layer: Side, about: Side) -> float:
    if about.many is None or layer.many is None:
        return float("nan")
    joint = np.hstack([layer.many, about.many])
    if np.linalg.eigvalsh(joint.T @ joint / len(joint))[0] < _LEAST_EIGENVALUE and len(joint) > joint.shape[1]:
        return float("inf")  # one is a linear function of the other
    return gaussian_information(layer.many, about.many).value


def _noisy(layer: Side, about: Side) -> float:
    assert layer.alike is not None
    if about.codes is None:
        return pairwise_information(layer.alike) if about.decides else float("nan")
    within = 0.0
    for members in (np.flatnonzero(about.codes == code) for code in np.unique(about.codes)):
        within += len(members) * pairwise_information(layer.alike[np.ix_(members, members)])
    return pairwise_information(layer.alike) - within / len(about.codes)


def all_apart(layer: Side) -> bool:
    """Return whether noise leaves nearly all samples of a layer apart: then it says the whole of any label.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(100, 10))
    >>> every = np.arange(100)
    >>> [all_apart(reduced(values, every, every, 2, noise)) for noise in (0.1, 1.0)]
    [True, False]
    """
    assert layer.alike is not None
    return bool(pairwise_information(layer.alike) > _APART * np.log(len(layer.alike)))


def likeness(values: Floats, noise: float) -> Floats:
    r"""Return how much samples with noise look like each other, :math:`e^{-|t_i - t_j|^2 / 2 \sigma^2}`.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_samples, n_features)
    noise : float
        Standard deviation in each feature.

    Returns
    -------
    numpy.ndarray of shape (n_samples, n_samples)

    Examples
    --------
    >>> likeness(np.array([[0.0], [1.0]]), 1.0).round(3).tolist()
    [[1.0, 0.607], [0.607, 1.0]]
    """
    from scipy.spatial.distance import cdist

    return np.exp(cdist(values, values, "sqeuclidean") * (-0.5 / noise**2))


def pairwise_information(alike: Floats) -> float:
    r"""Return an upper bound of the information between inputs and what they are mapped to, with noise added.

    :math:`-\langle \log \langle e^{-|t_i - t_j|^2 / 2 \sigma^2} \rangle_j \rangle_i`: each input is one of
    ``n_samples``, so that there is no more than their logarithm.

    Parameters
    ----------
    alike : numpy.ndarray of shape (n_samples, n_samples)
        See `likeness`.

    References
    ----------
    Kolchinsky and Tracey 2017, Estimating Mixture Entropy with Pairwise Distances, doi:10.3390/e19070361

    Examples
    --------
    >>> alike = likeness(np.array([[0.0], [0.0], [9.0], [9.0]]), 0.1)
    >>> round(pairwise_information(alike), 3)  # log 2: two can be told apart
    0.693
    """
    return float(-np.log(alike.mean(1)).mean())  # of no sample log 0: each is like itself
