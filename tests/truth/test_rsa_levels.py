"""Tests of RSA keep their level in simulations, and fitted models are held out."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import neuros_mechint as nm
from neuros_mechint.core.errors import CapabilityError, InputError
from neuros_mechint.neuro.alignment.rsa.inference.bootstrap import Evaluations, bootstrap
from neuros_mechint.neuro.alignment.rsa.inference.draws import draw
from neuros_mechint.neuro.alignment.rsa.inference.permutation import null_scores, permutation_p
from neuros_mechint.neuro.alignment.rsa.inference.tables import Observed, from_bootstrap, from_permutation
from tests.truth.planted_rdms import SAME, planted

pytestmark = pytest.mark.filterwarnings("ignore:.*means nothing:UserWarning")


def rdm_of(patterns):
    rows, columns = np.triu_indices(patterns.shape[-2], 1)
    return ((patterns[..., rows, :] - patterns[..., columns, :]) ** 2).sum(-1)


class TestFitted:
    def test_a_mixture_is_found_and_a_wrong_family_is_not(self):
        random = np.random.default_rng(0)
        parts = rdm_of(random.normal(size=(2, 20, 4)))
        wrong = rdm_of(random.normal(size=(2, 20, 4)))
        data = parts.sum(0) + 3 * random.random((6, 190))
        models = {
            "mixture": nm.RDMModel(parts, kind="weighted"),
            "one of them": nm.RDMModel(parts, kind="select"),
            "wrong": nm.RDMModel(wrong, kind="weighted"),
            "fixed": parts.sum(0),
        }
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        result = nm.RSA(compare="corr").evaluate(models, data, "dual", n_resamples=12)
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
        scores = result.main
        assert float(scores.sel(model="mixture")) > 0.8
        assert float(scores.sel(model="mixture")) == pytest.approx(float(scores.sel(model="fixed")), abs=0.03)
        assert float(scores.sel(model="one of them")) < float(scores.sel(model="mixture")) - 0.1
        assert abs(float(scores.sel(model="wrong"))) < 0.3
        assert result.data.sizes["repeat"] == 2
        with pytest.raises(CapabilityError, match="mixture"):
            nm.RSA().evaluate(models, data, "permutation")

    @pytest.mark.parametrize("compare", ["corr", "spearman", "cosine_cov", "tau-a"])
    def test_one_resample_is_that_of_rsatoolbox(self, compare):
        import warnings

        import rsatoolbox.inference.evaluate as toolbox
        from rsatoolbox.rdm import RDMs

        from neuros_mechint.neuro.alignment.rsa.inference.entrants import entrants
        from neuros_mechint.neuro.alignment.rsa.inference.folds import FittedModels, cross_validated
        from neuros_mechint.neuro.alignment.rsa.stack import rdm_stack

        models, data = planted(n_conditions=20, n_subjects=6)
        stack = rdm_stack(data)
        family = entrants({"select": nm.RDMModel(models, "select"), "fixed": models[0]}, stack)
        fitted = FittedModels(family, stack, compare)
        random = np.random.default_rng(2)
        conditions, subjects = random.integers(20, size=20), random.integers(6, size=6)
        state = np.random.get_state()  # noqa: NPY002
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours = cross_validated(fitted, np.bincount(conditions, minlength=20), np.bincount(subjects, minlength=6), 1)
            np.random.set_state(state)  # noqa: NPY002
            sample = RDMs(data).subsample("index", subjects).subsample_pattern("index", conditions)
            scores, ceilings = toolbox._internal_cv(
                fitted.models, sample, "index", "index", conditions, *fitted.n_folds, compare, None
            )
        np.testing.assert_allclose(ours[0][0], scores[0].mean(-1), atol=SAME, rtol=0)
        np.testing.assert_allclose(ours[1][0], ceilings, atol=SAME, rtol=0)

    def test_kendalls_tau_and_few_conditions(self):
        models, data = planted(n_conditions=14, n_subjects=4)
        family = {"select": nm.RDMModel(models, "select")}
        result = nm.RSA(compare="tau-a").evaluate(family, data, over="subjects", n_resamples=3)
        assert 0 < result.main.item() < result.ceilings[1]
        models, data = planted(n_conditions=5)
        with pytest.raises(InputError, match="too few conditions to fit"):
            nm.RSA().evaluate({"select": nm.RDMModel(models, "select")}, data)


def test_a_large_analysis_streams():
    """400 conditions x 200 resamples would be 128 MB of weights, and 128 products of pairs 82 MB."""
    random = np.random.default_rng(0)
    n_pairs = 400 * 399 // 2
    rdms = random.random((18, n_pairs))
    drawn = draw("both", 200, 400, 8, random)
    tracemalloc.start()
    found = bootstrap(rdms[:10], rdms[10:], drawn, "corr")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(found.scores).all()
    assert peak < 80e6, f"{peak / 1e6:.0f} MB"


def simulated(random, n_conditions, n_subjects, shared):
    """Two models without the signal that all subjects share."""
    signal = random.normal(size=(n_conditions, 10)) if shared else 0.0
    data = rdm_of(signal + 1.5 * random.normal(size=(n_subjects, n_conditions, 10)))
    return rdm_of(random.normal(size=(2, n_conditions, 10))), data


def rejected(inference, over, n_conditions, n_subjects, n_simulations, n_resamples, seed):
    """Share of simulations in which a model without the signal differs from zero at .05."""
    from neuros_mechint.neuro.alignment.rsa.compare import similarities

    random = np.random.default_rng(seed)
    found = 0
    for _ in range(n_simulations):
        models, data = simulated(random, n_conditions, n_subjects, over != "subjects")
        by_subject = similarities(models[:1], data, "corr")
        observed = Observed(by_subject.mean(1), np.zeros(2), by_subject, np.zeros((2, n_subjects)))
        if inference == "permutation":
            exact = (
                permutation_p(null_scores(models[:1], data, "corr", n_resamples, random))
                if over != "subjects"
                else None
            )
            tested = from_permutation(observed, exact, over, n_resamples, int(random.integers(2**32)))
        else:
            drawn = draw(over, n_resamples, n_conditions, n_subjects, random)
            outcome = bootstrap(models[:1], data, drawn, "corr", inference == "dual")
            outcome = Evaluations(outcome.scores, np.zeros_like(outcome.ceilings), np.zeros_like(outcome.ceilings))
            tested = from_bootstrap(observed, outcome, over, n_subjects, n_conditions)
        found += int(tested.models.p[0] <= 0.05)
    return found / n_simulations


N_SIMULATIONS = 4000


@pytest.mark.slow
@pytest.mark.parametrize("n_subjects", [4, 6, 8, 12, 20])
@pytest.mark.parametrize("over", ["subjects", "conditions"])
def test_exact_tests_keep_their_level(over, n_subjects):
    """Two standard errors of 4,000 simulations are .007; the numbers are in the method card."""
    share = rejected("permutation", over, 12, n_subjects, N_SIMULATIONS, 499, seed=n_subjects)
    assert share <= 0.06
    if n_subjects >= 8 or over == "conditions":
        assert share >= 0.04
    elif n_subjects == 4:
        assert share == 0  # p is at least .125


@pytest.mark.slow
@pytest.mark.parametrize("n_subjects", [4, 6, 8, 12, 20])
@pytest.mark.parametrize(
    ("inference", "over"), [("bootstrap", "subjects"), ("bootstrap", "conditions"), ("dual", "both")]
)
def test_bootstrap_tests_are_not_wrong_more_often_than_said(inference, over, n_subjects):
    share = rejected(inference, over, 12, n_subjects, N_SIMULATIONS, 300, seed=n_subjects)
    assert share <= 0.065
    if over == "subjects":
        assert share >= 0.04


@pytest.mark.slow
@pytest.mark.parametrize("inference", ["bootstrap", "permutation"])
@pytest.mark.parametrize("n_subjects", [4, 8, 20])
def test_a_model_at_the_lower_ceiling_is_seldom_said_to_be_below(inference, n_subjects):
    """A model whose expected score is the expected lower ceiling, by the closed form for Pearson's correlation."""
    from neuros_mechint.neuro.alignment.rsa.inference.evaluate import observe

    random, alike, n_pairs = np.random.default_rng(n_subjects), 0.3, 780
    quality = np.sqrt(alike * (n_subjects - 1) / (1 + (n_subjects - 2) * alike))
    found = 0
    for _ in range(1000):
        signal, noise = random.normal(size=(2, n_pairs))
        signal = (signal - signal.mean()) / signal.std()
        noise -= noise.mean() + noise @ signal / n_pairs * signal
        data = np.sqrt(alike) * signal + np.sqrt(1 - alike) * random.normal(size=(n_subjects, n_pairs))
        model = (quality * signal + np.sqrt(1 - quality**2) * noise / noise.std())[None]
        observed = observe(model, data, "corr")
        if inference == "permutation":
            tested = from_permutation(observed, None, "subjects", 299, int(random.integers(2**32)))
        else:
            outcome = bootstrap(model, data, draw("subjects", 300, 40, n_subjects, random), "corr")
            tested = from_bootstrap(observed, outcome, "subjects", n_subjects, 40)
        found += int(tested.from_ceilings[0].p[0] <= 0.05)
    assert found / 1000 <= 0.08  # .065 and two standard errors of 1,000 simulations
    if (inference, n_subjects) != ("permutation", 4):
        assert found / 1000 >= 0.025  # the ceilings of draws alone would never find it
