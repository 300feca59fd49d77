"""Evaluation of sparse autoencoders: numbers known beforehand, and dictionaries that only look good."""

from __future__ import annotations

import matplotlib.figure
import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.result import load_result
from neuros_mechint.features.evaluation.measures import count
from neuros_mechint.features.observations import data_fingerprint
from tests.conformance.architectures import ARCHITECTURES
from tests.slow import slow_case
from tests.truth.planted_dictionaries import (
    N_TRUE,
    SEEDS,
    WIDTH,
    HandMade,
    gaussian,
    orthonormal,
    planted,
    sparse_codes,
)


class Rebuilt(torch.nn.Module):
    """Any function of the activations as a "reconstruction", with all inputs as its features."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def encode(self, x):
        return x

    def decode(self, feature_acts):
        return self.function(feature_acts)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_true_dictionary_scores_what_it_must(seed):
    directions = orthonormal(12, WIDTH, seed)
    codes = sparse_codes(2000, 12, seed=seed)
    found = nm.evaluate_sae(HandMade(directions), codes @ directions, truth=directions)
    assert found["explained_variance"] == pytest.approx(1, abs=1e-6)
    assert found["mcc"] == pytest.approx(1, abs=1e-6)
    assert found["mean_max_cosine"] == pytest.approx(1, abs=1e-6)
    assert found["mcc_chance"] < 0.6


@pytest.mark.parametrize("seed", SEEDS)
def test_l0_density_and_dead_features_are_counted_exactly(seed):
    codes = sparse_codes(5000, 10, seed=seed)
    codes[:, [2, 7]] = 0
    found = nm.evaluate_sae(HandMade(torch.eye(10)), codes)
    np.testing.assert_allclose(found.data["density"], (codes > 0).double().mean(0))
    assert found["l0"] == pytest.approx(float((codes > 0).double().sum(1).mean()))
    assert found["dead_fraction"] == pytest.approx(0.2)


@pytest.mark.parametrize("seed", SEEDS)
def test_explained_variance_is_that_of_another_library(seed):
    rows = gaussian(9000, 7, seed=seed) @ gaussian(7, 7, seed=50 + seed) + 30  # more than one batch, far from zero
    sae = HandMade(gaussian(11, 7, seed=seed) / 3)
    found = count(sae, rows)
    rebuilt = sae.decode(sae.encode(rows))
    assert found.explained_variance == pytest.approx(r2_score(rows, rebuilt, multioutput="variance_weighted"), rel=1e-4)
    assert found.n_observations == 9000


@pytest.mark.parametrize("seed", [0, *map(slow_case, SEEDS[1:])])
def test_numbers_are_those_of_saelens_own_evaluation(seed, quiet):
    from sae_lens import synthetic

    truth, saes, _ = planted(seed)
    dictionary = synthetic.FeatureDictionary(num_features=N_TRUE, hidden_dim=WIDTH)
    dictionary.feature_vectors.data[:] = truth
    dictionary.bias.data[:] = 0
    codes = sparse_codes(1000, N_TRUE, 0.06, seed)

    class Fixed:
        def sample(self, n):
            return codes[:n]

    with torch.no_grad():
        expected = synthetic.eval_sae_on_synthetic_data(saes["topk"], dictionary, Fixed(), num_samples=1000)
        rows = dictionary(codes)
    found = nm.evaluate_sae(saes["topk"], rows, truth=truth)
    assert found["mcc"] == pytest.approx(expected.mcc, abs=1e-5)
    assert found["l0"] == pytest.approx(expected.sae_l0)
    assert found["explained_variance"] == pytest.approx(expected.explained_variance, abs=1e-6)
    assert found["dead_fraction"] == pytest.approx(expected.dead_latents / N_TRUE)


def test_random_directions_are_at_chance():
    truth = gaussian(N_TRUE, WIDTH, seed=1)
    rows = sparse_codes(1000, N_TRUE) @ truth
    scores = [nm.evaluate_sae(HandMade(gaussian(N_TRUE, WIDTH, seed=2 + seed)), rows, truth=truth) for seed in range(8)]
    assert np.mean([one["mcc"] for one in scores]) == pytest.approx(scores[0]["mcc_chance"], abs=0.02)


def test_a_dictionary_of_few_features_is_not_flattered_by_mcc():
    truth = gaussian(N_TRUE, WIDTH, seed=1)
    rows = sparse_codes(1000, N_TRUE) @ truth
    with pytest.warns(UserWarning, match="leaves out 28 true directions"):
        found = nm.evaluate_sae(HandMade(truth[:4]), rows, truth=truth)
    assert found["mcc"] == pytest.approx(1)
    assert found["mean_max_cosine"] < 0.6


# --- what the model makes of the reconstruction -----------------------------------------------------------------------


class Readout(torch.nn.Module):
    """``y = site(x) w``, and ``z`` that does not depend on the site."""

    def __init__(self):
        super().__init__()
        self.site = torch.nn.Identity()
        self.w = torch.nn.Parameter(torch.tensor([1.0, 2.0, -1.0]))

    def forward(self, x):
        return torch.stack([self.site(x) @ self.w, x.sum(1)], 1)


def recovered(sae, rows, column=0, **options):
    model = nm.adapt(Readout(), example=rows)
    return (
        nm.evaluate_sae(
            sae, rows, site="site", model=model, inputs=rows, metric=lambda output: output[:, column], **options
        )
        .data["loss_recovered"]
        .values
    )


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0, -0.5])
def test_loss_recovered_is_the_share_that_was_planted(share, quiet):
    rows = gaussian(64, 3) + torch.tensor([1.0, 2.0, 3.0])
    mean = rows.mean(0)
    of_zero = recovered(Rebuilt(lambda x: share * x), rows)[0]
    assert of_zero == pytest.approx(share, abs=1e-5)
    # the metric is linear, so that mean ablation leaves its mean as it is: only zero ablation costs anything
    nonlinear = nm.adapt(torch.nn.Sequential(torch.nn.Identity(), Square()), example=rows)
    sae = Rebuilt(lambda x: mean + share**0.5 * (x - mean) if share > 0 else mean.expand_as(x))
    found = nm.evaluate_sae(
        sae, rows, site="0", model=nonlinear, inputs=rows, metric=lambda output: output.sum(1)
    ).data["loss_recovered"]
    assert float(found[1]) == pytest.approx(max(share, 0), abs=1e-4)


class Square(torch.nn.Module):
    def forward(self, x):
        return x**2


def test_an_ablation_that_costs_nothing_is_not_divided_by():
    rows = gaussian(64, 3) + torch.tensor([1.0, 2.0, 3.0])
    with pytest.warns(UserWarning, match="not defined for mean ablation"):
        zero, mean = recovered(Rebuilt(lambda x: 0.5 * x), rows)
    assert np.isnan(mean)
    assert zero == pytest.approx(0.5, abs=1e-5)


def test_a_metric_that_does_not_depend_on_the_site_is_refused():
    with pytest.raises(InputError, match="nothing to recover"):
        recovered(Rebuilt(lambda x: 0.5 * x), gaussian(64, 3), column=1)


@pytest.mark.parametrize("name", ["GPT2", "Llama"])
@pytest.mark.parametrize("seed", SEEDS)
def test_loss_recovered_in_a_transformer_is_that_of_a_plain_hook(name, seed, quiet):
    module, inputs = ARCHITECTURES[name].build()
    model = nm.adapt(module)
    site = "blocks.0.resid_post"
    captured = model.capture(inputs, site)
    width = captured[site].shape[-1]
    sae = HandMade(gaussian(2 * width, width, seed=seed) / width**0.5)
    metric = nm.logit_difference(1, 2)
    found = nm.evaluate_sae(sae, captured, site=site, model=model, inputs=inputs, metric=metric)

    blocks = module.transformer.h if name == "GPT2" else module.model.layers
    mean = captured.matrix(site).mean(0)

    def run(replacement):
        def hook(_, __, output):
            hidden = output[0] if isinstance(output, tuple) else output
            changed = replacement(hidden)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        handle = blocks[0].register_forward_hook(hook)
        with torch.no_grad():
            output = module(**inputs) if isinstance(inputs, dict) else module(inputs)
        handle.remove()
        return float(metric(output).double().mean())

    clean, rebuilt = run(lambda hidden: hidden), run(lambda hidden: sae.decode(sae.encode(hidden)))
    for value, ablated in zip(
        found.data["loss_recovered"].values, (run(torch.zeros_like), run(mean.expand_as)), strict=True
    ):
        assert value == pytest.approx((rebuilt - ablated) / (clean - ablated), rel=1e-3)


def test_a_dictionary_without_error_recovers_everything(quiet):
    module, inputs = ARCHITECTURES["GPT2"].build()
    model = nm.adapt(module)
    site = "blocks.0.resid_post"
    acts = model.capture(inputs, site)
    found = nm.evaluate_sae(
        Rebuilt(lambda x: x), acts, site=site, model=model, inputs=inputs, metric=nm.logit_difference(1, 2)
    )
    np.testing.assert_allclose(found.data["loss_recovered"], 1, atol=1e-5)


# --- bad input, figures, files ----------------------------------------------------------------------------------------

ROWS = gaussian(40, 3)
EYE = HandMade(torch.eye(3))


@pytest.mark.parametrize(
    ("activations", "problem"),
    [
        (torch.ones(40, 3), "constant"),
        (torch.full((40, 3), 1000.1), "constant"),
        (torch.zeros(40, 3), "constant"),
        (torch.where(ROWS > 1, torch.nan, ROWS), "not finite"),
        (gaussian(40, 4), "does not take activations of 4 units"),
        (gaussian(3), "a matrix"),
        (gaussian(1, 3), "a matrix"),
        (torch.zeros(0, 3), "a matrix"),
        ("text", "no activations"),
        (ROWS.to(torch.complex64), "a matrix"),
        (nm.Activations(dict.fromkeys("gh", ROWS), dict.fromkeys("gh", ("sample", "unit"))), "which site"),
    ],
)
def test_bad_activations_are_refused(activations, problem):
    with pytest.raises(InputError, match=problem):
        nm.evaluate_sae(EYE, activations)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"truth": torch.eye(4)}, "another width"),
        ({"truth": torch.zeros(2, 3)}, "zero"),
        ({"truth": torch.ones(3)}, "no matrix"),
        ({"metric": len}, "no model, inputs"),
        ({"model": 3, "inputs": ROWS, "metric": len, "site": "h"}, "no adapter"),
    ],
)
def test_bad_options_are_refused(options, problem):
    with pytest.raises(InputError, match=problem):
        nm.evaluate_sae(EYE, ROWS, **options)


def test_what_is_no_inference_dictionary_is_refused():
    import sae_lens

    config = sae_lens.BatchTopKTrainingSAEConfig(
        k=2, d_in=20, d_sae=64
    )  # in training form the batch shares its features
    with torch.random.fork_rng():
        torch.manual_seed(0)
        batchwise = sae_lens.BatchTopKTrainingSAE(config)
    with pytest.raises(InputError, match="depend on the other rows"):
        nm.evaluate_sae(batchwise, gaussian(40, 20))
    with pytest.raises(InputError, match="no dictionary"):
        nm.evaluate_sae(object(), ROWS)


def test_the_activations_it_was_fitted_on_are_pointed_out():
    sae = HandMade(torch.eye(3))
    sae.data_fingerprint_ = data_fingerprint(ROWS)
    acts = nm.Activations({"h": ROWS}, {"h": ("sample", "unit")})
    for seen in ({"activations": ROWS}, {"activations": ROWS.numpy()}, {"activations": acts, "site": "h"}):
        with pytest.warns(UserWarning, match="fitted on"):
            assert nm.evaluate_sae(sae, **seen).warnings
    assert not nm.evaluate_sae(sae, gaussian(40, 3, seed=1)).warnings


def test_activations_and_a_store_give_the_numbers_of_their_rows(tmp_path):
    rows = gaussian(300, 4, 3)
    acts = nm.Activations(
        {"h": rows}, {"h": ("sample", "position", "unit")}, attention_mask=torch.arange(4) < torch.tensor([[2]] * 300)
    )
    expected = count(EYE, rows[:, :2].reshape(-1, 3))
    found = nm.evaluate_sae(EYE, acts, site="h")
    assert found["explained_variance"] == pytest.approx(expected.explained_variance)
    assert found.attributes["n_observations"] == 600  # padded positions are no observations
    with nm.ActivationStore.for_activations(tmp_path / "store", acts, n_samples=300) as store:
        store.append(acts)
        store.finish()
    stored = nm.evaluate_sae(EYE, nm.ActivationStore.open(tmp_path / "store"), site="h")
    assert stored["explained_variance"] == pytest.approx(found["explained_variance"])
    assert stored["l0"] == pytest.approx(found["l0"])


def test_dead_and_dense_dictionaries_are_pointed_out():
    with pytest.warns(UserWarning, match="no feature is active"):
        dead = nm.evaluate_sae(HandMade(torch.zeros(3, 3)), ROWS)
    assert dead["dead_fraction"] == 1
    with pytest.warns(UserWarning, match="no sparse code"):
        nm.evaluate_sae(HandMade(gaussian(16, 3)), ROWS)
    with pytest.warns(UserWarning, match="no active feature"):
        assert not nm.compare_saes({"dead": HandMade(torch.zeros(3, 3)), "eye": EYE}, ROWS).matched


@pytest.mark.parametrize(
    ("call", "kind", "problem"),
    [
        (lambda: nm.compare_saes({"one": EYE}, ROWS), InputError, "nothing to compare"),
        (lambda: nm.compare_saes([EYE, EYE], ROWS), InputError, "nothing to compare"),
        (lambda: nm.compare_saes({"a": EYE, "b": EYE}, ROWS, max_l0_ratio=0.5), OptionError, "max_l0_ratio"),
        (lambda: nm.matched_l0("gated", 99, ROWS, ROWS, n_features=4), OptionError, "target is out of range"),
        (lambda: nm.matched_l0("gated", 2, ROWS, ROWS, n_features=4, tolerance=True), OptionError, "tolerance is out"),
        (lambda: nm.matched_l0("gated", 2, ROWS, ROWS, n_features=4, start="1"), OptionError, "start is out of range"),
        (
            lambda: nm.matched_l0("topk", 2, ROWS, ROWS, n_features=4),
            OptionError,
            r"SparseAutoencoder\(4, 'topk', k=2\)",
        ),
        (lambda: nm.matched_l0("matryoshka", 2, ROWS, ROWS, n_features=4), OptionError, "HierarchicalSAE"),
        (lambda: nm.matched_l0("gaited", 2, ROWS, ROWS, n_features=4), OptionError, "did you mean 'gated'"),
        (
            lambda: nm.sparse_probe(ROWS, np.arange(40) % 2, n_permutations=0),
            InputError,
            "n_permutations is out of range",
        ),
        (lambda: nm.sparse_probe(ROWS[0], np.zeros(3)), InputError, "no rows of features"),
        (lambda: nm.sparse_probe("text", np.zeros(3)), InputError, "codes: these are no real numbers"),
        (lambda: nm.sparse_probe(ROWS.reshape(8, 5, 3), np.arange(8) % 2), InputError, "repeat the label of a sample"),
        (
            lambda: nm.sparse_probe(ROWS.reshape(8, 5, 3), np.arange(40).reshape(8, 5) < 20, k=1),
            InputError,
            "the rarest with 4 samples",
        ),
        (lambda: nm.sparse_probe(ROWS, np.where(np.arange(40) < 3, np.nan, 1.0)), InputError, "label is NaN"),
        (lambda: nm.sparse_probe(ROWS, np.zeros(39)), InputError, "one label"),
        (lambda: nm.sparse_probe(ROWS, np.zeros(40, int)), InputError, "cannot be probed"),
        (lambda: nm.sparse_probe(ROWS, np.linspace(0, 1, 40)), InputError, "cannot be probed"),
        (lambda: nm.sparse_probe(ROWS, np.arange(40) < 3), InputError, "the rarest with 3"),
        (lambda: nm.sparse_probe(ROWS, np.arange(40) < 20, k=4), InputError, "out of range"),
        (lambda: nm.sparse_probe(torch.zeros(40, 3), np.arange(40) < 20, k=1), InputError, "constant"),
        (lambda: nm.sparse_probe(ROWS * torch.nan, np.arange(40) < 20, k=1), InputError, "not finite"),
        (lambda: nm.evaluate_sae(EYE, ROWS)["density"], InputError, "no number"),
    ],
)
def test_bad_calls_are_refused(call, kind, problem):
    with pytest.raises(kind, match=problem):
        call()


def test_nothing_of_the_caller_changes():
    torch_state, numpy_state = torch.get_rng_state(), np.random.mtrand._rand.get_state()[1].copy()
    rows = ROWS.clone()
    nm.evaluate_sae(EYE, rows, truth=torch.eye(3))
    nm.sparse_probe(rows, np.arange(40) % 2, k=1, n_permutations=19)
    assert torch.equal(rows, ROWS)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.mtrand._rand.get_state()[1] == numpy_state).all()


def test_results_are_drawn_described_and_kept(tmp_path):
    results = [
        nm.evaluate_sae(EYE, ROWS, truth=torch.eye(3)),
        nm.compare_saes({"one": EYE, "same": EYE}, ROWS),
        nm.sparse_probe(ROWS, np.arange(40) % 2, k=[1, 2], n_permutations=39),
    ]
    for result in results:
        axes = result.plot(matplotlib.figure.Figure().subplots())
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        assert result.title in result.summary()
        assert load_result(result.save(tmp_path / "result.nc")) == result


@pytest.mark.parametrize("size", [1e-9, 1e-4, 1e6])
@pytest.mark.parametrize("mean", [0, 1000])
def test_neither_units_nor_a_large_mean_change_what_is_explained(size, mean):
    rows = torch.randn(3000, 6, generator=torch.Generator().manual_seed(0)).double()

    class HalfTheUnits:
        W_dec = torch.eye(6, dtype=torch.float64) * size

        def encode(self, x):
            return x - mean * size

        def decode(self, codes):
            return torch.cat([codes[..., :3], torch.zeros_like(codes[..., 3:])], -1) + mean * size

    found = nm.evaluate_sae(HalfTheUnits(), (rows + mean) * size, truth=torch.eye(6))
    explained = 1 - rows[:, 3:].square().sum() / (rows - rows.mean(0)).square().sum()
    assert found["explained_variance"] == pytest.approx(float(explained), abs=1e-6)
    assert found["mcc"] == pytest.approx(1)


def test_a_reconstruction_that_is_not_finite_is_refused_and_rows_are_not_changed():
    class Broken(torch.nn.Module):
        def encode(self, x):
            return x.mul_(0) + 1

        def decode(self, codes):
            return codes / 0

    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    kept = rows.clone()
    with pytest.raises(InputError, match="reconstructs is not finite"):
        nm.evaluate_sae(Broken(), rows)
    assert torch.equal(rows, kept)
