"""Representational similarity analysis: one number for two data sets, one evaluation for models and subjects."""

from __future__ import annotations

import warnings
from typing import Any

from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.random import SeedLike
from neuros_mechint.neuro.alignment.rsa.compare import METHODS, check_varied, similarities
from neuros_mechint.neuro.alignment.rsa.inference.entrants import entrants
from neuros_mechint.neuro.alignment.rsa.inference.evaluate import check_setting, evaluate
from neuros_mechint.neuro.alignment.rsa.inference.result import RSAEvaluation
from neuros_mechint.neuro.alignment.rsa.rdm import MEASURES, compute_rdm
from neuros_mechint.neuro.alignment.rsa.stack import rdm_stack
from neuros_mechint.neuro.alignment.samples import paired

_PLAIN = ("correlation", "euclidean", "poisson")
"""Dissimilarities that patterns alone determine."""


class RSA:
    """Representational similarity analysis.

    Parameters
    ----------
    rdm : {"correlation", "euclidean", "poisson", "mahalanobis", "crossnobis"}
        How patterns become dissimilarities; see `compute_rdm`. `score` takes the first three, which need neither folds
        nor noise.
    compare : {"spearman", "corr", "cosine", "tau-a", "rho-a", "corr_cov", "cosine_cov"}
        How RDMs are compared; see `compare_rdms`.

    Raises
    ------
    OptionError
        Unknown measure.

    References
    ----------
    Kriegeskorte, Mur and Bandettini 2008, Representational similarity analysis, doi:10.3389/neuro.06.004.2008;
    Nili et al. 2014, doi:10.1371/journal.pcbi.1003553; Schütt et al. 2023, doi:10.7554/eLife.82566

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> patterns = np.random.default_rng(0).normal(size=(20, 50))
    >>> rotated = patterns @ np.linalg.qr(np.random.default_rng(1).normal(size=(50, 50)))[0]
    >>> round(nm.RSA(rdm="euclidean", compare="corr").score(patterns, rotated), 6)
    1.0
    """

    def __init__(self, rdm: str = "correlation", compare: str = "spearman") -> None:
        check_option("rdm", rdm, MEASURES)
        check_option("compare", compare, METHODS)
        self.rdm = rdm
        self.compare = compare

    def __repr__(self) -> str:
        return f"RSA(rdm={self.rdm!r}, compare={self.compare!r})"

    def score(self, X: Any, Y: Any) -> float:
        """Return the similarity of the RDMs of two sets of patterns of the same stimuli; nothing is fitted.

        Parameters
        ----------
        X, Y : array_like, torch.Tensor, xarray.DataArray or Recording
            One row per stimulus, ``(n_stimuli, ...)``. Labelled data are joined by label.

        Returns
        -------
        float

        Raises
        ------
        InputError
            Different stimuli, fewer than three, values that are not finite, or patterns that have no RDM.

        Examples
        --------
        >>> import numpy as np, neuros_mechint as nm
        >>> patterns = np.random.default_rng(0).normal(size=(10, 5))
        >>> round(nm.RSA().score(patterns, 2 * patterns + 1), 6)
        1.0
        """
        if self.rdm not in _PLAIN:
            raise InputError(
                f"score knows neither folds nor noise, which {self.rdm} needs",
                expected="rdm " + ", ".join(map(repr, _PLAIN)),
                fix="compute the RDMs with compute_rdm, and compare them with compare_rdms or evaluate",
            )
        x, y, _ = paired(X, Y)
        first, second = (
            rdm_stack(compute_rdm(values, method=self.rdm), f"RDM of {name}") for values, name in ((x, "X"), (y, "Y"))
        )
        for stack, name in ((first, "X"), (second, "Y")):
            check_varied(stack.pairs, self.compare, name)
        return float(similarities(first.pairs, second.pairs, self.compare).item())

    def evaluate(
        self,
        models: Any,
        data: Any,
        inference: str = "bootstrap",
        over: str = "both",
        n_resamples: int = 1000,
        seed: SeedLike = 0,
        correction: str = "fdr",
        n_jobs: int | None = None,
    ) -> RSAEvaluation:
        """Return how well models explain the RDMs of several subjects, and how surely.

        The score of a model is the mean over subjects of the similarity with their RDMs. What is uncertain about it
        depends on what else could have been measured: other subjects, other conditions (stimuli), or both.

        Parameters
        ----------
        models : mapping, RDMModel, array_like, torch.Tensor, xarray.DataArray or rsatoolbox RDMs
            Names with one RDM or `RDMModel` each, or a stack of RDMs. Labelled RDMs are joined to the data by label.
            With a model that is fitted (select, weighted, interpolate), by the measure of this object, all models are
            evaluated on conditions and subjects that were left out of the fit, in every resample.
        data : array_like, torch.Tensor, xarray.DataArray or rsatoolbox RDMs
            One RDM per subject, ``(n_subjects, n, n)`` or ``(n_subjects, n_pairs)``. No pair may be missing.
        inference : {"bootstrap", "dual", "permutation"}
            ``bootstrap`` draws subjects or conditions with replacement; t intervals and t tests with the standard
            error of the draws. Over both it is conservative, because it counts the noise of measurement three times;
            ``dual`` draws each alone too and takes that out. ``permutation`` gives exact p values: for conditions,
            their labels are permuted (is the model like the data at all?); for subjects, scores and differences
            change their sign; for both, p is the larger of the two. Only over subjects it compares models with each
            other and with the ceilings.
        over : {"both", "conditions", "subjects"}
            To what the statement should generalise. One subject allows ``conditions`` only.
        n_resamples : int
            Draws or permutations; where there are fewer permutations, all of them are tried.
        seed : int or numpy.random.Generator
        correction : {"fdr", "holm", "none"}
            For the number of models, of pairs of models, and of comparisons with each ceiling; see `adjust_p`.
        n_jobs : int or None
            Resamples or permutations computed at the same time, which changes no number; see
            `neuros_mechint.core.parallel.parallel_map`. Models that are fitted take one after the other.

        Returns
        -------
        RSAEvaluation

        Raises
        ------
        InputError
            Conditions that are not the same, pairs that are missing, fewer than three conditions, RDMs that are not
            symmetric or constant, or one subject with ``over`` other than ``conditions``.
        OptionError
            A setting that does not exist, or a dual bootstrap over one thing.
        CapabilityError
            A permutation test of models that are fitted.

        Warns
        -----
        UserWarning
            Where a test is known to be wrong too often in this setting, or can find nothing; also in ``.warnings``.

        References
        ----------
        Schütt et al. 2023, Statistical inference on representational geometries, doi:10.7554/eLife.82566

        Examples
        --------
        >>> import numpy as np, neuros_mechint as nm
        >>> random = np.random.default_rng(0)
        >>> truth, noise = random.random(190), random.random((8, 190))
        >>> models = {"true": truth, "other": random.random(190)}
        >>> result = nm.RSA(compare="corr").evaluate(models, truth + noise, n_resamples=200)
        >>> result.comparisons["model"].tolist(), bool(result.data["p"].sel(model="true") < 0.001)
        (['true'], True)
        """
        check_setting(inference, over, n_resamples, correction)
        stack = rdm_stack(data, "data")
        candidates = entrants(models, stack)
        result = evaluate(candidates, stack, self.compare, inference, over, n_resamples, seed, correction, n_jobs)
        for text in result.warnings:
            warnings.warn(text, stacklevel=2)
        return result
