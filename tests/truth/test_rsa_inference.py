"""Representational similarity analysis: equal to rsatoolbox draw by draw, and right about what is planted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import spearmanr

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.statistics.p_values import adjust_p
from neuros_mechint.neuro.alignment.rsa.inference.bootstrap import bootstrap
from neuros_mechint.neuro.alignment.rsa.inference.permutation import n_permutations, null_scores, permutation_p
from neuros_mechint.neuro.alignment.rsa.inference.tables import variance
from tests.truth.planted_rdms import N_CONDITIONS, N_DRAWS, N_SUBJECTS, SAME, planted
from tests.truth.rsa_by_rsatoolbox import as_draws, evaluated

METHODS = ("corr", "cosine", "spearman", "rho-a", "tau-a", "corr_cov", "cosine_cov")
OVER = ("both", "conditions", "subjects", "dual")

pytestmark = pytest.mark.filterwarnings("ignore:.*means nothing:UserWarning")


def forced_draws(seed=1):
    """Resamples with the hard cases among them: one subject alone, two and three different conditions."""
    random = np.random.default_rng(seed)
    subjects = random.integers(N_SUBJECTS, size=(N_DRAWS, N_SUBJECTS))
    conditions = random.integers(N_CONDITIONS, size=(N_DRAWS, N_CONDITIONS))
    subjects[:2], subjects[2:] = [[2], [0]], random.integers(N_SUBJECTS, size=(N_DRAWS - 2, N_SUBJECTS))
    conditions[5] = [0, 0, 0, 0, 1, 1, 0, 1, 1]
    conditions[6] = 3
    conditions[7] = [1, 2, 5, 1, 1, 2, 5, 5, 5]
    return subjects, conditions


class TestEqualToRsatoolbox:
    @pytest.mark.parametrize("ties", [False, True], ids=["no ties", "ties"])
    @pytest.mark.parametrize("over", OVER)
    @pytest.mark.parametrize("compare", METHODS)
    def test_scores_and_ceilings_of_the_same_resamples(self, compare, over, ties):
        models, data = planted(ties=ties)
        subjects, conditions = forced_draws()
        _, scores, ceilings = evaluated(over, models, data, subjects, conditions, compare)
        drawn = as_draws("both" if over == "dual" else over, subjects, conditions, N_SUBJECTS, N_CONDITIONS)
        ours = bootstrap(models, data, drawn, compare, dual=over == "dual")
        different = np.array([len(np.unique(row)) for row in conditions]) < 3
        if over != "subjects":
            assert different.sum() == 2
            assert np.isnan(ours.scores[:, :, different]).all()
        defined = ~np.isnan(ours.scores[:, 0])
        constant = (
            self.constant_draws(models, data, conditions, compare) if over != "subjects" else np.zeros((N_DRAWS, 3))
        )
        assert (~defined).sum(1).max() <= (constant.astype(bool) | different[:, None]).sum()
        np.testing.assert_allclose(ours.scores[:, 0][defined], scores[defined], atol=SAME, rtol=0)
        with_ceiling = ~np.isnan(ours.ceilings[:, 0])
        np.testing.assert_allclose(ours.ceilings[:, 0][with_ceiling], ceilings[with_ceiling], atol=SAME, rtol=0)
        assert with_ceiling.mean() > 0.6

    @staticmethod
    def constant_draws(models, data, conditions, compare):
        """Draws in which a model or the data are constant, of which rsatoolbox says zero and this package nothing."""
        rows, columns = np.triu_indices(N_CONDITIONS, 1)
        found = []
        for drawn in conditions:
            kept = np.isin(rows, drawn) & np.isin(columns, drawn)
            if not kept.any():
                found.append(np.ones(len(models), dtype=bool))
                continue
            flat = (lambda x: ~x.any(1)) if compare.startswith("cosine") else (lambda x: np.ptp(x, axis=1) == 0)
            found.append(flat(models[:, kept]) | flat(data[:, kept]).any())
        return np.array(found)

    def test_one_subject_alone_has_no_ceiling_where_rsatoolbox_says_one(self):
        models, data = planted()
        subjects, conditions = forced_draws()
        _, _, ceilings = evaluated("subjects", models, data, subjects, conditions, "corr")
        ours = bootstrap(models, data, as_draws("subjects", subjects, conditions, 4, 9), "corr")
        np.testing.assert_allclose(ceilings[0, :2], 1)
        assert np.isnan(ours.ceilings[0, 0, :2]).all()
        assert np.isfinite(ours.scores[0, 0, :2]).all()

    def test_a_model_constant_among_the_conditions_drawn_is_not_unlike_the_data_but_undefined(self):
        models, data = planted()
        models[0, :3] = models[0, 8:10] = models[0, 15] = 1.0
        conditions = np.array([[0, 1, 2, 3, 0, 1, 2, 3, 3]] * 2)
        conditions[1] = np.arange(9)
        subjects = np.array([np.arange(4)] * 2)
        for compare in ("corr", "spearman", "corr_cov"):
            ours = bootstrap(models, data, as_draws("conditions", subjects, conditions, 4, 9), compare).scores[0, 0]
            assert np.isnan(ours[0, 0])
            assert np.isfinite(ours[0, 1:]).all()
            assert np.isfinite(ours[1]).all()

    @pytest.mark.parametrize("over", OVER)
    @pytest.mark.parametrize("compare", ["corr", "spearman"])
    def test_standard_errors(self, over, compare):
        models, data = planted(n_conditions=20)
        random = np.random.default_rng(3)
        subjects, conditions = random.integers(4, size=(20, 4)), random.integers(20, size=(20, 20))
        subjects[(subjects == subjects[:, :1]).all(1), 0] = 3
        subjects[(subjects == subjects[:, :1]).all(1), 0] = 2
        theirs, _, _ = evaluated(over, models, data, subjects, conditions, compare)
        drawn = as_draws("both" if over == "dual" else over, subjects, conditions, 4, 20)
        ours = bootstrap(models, data, drawn, compare, dual=over == "dual")
        axis = "both" if over == "dual" else over
        np.testing.assert_allclose(variance(ours.scores, axis, 4, 20), theirs.model_var, rtol=1e-9)
        if over != "subjects":  # where rsatoolbox leaves the ceiling out of the covariance it has computed
            below = variance(ours.scores - ours.ceilings[..., :1], axis, 4, 20)
            np.testing.assert_allclose(below, theirs.noise_ceil_var[:, 0], rtol=1e-9)
        pairs = variance(ours.scores[..., [0, 0, 1]] - ours.scores[..., [1, 2, 2]], axis, 4, 20)
        np.testing.assert_allclose(pairs, theirs.diff_var, rtol=1e-9)

    def test_moments_keep_their_digits_where_a_draw_is_nearly_constant(self):
        models, data = planted(seed=5)
        models[0] = 1e6 + models[0]
        models[1, :8] = 1e-9 * np.arange(8)
        subjects, conditions = forced_draws()
        conditions[:, :] = np.random.default_rng(0).integers(4, size=conditions.shape)
        _, scores, _ = evaluated("both", models, data, subjects, conditions, "corr")
        ours = bootstrap(models, data, as_draws("both", subjects, conditions, 4, 9), "corr").scores[0]
        defined = ~np.isnan(ours[0])
        np.testing.assert_allclose(ours[0][defined][:, None], scores[0][defined][:, None], atol=1e-9, rtol=0)


class TestPlanted:
    def test_identical_rdms_score_one(self):
        _, data = planted(n_conditions=12)
        same = np.tile(data[:1], (5, 1))
        for compare in METHODS[:3]:
            result = nm.RSA(compare=compare).evaluate({"same": data[0]}, same, over="subjects", n_resamples=50)
            assert result.main.item() == pytest.approx(1, abs=1e-12)
            assert result.ceilings == pytest.approx((1, 1), abs=1e-12)

    def test_a_monotone_transformation_leaves_spearman_and_changes_pearson(self):
        models, data = planted(n_conditions=12)
        found = {
            compare: nm.RSA(compare=compare).evaluate({"a": models[0], "b": models[0] ** 3}, data, n_resamples=20).main
            for compare in ("spearman", "corr")
        }
        assert float(found["spearman"][0] - found["spearman"][1]) == 0
        assert abs(float(found["corr"][0] - found["corr"][1])) > 0.005

    def test_score_of_patterns_is_the_rank_correlation_of_their_distances(self):
        random = np.random.default_rng(0)
        x, y = random.normal(size=(12, 6)), random.normal(size=(12, 8))
        rows, columns = np.triu_indices(12, 1)
        by_hand = spearmanr(1 - np.corrcoef(x)[rows, columns], 1 - np.corrcoef(y)[rows, columns]).statistic
        assert nm.RSA().score(x, y) == pytest.approx(by_hand, abs=1e-12)
        assert nm.RSA().score(torch.tensor(x), y) == pytest.approx(by_hand, abs=1e-12)
        labels = [f"image {number}" for number in range(12)]
        first = xr.DataArray(x, dims=("stimulus", "unit"), coords={"stimulus": labels})
        second = xr.DataArray(y, dims=("stimulus", "unit"), coords={"stimulus": labels})
        shuffled = second.isel(stimulus=random.permutation(12))
        assert nm.RSA().score(first, shuffled) == pytest.approx(by_hand, abs=1e-12)

    @pytest.mark.parametrize("inference", ["bootstrap", "dual", "permutation"])
    def test_the_better_model_is_found_and_reaches_the_ceiling(self, inference):
        models, data = planted(n_conditions=24, n_subjects=12, seed=2)
        over = "subjects" if inference == "permutation" else "both"
        result = nm.RSA(compare="corr").evaluate(
            {"true": models[0], "half": models[1], "other": models[2]}, data, inference, over, n_resamples=2000
        )
        best = result.comparisons.iloc[0]
        assert (best["model"], best["other_model"]) == ("true", "other")
        assert best["p_adjusted"] < 0.01
        p = result.data["p_adjusted"]
        assert float(p.sel(model="true")) < 0.01
        assert float(p.sel(model="other")) > 0.05
        lower, upper = result.ceilings
        assert lower < upper
        assert float(result.main.sel(model="true")) > lower  # it knows the truth, the mean of others does not
        below = result.data["from_lower_ceiling_p_adjusted"]
        assert float(below.sel(model="other")) < 0.01
        assert "not told apart from zero" in result.summary()

    def test_models_that_another_is_better_than_are_listed_in_the_order_they_were_given(self):
        """Not by how much it is better: layers are looked for in the order of the model."""
        models, data = planted(n_conditions=24, n_models=4, n_subjects=12, seed=2)
        given = {"second": models[1], "best": models[0], "third": models[2], "fourth": models[3]}
        result = nm.RSA(compare="corr").evaluate(given, data, "bootstrap", "subjects", n_resamples=500)
        beaten = result.comparisons.query("model == 'best'")["other_model"].tolist()
        assert beaten[-1] == "second"
        assert "best is better than second, third, fourth" in result.summary()

    def test_joined_by_label_whatever_the_order(self):
        models, data = planted(n_conditions=12)
        labels = [f"image {number}" for number in range(12)]
        coords = {"condition": labels, "other_condition": labels}
        matrix = np.zeros((12, 12))
        rows, columns = np.triu_indices(12, 1)
        matrix[rows, columns] = matrix[columns, rows] = models[1]
        squares = np.zeros((4, 12, 12))
        squares[:, rows, columns] = squares[:, columns, rows] = data
        labelled = xr.DataArray(squares, dims=("subject", *coords), coords=coords)
        model = xr.DataArray(matrix, dims=tuple(coords), coords=coords)
        order = np.random.default_rng(0).permutation(12)
        shuffled = model.isel(condition=order, other_condition=order)
        results = [nm.RSA().evaluate({"m": one}, labelled, n_resamples=50) for one in (model, shuffled)]
        xr.testing.assert_identical(results[0].data, results[1].data)
        by_position = nm.RSA().evaluate({"m": matrix}, squares, n_resamples=50)
        np.testing.assert_array_equal(by_position.main.values, results[0].main.values)
        with pytest.raises(InputError, match="image 11"):
            nm.RSA().evaluate({"m": model.isel(condition=slice(11), other_condition=slice(11))}, labelled)
        with pytest.raises(InputError, match="has none"):
            nm.RSA().evaluate({"m": matrix}, labelled)

    def test_models_in_every_form(self):
        models, data = planted(n_conditions=6)
        rows, columns = np.triu_indices(6, 1)
        squares = np.zeros((3, 6, 6))
        squares[:, rows, columns] = squares[:, columns, rows] = models
        axes = ("model", "condition", "other_condition")
        named = xr.DataArray(squares, dims=axes, coords={"model": ["stem", "block 7", "head"]})
        evaluate = lambda given: nm.RSA().evaluate(given, data, n_resamples=5)  # noqa: E731
        found = evaluate(named)
        assert found.data["model"].values.tolist() == ["stem", "block 7", "head"]
        forms = (models, squares, torch.tensor(squares), nm.to_rsatoolbox(models), dict(enumerate(models)))
        for form in forms:
            other = evaluate(form)
            assert other.data["model"].values.tolist() == ["0", "1", "2"]
            np.testing.assert_array_equal(other.main.values, found.main.values)
        one = evaluate(nm.RDMModel(models[0]))
        assert one.main.item() == pytest.approx(found.main.values[0], abs=1e-12)


class TestStatements:
    def test_intervals_and_tests_from_standard_errors_by_hand(self):
        from scipy.stats import t

        models, data = planted(n_conditions=15, n_subjects=6)
        result = nm.RSA(compare="corr").evaluate(models, data, over="subjects", n_resamples=400, correction="holm")
        draws = result.data["resampled_score"].values[0, 0]
        error = draws.std(0, ddof=1) * np.sqrt(6 / 5)
        scores = np.corrcoef(np.concatenate([models, data]))[:3, 3:].mean(1)
        np.testing.assert_allclose(result.main, scores, atol=1e-12)
        np.testing.assert_allclose(result.data["error"], error, rtol=1e-9)
        np.testing.assert_allclose(result.data["high"] - scores, t.ppf(0.975, 5) * error, rtol=1e-9)
        p = 2 * t.sf(np.abs(scores) / error, 5)
        np.testing.assert_allclose(result.data["p"], p, rtol=1e-9)
        np.testing.assert_allclose(result.data["p_adjusted"], adjust_p(p, "holm"), rtol=1e-9)
        # over subjects it is the t interval of the mean, up to the noise of the resamples
        sem = np.corrcoef(np.concatenate([models, data]))[:3, 3:].std(1, ddof=1) / np.sqrt(6)
        np.testing.assert_allclose(result.data["error"], sem, rtol=0.12)

    def test_every_permutation_of_few_conditions_is_tried(self):
        models, data = planted(n_conditions=5)
        scores = null_scores(models, data, "corr", 1000, np.random.default_rng(0))
        assert len(scores) == n_permutations(5, 1000) == 120
        assert len(np.unique(np.round(scores[:, 0], 9))) == 120
        np.testing.assert_allclose(scores.mean(0), 0, atol=1e-12)
        observed = np.corrcoef(np.concatenate([models, data]))[:3, 3:].mean(1)
        np.testing.assert_allclose(scores[0], observed, atol=1e-12)
        by_hand = (np.abs(scores) >= np.abs(observed) - 1e-9).mean(0)
        np.testing.assert_allclose(permutation_p(scores), by_hand, atol=1e-12)

    @pytest.mark.parametrize("compare", METHODS)
    def test_permuted_scores_are_those_of_permuted_rdms(self, compare):
        from neuros_mechint.neuro.alignment.rsa.compare import similarities
        from neuros_mechint.neuro.alignment.rsa.stack import RDMStack

        models, data = planted(n_conditions=8)
        scores = null_scores(models, data, compare, 3, np.random.default_rng(4))
        random = np.random.default_rng(4)
        for row in range(1, 4):
            permuted = RDMStack(data, 8).take(random.permutation(8)).pairs
            np.testing.assert_allclose(scores[row], similarities(models, permuted, compare).mean(1), atol=1e-12)

    def test_over_both_the_larger_exact_p_counts(self):
        models, data = planted(n_conditions=16, n_subjects=10)
        found = {
            over: nm.RSA(compare="corr").evaluate(models, data, "permutation", over, n_resamples=499)
            for over in ("both", "conditions", "subjects")
        }
        larger = np.maximum(found["conditions"].data["p"], found["subjects"].data["p"])
        np.testing.assert_allclose(found["both"].data["p"], larger, atol=0.02)
        for over in ("both", "conditions"):  # exact for these conditions, which is not what was asked
            assert np.isnan(found[over].data["difference_p"]).all()
            assert np.isnan(found[over].data["from_lower_ceiling_p"]).all()
            assert "models were not compared" in found[over].summary()
        assert np.isfinite(found["subjects"].comparisons["p"]).all()

    def test_the_dual_bootstrap_is_between_one_factor_and_both(self):
        models, data = planted(n_conditions=30, n_subjects=10)
        errors = {
            name: nm.RSA(compare="corr").evaluate(models, data, inference, over, n_resamples=400).data["error"].values
            for name, inference, over in (
                ("dual", "dual", "both"),
                ("both", "bootstrap", "both"),
                ("subjects", "bootstrap", "subjects"),
            )
        }
        assert (errors["dual"] <= errors["both"] * 1.001).all()
        assert (errors["dual"] >= errors["subjects"] * 0.999).all()
        assert (errors["dual"][0] < 0.85 * errors["both"][0]).all()  # the noise of measurement is counted three times

    def test_a_cosine_says_that_zero_is_no_chance_level(self):
        models, data = planted(n_conditions=12)
        with pytest.warns(UserWarning, match="means nothing"):
            result = nm.RSA(compare="cosine").evaluate(models, data, n_resamples=50)
        assert result.data["p"].max() < 0.001  # the model of pure noise, too
        exact = nm.RSA(compare="cosine").evaluate(models, data, "permutation", "conditions", n_resamples=200)
        assert float(exact.data["p"][2]) > 0.05

    def test_seeds(self):
        models, data = planted()
        evaluate = lambda seed: nm.RSA().evaluate(models, data, n_resamples=30, seed=seed).data["error"].values  # noqa: E731
        np.testing.assert_array_equal(evaluate(0), evaluate(0))
        assert (evaluate(0) != evaluate(1)).all()

    def test_it_is_a_result(self, tmp_path):
        models, data = planted(n_conditions=12)
        result = nm.RSA().evaluate({"a": models[0], "b": models[1]}, data, n_resamples=40)
        assert nm.load_result(result.save(tmp_path / "rsa.nc")) == result
        table = result.to_dataframe()
        assert table["model"].tolist() == ["a", "b"]
        assert {"score", "low", "high", "p", "p_adjusted", "lower_ceiling", "upper_ceiling", "n_dropped"} <= set(table)
        axes = result.plot()
        assert axes.get_ylabel() == "similarity to the data, spearman"
        assert {"noise ceiling,\nlower to upper", "95% interval"} <= {
            text.get_text() for text in axes.get_legend().get_texts()
        }
        assert "of the lower and" in result.summary()
        assert result.citations == ("kriegeskorte2008", "nili2014", "schutt2023")


class TestRefused:
    def test_one_subject_allows_conditions_only(self):
        models, data = planted(n_conditions=12, n_subjects=1)
        for over in ("both", "subjects"):
            with pytest.raises(InputError, match="over='conditions'"):
                nm.RSA().evaluate(models, data, over=over)
        with pytest.warns(UserWarning, match="one subject"):
            result = nm.RSA().evaluate(models, data, over="conditions", n_resamples=50)
        assert np.isnan(result.ceilings).all()
        assert np.isfinite(result.data["error"]).all()
        assert result.attributes["n_degenerate_ceilings"] == 0
        result.plot()

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"inference": "jackknife"}, OptionError),
            ({"over": "models"}, OptionError),
            ({"correction": "bonferoni"}, OptionError),
            ({"inference": "dual", "over": "subjects"}, OptionError),
            ({"n_resamples": 1}, OptionError),
            ({"n_resamples": 0}, InputError),
            ({"seed": None}, InputError),
        ],
    )
    def test_settings(self, options, error):
        models, data = planted()
        with pytest.raises(error):
            nm.RSA().evaluate(models, data, **options)

    def test_data(self):
        models, data = planted()
        with pytest.raises(OptionError, match="spearman"):
            nm.RSA(compare="spearmann")
        with pytest.raises(InputError, match="too few conditions"):
            nm.RSA().evaluate(np.ones((2, 1)), np.ones((2, 1)))
        missing = data.copy()
        missing[0, 0] = np.nan
        with pytest.raises(InputError, match="NaN"):
            nm.RSA().evaluate(models, missing)
        with pytest.raises(InputError, match="symmetric"):
            nm.RSA().evaluate(models, np.triu(np.ones((9, 9)), 1)[None])
        with pytest.raises(InputError, match="the same for all pairs"):
            nm.RSA().evaluate({"flat": np.ones(36)}, data)
        with pytest.raises(InputError, match="numbers of samples"):
            nm.RSA().evaluate(models[:, :28], data)
        with pytest.raises(InputError, match="name of their own"):
            nm.RSA().evaluate({}, data)
        with pytest.raises(InputError, match="not one RDM"):
            nm.RSA().evaluate({"several": models}, data)
        with pytest.raises(InputError, match="numbers of samples"):
            nm.RSA().score(np.ones((4, 2)), np.ones((5, 2)))

    def test_many_degenerate_draws_are_counted_and_said(self):
        models, data = planted(n_conditions=4)
        with pytest.warns(UserWarning, match="degenerate"):
            result = nm.RSA().evaluate(models, data, n_resamples=200)
        share = result.attributes["n_degenerate"] / 200
        assert 0.1 < share < 0.6
        dropped = np.isnan(result.data["resampled_score"].values).any((0, 1)).sum(0)
        np.testing.assert_array_equal(result.data["n_dropped"], dropped)
        assert f"{result.attributes['n_degenerate']} of 200 resamples were degenerate" in result.summary()
