"""Models of RDMs that are fitted, and RDMs on their way to rsatoolbox and back."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from rsatoolbox.model import ModelInterpolate, ModelSelect, ModelWeighted, fitter
from rsatoolbox.rdm import RDMs

import neuros_mechint as nm
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError

N_CONDITIONS = 20
N_PAIRS = N_CONDITIONS * (N_CONDITIONS - 1) // 2
METHODS = ("corr", "cosine", "spearman", "tau-a", "rho-a", "corr_cov", "cosine_cov")
FITTED = ("select", "weighted", "interpolate")
SEEDS = range(3)


def planted(weights, seed, noise=0.0, n_subjects=3):
    """Parts, and subjects whose RDMs are their weighted sum and noise."""
    random = np.random.default_rng(seed)
    parts = random.random((len(weights), N_PAIRS))
    return parts, np.asarray(weights) @ parts + noise * random.normal(size=(n_subjects, N_PAIRS))


class TestWeighted:
    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("compare", METHODS)
    def test_planted_weights_come_back(self, compare, seed):
        parts, data = planted([0.6, 0.0, 0.8], seed)
        model = nm.RDMModel(parts, "weighted", compare).fit(data)
        assert np.abs(model.weights_ - [0.6, 0.0, 0.8]).max() < 1e-9
        assert model.score(data) == pytest.approx(1, abs=1e-9)

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("compare", ["corr", "cosine", "corr_cov", "cosine_cov"])
    def test_equal_to_rsatoolbox(self, compare, seed):
        """Where weights are positive anyway; rsatoolbox's loop for weights of at least 0 may not end."""
        parts, data = planted([0.6, 0.4, 0.8], seed, noise=0.1)
        theirs = fitter.fit_regress(ModelWeighted("", RDMs(parts.copy())), RDMs(data.copy()), compare)
        assert theirs.min() > 0
        found = nm.RDMModel(parts, "weighted", compare).fit(data).weights_
        # whitened, theirs iterates to about 1e-5
        assert np.abs(found - theirs).max() < (1e-4 if compare.endswith("cov") else 1e-10)

    @pytest.mark.parametrize("compare", ["corr", "cosine", "corr_cov", "cosine_cov"])
    def test_nothing_close_by_is_better(self, compare):
        parts, data = planted([0.6, -0.2, 0.8], 0, noise=0.3)
        model = nm.RDMModel(parts, "weighted", compare).fit(data)
        best, random = model.score(data), np.random.default_rng(0)
        for _ in range(50):
            other = np.maximum(model.weights_ + 0.05 * random.normal(size=3), 0)
            assert nm.compare_rdms(other @ parts, data, compare).mean() <= best + 1e-12

    def test_large_and_small_dissimilarities(self):
        """Where rsatoolbox's own loop does not end."""
        parts, data = planted([0.6, 0.0, 0.8], 0, noise=0.1)
        expected = nm.RDMModel(parts, "weighted").fit(data).weights_
        for scale in (1e-6, 1e6):
            found = nm.RDMModel(scale * parts, "weighted").fit(1e4 * data).weights_
            assert np.abs(found - expected).max() < 1e-9

    def test_parts_that_are_the_same_share_the_weight(self):
        parts, data = planted([0.6, 0.8], 0)
        model = nm.RDMModel(np.stack([*parts, parts[0]]), "weighted").fit(data)
        assert model.score(data) == pytest.approx(1, abs=1e-9)

    def test_nothing_helps(self):
        parts, data = planted([-1.0, -1.0], 0)
        with pytest.warns(UserWarning, match="all are 0"):
            model = nm.RDMModel(parts, "weighted").fit(data)
        assert not model.weights_.any()
        with pytest.raises(InputError, match="the same for all pairs"):
            model.score(data)

    def test_noise_is_fitted_but_not_found_again(self):
        """Negative control: held-out conditions and subjects show no similarity that was not there."""
        scores = []
        for seed in range(30):
            random = np.random.default_rng(seed)
            parts, data = random.random((5, N_PAIRS)), random.random((4, N_PAIRS))
            square = RDMs(data).get_matrices()
            training, test = np.arange(10), np.arange(10, 20)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                model = nm.RDMModel(parts, "weighted").fit(square[:2][:, training][:, :, training], training)
            if model.weights_.any():
                held_out = model.score(square[2:][:, test][:, :, test], test)
                scores.append((model.score(square[:2][:, training][:, :, training], training), held_out))
        fitted, held_out = np.array(scores).T
        assert fitted.mean() > 0.1
        assert abs(held_out.mean()) < 3 * held_out.std(ddof=1) / np.sqrt(len(held_out))


class TestSelectAndInterpolate:
    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("compare", METHODS)
    def test_the_planted_one_is_selected(self, compare, seed):
        parts, data = planted([0.0, 0.0, 1.0, 0.0], seed, noise=0.2)
        model = nm.RDMModel(parts, "select", compare).fit(data)
        assert model.weights_.tolist() == [0, 0, 1, 0]
        assert ModelSelect("", RDMs(parts.copy())).fit(RDMs(data.copy()), method=compare) == 2
        assert model.score(data) == pytest.approx(nm.compare_rdms(parts[2], data, compare).mean())

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("compare", ["corr", "cosine", "spearman", "corr_cov"])
    def test_the_planted_mixture_is_found(self, compare, seed):
        parts, data = planted([0.0, 0.3, 0.7, 0.0], seed)
        found = nm.RDMModel(parts, "interpolate", compare).fit(data).weights_
        assert np.abs(found - [0, 0.3, 0.7, 0]).max() < 0.01
        theirs = ModelInterpolate("", RDMs(parts.copy())).fit(RDMs(data.copy()), method=compare)
        assert np.array_equal(found, theirs)

    def test_fixed(self):
        parts, data = planted([1.0], 0, noise=0.3)
        model = nm.RDMModel(parts[0])
        assert model.score(data) == pytest.approx(nm.compare_rdms(parts[0], data).mean())
        assert model.fit(data).weights_.tolist() == [1.0]


class TestTrainingAndTest:
    @pytest.mark.parametrize("kind", FITTED)
    def test_labels_and_places_choose_conditions(self, kind):
        random = np.random.default_rng(0)
        names = [f"image {number}" for number in range(12)]
        parts = [nm.compute_rdm(random.normal(size=(12, 9)), conditions=names) for _ in range(3)]
        model = xr.concat(parts, "model")
        data = nm.compute_rdm(random.normal(size=(12, 9)), conditions=names)
        training, test = [names[place] for place in (7, 2, 9, 4, 0, 5)], [names[place] for place in (1, 3, 10, 6)]
        places = [names.index(name) for name in training], [names.index(name) for name in test]
        labelled = nm.RDMModel(model, kind).fit(data.sel(condition=training, other_condition=training))
        plain = nm.RDMModel(model.values, kind).fit(data.values[np.ix_(places[0], places[0])], places[0])
        assert np.array_equal(labelled.weights_, plain.weights_)
        predicted = labelled.predict(test)
        assert predicted.condition.values.tolist() == test
        assert np.array_equal(predicted.values, plain.predict(places[1]))
        assert np.allclose(predicted.values, labelled.predict().sel(condition=test, other_condition=test).values)
        one = labelled.score(data.sel(condition=test, other_condition=test))
        assert one == plain.score(data.values[np.ix_(places[1], places[1])], places[1])

    @pytest.mark.parametrize("kind", FITTED)
    def test_torch_is_numpy_and_nothing_changes(self, kind):
        parts, data = planted([0.3, 0.7, 0.2], 0, noise=0.1)
        before = parts.copy(), data.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
        one = nm.RDMModel(parts, kind).fit(data)
        other = nm.RDMModel(torch.tensor(parts), kind).fit(torch.tensor(data))
        assert np.array_equal(one.weights_, other.weights_)
        assert isinstance(other.predict(), torch.Tensor)
        assert np.array_equal(other.predict().numpy(), one.predict())
        assert np.array_equal(parts, before[0])
        assert np.array_equal(data, before[1])
        assert np.array_equal(np.random.get_state()[1], before[2])  # noqa: NPY002


class TestBadInput:
    PARTS, DATA = planted([0.3, 0.7], 0, noise=0.1)

    @pytest.mark.parametrize(("kind", "n_rdms"), [("fixed", 2), *((kind, 1) for kind in FITTED)])
    def test_number_of_rdms(self, kind, n_rdms):
        with pytest.raises(InputError, match=f"a {kind} model of {n_rdms} RDM"):
            nm.RDMModel(self.PARTS[:n_rdms], kind)

    def test_options(self):
        with pytest.raises(OptionError, match="did you mean 'weighted'"):
            nm.RDMModel(self.PARTS, "weight")
        with pytest.raises(OptionError, match="unknown compare"):
            nm.RDMModel(self.PARTS, "weighted", "kendal")

    def test_before_fit(self):
        with pytest.raises(CapabilityError, match="before it is fitted"):
            nm.RDMModel(self.PARTS, "select").predict()

    @pytest.mark.parametrize(
        ("data", "conditions", "says"),
        [
            (DATA[:, :45], None, "different numbers of conditions"),
            (DATA, range(19), "different numbers of conditions"),
            (DATA[:, :6], [0, 1, 2, 20], "no conditions of the model"),
            (DATA[:, :6], [0, 1, 2, 2], "repeated"),
            (np.ones((1, N_PAIRS)), None, "the same for all pairs"),
            (np.full((1, N_PAIRS), np.nan), None, "NaN"),
        ],
    )
    def test_data(self, data, conditions, says):
        with pytest.raises(InputError, match=says):
            nm.RDMModel(self.PARTS, "weighted").fit(data, conditions)

    def test_labels_on_one_side(self):
        names = [f"image {number}" for number in range(N_CONDITIONS)]
        labelled = nm.compute_rdm(np.random.default_rng(0).normal(size=(N_CONDITIONS, 9)), conditions=names)
        with pytest.raises(InputError, match="data has labels"):
            nm.RDMModel(self.PARTS, "weighted").fit(labelled)
        with pytest.raises(InputError, match="the model has labels"):
            nm.RDMModel(labelled).fit(self.DATA)
        with pytest.raises(InputError, match="labels of their own"):
            nm.RDMModel(labelled).fit(labelled, names)


class TestInterop:
    def toolbox(self):
        values = np.random.default_rng(0).random((3, 6))
        values[:, 4] = np.nan
        return RDMs(
            values,
            "crossnobis",
            {"task": "naming", "year": 2008},
            {"subject": ["BE", "KO", "SN"], "session": [1, 2, 1]},
            {"conds": ["face", "car", "house", "tool"], "animate": [True, False, False, False]},
        )

    def assert_same(self, one, other):
        assert np.array_equal(one.dissimilarities, other.dissimilarities, equal_nan=True)
        assert one.dissimilarity_measure == other.dissimilarity_measure
        assert one.descriptors == other.descriptors
        for name in ("rdm_descriptors", "pattern_descriptors"):
            found, expected = getattr(one, name), getattr(other, name)
            assert found.keys() == expected.keys()
            assert all(list(found[key]) == list(expected[key]) for key in expected)

    def test_from_rsatoolbox_and_back(self):
        theirs = self.toolbox()
        labelled = nm.from_rsatoolbox(theirs)
        assert labelled.dims == ("subject", "condition", "other_condition")
        assert (
            labelled.sel(subject="KO", condition="car", other_condition="face").item() == theirs.dissimilarities[1, 0]
        )
        assert labelled.attrs["dissimilarity_measure"] == "crossnobis"
        assert labelled["animate"].dims == ("condition",)
        self.assert_same(nm.to_rsatoolbox(labelled), theirs)

    def test_parts_and_another_order_keep_their_labels(self):
        theirs = self.toolbox().subset_pattern("conds", ["tool", "face", "car"]).subset("subject", ["SN"])
        labelled = nm.from_rsatoolbox(theirs)
        assert labelled.condition.values.tolist() == list(theirs.pattern_descriptors["conds"])
        self.assert_same(nm.to_rsatoolbox(labelled), theirs)
        chosen = nm.from_rsatoolbox(self.toolbox()).sel(subject="KO")
        one = nm.to_rsatoolbox(chosen)
        assert one.rdm_descriptors["subject"] == ["KO"]
        assert one.rdm_descriptors["session"] == [2]

    @pytest.mark.parametrize("lead", ["subject", "model", "rdm"])
    def test_to_rsatoolbox_and_back(self, lead):
        names = ["a", "b", "c", "d"]
        random = np.random.default_rng(0)
        ours = xr.concat([nm.compute_rdm(random.normal(size=(4, 9)), conditions=names) for _ in range(2)], lead)
        ours = ours.assign_coords({lead: ["first", "second"], "size": ("condition", [1.5, 2.5, 3.5, 4.5])})
        theirs = nm.to_rsatoolbox(ours)
        assert theirs.rdm_descriptors["name" if lead == "rdm" else lead] == ["first", "second"]
        assert theirs.pattern_descriptors["condition"] == names
        assert theirs.dissimilarity_measure == "correlation"
        back = nm.from_rsatoolbox(theirs)
        xr.testing.assert_equal(back, ours)
        assert back.attrs["dissimilarity_measure"] == ours.attrs["dissimilarity_measure"]

    def test_torch_and_arrays(self):
        pairs = np.random.default_rng(0).random((2, 6))
        for form in (pairs, torch.tensor(pairs), RDMs(pairs).get_matrices(), torch.tensor(RDMs(pairs).get_matrices())):
            theirs = nm.to_rsatoolbox(form)
            assert np.array_equal(theirs.dissimilarities, pairs)
            assert np.array_equal(nm.from_rsatoolbox(theirs).values, theirs.get_matrices())
        theirs.dissimilarities[:] = 0
        assert pairs.any()

    def test_comparisons_take_both(self):
        theirs, ours = self.toolbox(), nm.from_rsatoolbox(self.toolbox())
        found = nm.compare_rdms(theirs, ours, missing="drop")
        assert np.abs(np.diagonal(found) - 1).max() < 1e-12

    def test_refused(self):
        with pytest.raises(InputError, match="no RDMs of rsatoolbox"):
            nm.from_rsatoolbox(np.ones((3, 3)))
        theirs = self.toolbox()
        theirs.rdm_descriptors["animate"] = [1, 2, 3]
        with pytest.raises(InputError, match="animate"):
            nm.from_rsatoolbox(theirs)
