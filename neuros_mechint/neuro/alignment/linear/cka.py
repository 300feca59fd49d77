"""Centred kernel alignment: how alike two sets of responses are up to rotation and scale, with its bias removed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, whole
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.alignment.linear.estimator import Estimator, centred
from neuros_mechint.neuro.alignment.samples import paired

_FEWEST_SAMPLES = {True: 4, False: 2}


class CKA(Estimator):
    """Linear centred kernel alignment; nothing is fitted.

    Parameters
    ----------
    debiased : bool
        Whether the unbiased estimator of HSIC (a U-statistic) is used. The biased one is near 1 for any data of many
        features and few samples; the unbiased one is around 0 for unrelated data, and can be slightly negative.
    batch_size : int, optional
        Samples taken at a time, at least 4: HSIC is averaged over batches, so that time and memory grow with the
        batches and not with the square of the samples. Needs ``debiased=True``, whose mean does not depend on the
        size of the batch. Without it all samples are taken at once.
    seed : int or numpy.random.Generator
        Deals samples out to batches.

    Attributes
    ----------
    similarity_ : float
        Of all batches passed to `partial_fit` so far.

    References
    ----------
    Kornblith et al. 2019, Similarity of neural network representations revisited, doi:10.48550/arXiv.1905.00414;
    Song et al. 2012, Feature selection via dependence maximization, https://jmlr.org/papers/v13/song12a.html; Nguyen
    et al. 2021, Do wide and deep networks learn the same things?, doi:10.48550/arXiv.2010.15327

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> random = np.random.default_rng(0)
    >>> X, Y = random.standard_normal((2, 50, 1000))
    >>> print(f"{nm.CKA(debiased=False).score(X, Y):.2f} biased, {abs(nm.CKA().score(X, Y)):.2f} debiased")
    0.95 biased, 0.02 debiased
    """

    def __init__(self, debiased: bool = True, batch_size: int | None = None, seed: SeedLike = 0) -> None:
        self.debiased = debiased
        self.batch_size = batch_size
        self.seed = seed

    def score(self, X: Any, Y: Any) -> float:
        """Return the similarity of two sets of responses to the same stimuli.

        Parameters
        ----------
        X, Y : array_like, torch.Tensor, xarray.DataArray or Recording, (n_samples, n_features)
            Joined by label where they have labels, see `neuros_mechint.neuro.alignment.samples.paired`.

        Returns
        -------
        float
            1 for equal geometry. Biased: 0 to 1; debiased: around 0 for unrelated data.

        Raises
        ------
        InputError
            Fewer than 4 samples (biased: 2), nothing that varies on one side, or data that `paired` refuses.
        OptionError
            Batches of the biased estimator, or of fewer than 4 samples.
        """
        x, y, _ = paired(X, Y)
        totals = sum(self._totals(x[rows], y[rows]) for rows in self._batches(len(x)))
        return _similarity(np.asarray(totals))

    def partial_fit(self, X: Any, Y: Any) -> CKA:
        """Add one batch of samples to those before, for data that are larger than memory; see ``similarity_``.

        Batches weigh by their number of samples.

        Parameters
        ----------
        X, Y : (n_samples, n_features)
            The same features on each call; at least 4 samples.

        Returns
        -------
        CKA

        Raises
        ------
        OptionError
            If ``debiased`` is False: a biased estimate depends on the size of the batches.
        """
        self._require_debiased()
        x, y, _ = paired(X, Y)
        totals = getattr(self, "_sums", np.zeros(3)) + self._totals(x, y)
        self.similarity_ = _similarity(totals)
        self._sums = totals
        return self

    def _totals(self, x: Floats, y: Floats) -> Floats:
        """Return HSIC of X with Y, X with X and Y with Y, times the number of samples."""
        fewest = _FEWEST_SAMPLES[bool(self.debiased)]
        if len(x) < fewest:
            raise InputError("too few samples", expected=f"at least {fewest}", got=len(x))
        x, y = centred(x)[0], centred(y)[0]
        return len(x) * np.array([hsic(x, y, self.debiased), hsic(x, x, self.debiased), hsic(y, y, self.debiased)])

    def _batches(self, n_samples: int) -> list[npt.NDArray[np.intp]]:
        if self.batch_size is None:
            return [np.arange(n_samples)]
        self._require_debiased()
        size, fewest = whole("batch_size", self.batch_size), _FEWEST_SAMPLES[True]
        if size < fewest:
            raise OptionError("batches are too small", expected=f"batch_size of at least {fewest}", got=size)
        # as many batches as leave all of them, of equal size but for one sample, large enough
        n_batches = max(1, min(-(-n_samples // size), n_samples // fewest))
        return np.array_split(generator(self.seed).permutation(n_samples), n_batches)

    def _require_debiased(self) -> None:
        if not self.debiased:
            raise OptionError(
                "batches need the debiased estimator",
                expected="debiased=True",
                got="debiased=False",
                fix="the biased one depends on the size of the batches",
            )


def hsic(x: Floats, y: Floats, debiased: bool = True) -> float:
    """Return the Hilbert-Schmidt independence criterion of linear kernels, by whichever way is cheaper.

    Parameters
    ----------
    x, y : numpy.ndarray of shape (n_samples, n_features)
        Centred, ``x`` and ``y`` of the same samples.
    debiased : bool
        The U-statistic, whose mean is 0 for independent data; otherwise the V-statistic, which is never negative.

    Returns
    -------
    float

    Examples
    --------
    >>> x = np.array([[-1.5], [-0.5], [0.5], [1.5]])
    >>> round(hsic(x, x, debiased=False), 3)  # the squared covariance, (5 / 3) ** 2
    2.778
    """
    n, product = len(x), _squared_product(x, y)
    if not debiased:
        return product / (n - 1) ** 2
    # Of kernels with an empty diagonal: trace of the product, sum of the product, product of the sums. Rows of a
    # centred kernel sum to 0, so that only what was on the diagonal is left in the sums.
    x_diagonal, y_diagonal = (x**2).sum(1), (y**2).sum(1)
    mixed = float(x_diagonal @ y_diagonal)
    sums = float(x_diagonal.sum() * y_diagonal.sum())
    return (product - mixed + sums / ((n - 1) * (n - 2)) - 2 / (n - 2) * mixed) / (n * (n - 3))


def _squared_product(x: Floats, y: Floats) -> float:
    """Return the trace of the product of both kernels, from products of features or of samples."""
    n, p, q = len(x), x.shape[1], y.shape[1]
    if p * q <= n * (p + q):
        return float(((x.T @ y) ** 2).sum())
    kernel = x @ x.T
    return float((kernel * (kernel if y is x else y @ y.T)).sum())


def _similarity(totals: Floats) -> float:
    shared, one, other = totals
    if one <= 0 or other <= 0:
        raise InputError(
            f"{'X' if one <= 0 else 'Y'} has no geometry to compare",
            expected="features that differ between samples",
            got="variance 0",
        )
    return float(shared / np.sqrt(one * other))
