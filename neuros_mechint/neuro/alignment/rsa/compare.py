"""How alike RDMs are: correlations, rank correlations, and both with the covariance of the pairs taken out."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.labels import as_numpy
from neuros_mechint.neuro.alignment.rsa.stack import RDMStack, n_conditions, rdm_stack, same_conditions
from neuros_mechint.neuro.alignment.rsa.whitening import Whitening
from neuros_mechint.neuro.alignment.samples import same_kind

Mask: TypeAlias = npt.NDArray[np.bool_]

METHODS = ("spearman", "corr", "cosine", "tau-a", "rho-a", "corr_cov", "cosine_cov")
"""Measures of similarity of RDMs."""

WHITENED = ("corr_cov", "cosine_cov")

_RANKED = ("spearman", "rho-a")
_NEEDS_NO_MEAN = ("cosine", "cosine_cov")
_FEWEST_PAIRS = 3


def compare_rdms(a: Any, b: Any, method: str = "corr", *, sigma_k: Any = None, missing: str = "raise") -> Any:
    """Return the similarity of every RDM of ``a`` with every RDM of ``b``.

    Parameters
    ----------
    a, b : array_like, torch.Tensor, xarray.DataArray or rsatoolbox RDMs
        One RDM or several each: ``(n, n)``, ``(n_pairs,)``, ``(n_rdms, n, n)`` or ``(n_rdms, n_pairs)``. Where both
        have labels of conditions they are joined by label.
    method : {"corr", "cosine", "spearman", "tau-a", "rho-a", "corr_cov", "cosine_cov"}
        Pearson correlation, cosine, Spearman correlation, Kendall's tau-a, Spearman correlation with ties broken at
        random (its expectation), and the first two with the pairs whitened: dissimilarities that share a condition
        share its noise. With ties in a model, Spearman's favours it; tau-a and rho-a do not.
    sigma_k : array_like or torch.Tensor of shape (n, n) or (n,), optional
        For the whitened measures: covariance of the pattern estimates over conditions, or their variances. Without it
        conditions are independent with equal variance.
    missing : {"raise", "drop"}
        What to do about pairs that are NaN. ``drop`` leaves out, for all RDMs, each pair that is NaN in any.

    Returns
    -------
    numpy.ndarray or torch.Tensor of shape (n_a, n_b)
        Of the kind of ``a``.

    Raises
    ------
    InputError
        Other conditions; fewer than three conditions or pairs; RDMs that are the same for all pairs (for cosines:
        zero); NaN; a covariance that is not positive definite, is given for a measure that does not know it, or
        together with missing pairs.
    OptionError
        Unknown measure.

    Notes
    -----
    Memory grows with the number of RDMs times pairs, also for the whitened measures: their covariance
    ``(n_pairs, n_pairs)`` has a structure by which its inverse acts on one RDM as two products of ``(n, n)`` matrices.

    References
    ----------
    Nili et al. 2014, doi:10.1371/journal.pcbi.1003553; Diedrichsen et al. 2021, Comparing representational geometries
    using whitened unbiased-distance-matrix similarity, doi:10.51628/001c.27664; Schütt et al. 2023,
    doi:10.7554/eLife.82566

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> nm.compare_rdms([1.0, 2.0, 4.0], [[10.0, 20.0, 40.0], [3.0, 2.0, 1.0]], method="spearman").round(6).tolist()
    [[1.0, -1.0]]
    """
    check_option("method", method, METHODS)
    check_option("missing", missing, ("raise", "drop"))
    policy = "keep" if missing == "drop" else "raise"
    first, second = same_conditions(rdm_stack(a, "a", policy), rdm_stack(b, "b", policy), ("a", "b"))
    kept: Mask = np.logical_not(np.isnan(first.pairs).any(0) | np.isnan(second.pairs).any(0))
    if kept.sum() < _FEWEST_PAIRS:
        raise InputError("too few pairs to compare", expected=f"at least {_FEWEST_PAIRS}", got=int(kept.sum()))
    for stack, name in ((first, "a"), (second, "b")):
        check_varied(stack.pairs if kept.all() else stack.pairs[:, kept], method, name)
    covariance = _covariance(sigma_k, method, first, kept)
    return same_kind(similarities(_gaps(first, kept), _gaps(second, kept), method, covariance), a)


def _gaps(stack: RDMStack, kept: Mask) -> Floats:
    return stack.pairs if kept.all() else np.where(kept, stack.pairs, np.nan)


def similarities(first: Floats, second: Floats, method: str, covariance: Floats | None = None) -> Floats:
    """Return the similarity of every RDM of ``first`` with every one of ``second``.

    Parameters
    ----------
    first, second : numpy.ndarray of shape (n_rdms, n_pairs)
        NaN in the same places in all.
    method : str
    covariance : numpy.ndarray of shape (n, n), optional
        See ``sigma_k`` of `compare_rdms`.

    Returns
    -------
    numpy.ndarray of shape (n_first, n_second)
        NaN for RDMs that have no similarity with any; see `without_variance`.

    Examples
    --------
    >>> similarities(np.array([[1.0, 2.0, 3.0]]), np.array([[3.0, 2.0, 1.0]]), "tau-a").tolist()
    [[-1.0]]
    """
    if method == "tau-a":
        kept = ~np.isnan(first[0])
        return _tau_a(first[:, kept], second[:, kept])
    return directions(first, method, covariance) @ directions(second, method, covariance).T


def directions(rdms: Floats, method: str, covariance: Floats | None = None) -> Floats:
    """Return the vectors whose products are the similarities; NaN where there are none.

    Parameters
    ----------
    rdms : numpy.ndarray of shape (n_rdms, n_pairs)
        NaN in the same places in all.
    method : str
        Any but ``tau-a``.
    covariance : numpy.ndarray of shape (n, n), optional

    Returns
    -------
    numpy.ndarray of shape (n_rdms, n_kept) or (n_rdms, n (n + 1) / 2)
        The longer ones are whitened RDMs.

    Examples
    --------
    >>> one, other = directions(np.array([[0.1, 0.2, 0.7], [3.0, 4.0, 9.0]]), "spearman")
    >>> round(float(one @ other), 6)
    1.0
    """
    return directions_and_lengths(rdms, method, covariance)[0]


def directions_and_lengths(rdms: Floats, method: str, covariance: Floats | None = None) -> tuple[Floats, Floats]:
    """Return the vectors of `directions`, and the length ``(n_rdms,)`` that each had before.

    Examples
    --------
    >>> directions_and_lengths(np.array([[3.0, 4.0, 0.0]]), "cosine")[1].tolist()
    [5.0]
    """
    from scipy.stats import rankdata

    kept = ~np.isnan(rdms[0])
    whitening = Whitening(kept, n_conditions(len(kept), "rdms"), covariance) if method in WHITENED else None
    found = np.empty((len(rdms), int(kept.sum()) if whitening is None else whitening.length))
    lengths = np.ones(len(rdms))
    for row, rdm in enumerate(rdms):  # one at a time: what comes in between is as large as an RDM, not as all of them
        values = rdm if kept.all() else rdm[kept]
        values = rankdata(values) if method in _RANKED else values
        if method not in _NEEDS_NO_MEAN:
            values = values - values.mean()
        if method == "rho-a":
            found[row] = values * np.sqrt(12 / (len(values) ** 3 - len(values)))
            continue
        largest = np.abs(values).max()  # squares of tiny numbers vanish
        if not largest:
            found[row] = np.nan
            continue
        values = values / largest if whitening is None else whitening(values / largest)
        length = np.sqrt(values @ values)
        found[row] = values / length
        lengths[row] = length * largest
    return found, lengths


def _tau_a(first: Floats, second: Floats) -> Floats:
    """Return Kendall's tau-a: concordant less discordant pairs of entries, as a share of all pairs of entries."""
    from scipy.stats import kendalltau, rankdata

    n_all = first.shape[1] * (first.shape[1] - 1) / 2
    ranks = [np.stack([rankdata(rdm, "dense") for rdm in rdms]) for rdms in (first, second)]
    untied = [[n_all - _n_tied(rdm) for rdm in rdms] for rdms in ranks]
    found = np.zeros((len(first), len(second)))
    for row, (one, n_one) in enumerate(zip(ranks[0], untied[0], strict=True)):
        for column, (other, n_other) in enumerate(zip(ranks[1], untied[1], strict=True)):
            if n_one and n_other:
                tau_b, _ = kendalltau(one, other, method="asymptotic")
                # scipy's is that difference by the root of what is not tied; the difference is an integer
                found[row, column] = round(tau_b * np.sqrt(n_one) * np.sqrt(n_other)) / n_all
    return found


def _n_tied(ranks: npt.NDArray[np.integer]) -> int:
    counts = np.bincount(ranks)
    return int((counts * (counts - 1) // 2).sum())


def without_variance(pairs: Floats, method: str) -> Mask:
    """Return which RDMs are like no other: those that are the same for all pairs, for cosines those that are zero.

    Examples
    --------
    >>> without_variance(np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]]), "corr").tolist()
    [True, False]
    """
    return np.asarray(~pairs.any(1) if method in _NEEDS_NO_MEAN else pairs.max(1) == pairs.min(1))


def check_varied(pairs: Floats, method: str, name: str) -> None:
    """Raise `InputError` where an RDM is the same for all pairs of conditions.

    Also for tau-a and rho-a, which are zero by definition there: such an RDM says nothing, and zero would hide it.

    Examples
    --------
    >>> check_varied(np.array([[1.0, 2.0, 3.0]]), "corr", "data")
    """
    constant = np.flatnonzero(without_variance(pairs, method))
    if constant.size:
        kind = "zero" if method in _NEEDS_NO_MEAN else "the same"
        raise InputError(
            f"an RDM of {name} is {kind} for all pairs, so that it is like no other",
            expected="dissimilarities that differ",
            got=f"RDMs {constant[:5].tolist()} are constant",
            fix="leave them out, or look for patterns that do not change with the condition",
        )


def _covariance(sigma_k: Any, method: str, stack: RDMStack, kept: Mask) -> Floats | None:
    """Return the covariance of pattern estimates as a matrix."""
    if sigma_k is None:
        return None
    values = np.asarray(as_numpy(sigma_k) if isinstance(sigma_k, torch.Tensor) else sigma_k, dtype=np.float64)
    matrix = np.diag(values) if values.ndim == 1 else values
    size = stack.n_conditions
    if method not in WHITENED or not kept.all():
        raise InputError(
            f"{method} knows no covariance of patterns" if method not in WHITENED else "sigma_k and pairs are missing",
            expected="sigma_k with corr_cov or cosine_cov, and all pairs",
            fix="leave sigma_k out",
        )
    symmetric = matrix.shape == (size, size) and np.isfinite(matrix).all() and np.allclose(matrix, matrix.T)
    if not symmetric or np.linalg.eigvalsh(matrix)[0] <= 0:
        raise InputError(
            "sigma_k is no covariance of the pattern estimates",
            expected=f"a positive definite matrix ({size}, {size}), or {size} variances",
            got=f"shape {values.shape}",
        )
    return matrix
