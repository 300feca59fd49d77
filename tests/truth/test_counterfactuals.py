"""Do-interventions, steering, lesions and dose-response against answers known from algebra."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import neuros_mechint as nm
from neuros_mechint.causal.counterfactuals.dose_results import curve_summary
from neuros_mechint.datasets.tasks import flip_flop
from tests.slow import slow_case
from tests.truth.small_networks import first, normal, summing

SEEDS = range(5)


class LinearSCM(torch.nn.Module):
    """``v_i = sum_j weights[i, j] v_j + u_i`` in this order; the noise ``u`` is the input, each variable a site."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights
        self.v = torch.nn.ModuleList(torch.nn.Identity() for _ in range(len(weights)))

    def forward(self, noise):
        values = []
        for i, site in enumerate(self.v):
            parents = sum((self.weights[i, j] * values[j] for j in range(i)), torch.zeros_like(noise[:, :1]))
            values.append(site(parents + noise[:, i : i + 1]))
        return torch.cat(values, 1)


def random_scm(seed, n_variables=6):
    random = np.random.default_rng(seed)
    present = np.tril(random.random((n_variables, n_variables)) < 0.6, -1)
    return torch.from_numpy(np.where(present, random.normal(size=present.shape), 0)).float()


# -- do and ate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, *map(slow_case, SEEDS[2:])])
def test_the_ate_is_the_sum_over_directed_paths(seed):
    weights = random_scm(seed)
    graph = nx.DiGraph((int(j), int(i)) for i, j in weights.nonzero())
    graph.add_nodes_from(range(len(weights)))
    model, noise = nm.adapt(LinearSCM(weights)), normal(20, len(weights), seed=seed)
    for cause in range(len(weights)):
        for effect in range(len(weights)):
            if cause == effect:
                continue
            paths = nx.all_simple_edge_paths(graph, cause, effect)
            total = sum(np.prod([weights[i, j].item() for j, i in path]) for path in paths)
            found = nm.ate(model, noise, f"v.{cause}", 2.0, -1.0, lambda values, effect=effect: values[:, effect])
            assert found.value == pytest.approx(3 * total, abs=1e-4)


def test_nothing_flows_against_the_arrows():
    weights = random_scm(0)
    model, noise = nm.adapt(LinearSCM(weights)), normal(20, len(weights))
    for cause in range(1, len(weights)):
        found = nm.ate(model, noise, f"v.{cause}", 5.0, -5.0, first)
        assert found.value == 0
        assert float(found.data["p"]) == 1


@pytest.mark.parametrize("seed", [0, 1, *map(slow_case, range(2, 5))])
def test_intervening_gives_the_causal_slope_and_regressing_the_confounded_one(seed):
    # z -> x, z -> y, x -> m -> y, x -> y
    z_x, x_m, x_y, m_y, z_y = 1.5, 0.8, -0.5, 1.2, 2.0
    weights = torch.tensor([[0, 0, 0, 0], [z_x, 0, 0, 0], [0, x_m, 0, 0], [z_y, x_y, m_y, 0]])
    model, noise = nm.adapt(LinearSCM(weights)), normal(4000, 4, seed=seed)
    causal = x_y + x_m * m_y
    found = nm.ate(model, noise, "v.1", 1.0, 0.0, lambda values: values[:, 3])
    assert found.value == pytest.approx(causal, abs=1e-5)

    z, x, _, y = model.run(noise).output.double().T.numpy()
    confounded = causal + z_y * z_x / (z_x**2 + 1)  # cov(x, y) / var(x) for unit noise
    slope = np.cov(x, y)[0, 1] / x.var(ddof=1)
    error = np.std(y - slope * x) / (x.std() * np.sqrt(len(x)))
    assert abs(slope - confounded) < 4 * error
    assert abs(slope - causal) > 20 * error
    adjusted = np.linalg.lstsq(np.stack([x, z, np.ones_like(x)], 1), y, rcond=None)[0][0]
    assert adjusted == pytest.approx(causal, abs=0.1)  # the back-door formula, from observations alone


def test_holding_a_mediator_leaves_the_direct_effect():
    weights = torch.tensor([[0, 0, 0], [0.7, 0, 0], [-0.4, 2.0, 0]])
    model, noise = nm.adapt(LinearSCM(weights)), normal(10, 3)
    held = nm.ate(
        model, noise, lambda value: [nm.Replace("v.0", value), nm.Replace("v.1", 0.3)], 1.0, 0.0, lambda v: v[:, 2]
    )
    assert held.value == pytest.approx(-0.4, abs=1e-6)
    joint = nm.do(model, noise, {"v.0": 1.0, "v.1": 0.3}, lambda values: values[:, 2])
    np.testing.assert_allclose(joint.data["treated"], -0.4 + 0.6 + noise[:, 2], rtol=1e-5)
    np.testing.assert_allclose(joint.data["control"], model.run(noise).output[:, 2], rtol=1e-6)


class Product(torch.nn.Module):
    """``y = x w``: the effect of ``x`` differs from sample to sample, and is ``w``."""

    def __init__(self):
        super().__init__()
        self.x = torch.nn.Identity()

    def forward(self, inputs):
        return self.x(inputs[:, :1]) * inputs[:, 1:]


def effects_of_x(mean, n_experiments=200, n_samples=40):
    model = nm.adapt(Product())
    for seed in range(n_experiments):
        inputs = normal(n_samples, 2, seed=seed) + torch.tensor([0.0, mean])
        yield nm.ate(model, inputs, "x", 3.0, 1.0, first, seed=seed)


def test_the_interval_covers_the_true_average_as_often_as_it_says():
    covered = [bool(one.data["low"] <= 2 * 0.5 <= one.data["high"]) for one in effects_of_x(mean=0.5)]
    assert 0.88 <= np.mean(covered) <= 0.98  # nominally 95%; percentile intervals of 40 samples reach 93%


def test_no_average_effect_is_found_where_there_is_none():
    p = np.array([float(one.data["p"]) for one in effects_of_x(mean=0.0)])
    assert np.mean(p < 0.05) <= 0.1
    assert np.median(p) > 0.3


# -- directions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_removing_the_mean_difference_leaves_a_linear_probe_nothing(seed):
    labels = np.arange(200) % 2
    planted = normal(12, seed=100 + seed)
    acts = normal(200, 12, seed=seed) * torch.linspace(0.5, 3, 12) + torch.from_numpy(labels)[:, None] * planted
    direction = nm.mean_difference_direction(acts, labels)
    torch.testing.assert_close(direction, acts[1::2].mean(0) - acts[::2].mean(0))

    def explained(matrix):
        design = np.concatenate([matrix.double().numpy(), np.ones((200, 1))], 1)
        fitted = design @ np.linalg.lstsq(design, labels, rcond=1e-6)[0]
        return np.var(fitted) / np.var(labels)

    dims = ("sample", "unit")
    assert explained(acts) > 0.3
    assert explained(nm.Project("h", direction).apply(acts.double(), dims)) < 1e-9
    other = nm.Project("h", normal(12, seed=200 + seed)).apply(acts.double(), dims)
    assert explained(other) > 0.1


def test_setting_a_component_is_a_do_intervention_on_a_latent_variable():
    model = nm.adapt(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(5, 1)))
    direction, inputs = normal(5, seed=1), normal(9, 5, seed=2)
    found = nm.ate(model, inputs, lambda value: nm.SetComponent("0", direction, value), 2.0, -1.0, first)
    expected = 3 * (model.module[1].weight[0] @ direction / direction.norm()).item()
    assert found.value == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(found.data["per_sample"], expected, rtol=1e-4)
    removed = nm.do(model, inputs, nm.SetComponent("0", direction, 0.0), first)
    projected = nm.do(model, inputs, nm.Project("0", direction), first)
    np.testing.assert_allclose(removed.data["per_sample"], projected.data["per_sample"], atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_steering_a_linear_readout_has_the_slope_of_the_readout(seed):
    model = nm.adapt(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(6, 1)))
    with torch.no_grad():
        weight = model.module[1].weight.copy_(normal(1, 6, seed=seed))[0].detach()
    direction, inputs = normal(6, seed=50 + seed), normal(8, 6, seed=seed)
    curve = nm.steer(model, inputs, "0", direction, [2, -1, 0, 1], first, n_controls=4, seed=seed)
    slope = float(weight @ direction)
    assert curve.data["dose"].values.tolist() == [-1, 0, 1, 2]
    assert curve.attributes["slope"] == pytest.approx(slope, rel=1e-4)
    assert curve.attributes["monotonicity"] == np.sign(slope)
    assert curve.attributes["midpoint"] == pytest.approx(0.5, abs=1e-4)
    np.testing.assert_allclose(curve.change(), slope * np.array([-1, 0, 1, 2]), atol=1e-5)
    reach = np.abs(curve.data["control"] - curve.data["control"].sel(dose=0)).max()
    assert reach <= 2 * float(weight.norm() * direction.norm()) * (1 + 1e-5)


def test_a_direction_that_nobody_reads_does_nothing():
    model = nm.adapt(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(6, 1)))
    with torch.no_grad():  # as they come, weights differ from run to run
        model.module[1].weight.copy_(normal(1, 6))
        model.module[1].bias.fill_(2.0)
    weight = model.module[1].weight[0].detach()
    blind = nm.Project("h", weight).apply(normal(1, 6), ("sample", "unit"))[0]
    curve = nm.steer(model, normal(8, 6), "0", 10 * blind, [-1, 0, 1], first)
    assert np.abs(curve.change()).max() < 1e-5
    assert curve.attributes["midpoint"] is None
    assert curve.attributes["p_control"] == 1
    assert (curve.data["p_control"] == 1).all()


def test_the_midpoint_of_a_sigmoid_is_where_its_argument_is_zero():
    model = nm.adapt(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(3, 1), torch.nn.Sigmoid()))
    with torch.no_grad():
        model.module[1].weight.copy_(torch.tensor([[4.0, 0, 0]]))
        model.module[1].bias.fill_(-5.0)
    inputs = 0.2 * normal(30, 3)
    curve = nm.steer(model, inputs, "0", [1.0, 0, 0], np.linspace(-3, 6, 61), first, n_controls=0)
    truth = 5 / 4 - inputs[:, 0].mean().item()
    assert curve.attributes["midpoint"] == pytest.approx(truth, abs=0.02)
    assert curve.attributes["midpoint_low"] < truth < curve.attributes["midpoint_high"]


def test_steering_a_transformer_along_the_unembedding_of_a_token_raises_its_logit_by_the_squared_length():
    model = nm.adapt(nm.load_model("induction"))
    unembedding = model.module.unembedding.weight.detach()
    tokens = torch.randint(1, 64, (6, 12), generator=torch.Generator().manual_seed(3))
    for token in (5, 17, 40):
        curve = nm.steer(
            model,
            tokens,
            "blocks.1.resid_post[position=-1]",
            unembedding[token],
            [-2, 0, 2],
            lambda logits, token=token: logits[:, -1, token],
            n_controls=9,
        )
        assert curve.attributes["slope"] == pytest.approx(float(unembedding[token].square().sum()), rel=1e-4)
        assert curve.attributes["p_control"] == 0.1  # no random direction of that length does as much


def test_all_kinds_of_adapters_of_one_network_give_one_curve():
    tokens = torch.randint(1, 64, (5, 9), generator=torch.Generator().manual_seed(3))
    direction, metric = normal(16, seed=1), nm.logit_difference(5, 9)
    curves = []
    for backend in ("torch", "transformer_lens"):
        model = nm.adapt(nm.load_model("induction", backend=backend))
        curves.append(nm.steer(model, tokens, "blocks.1.z[head=2]", direction, [-1, 0, 1], metric, n_controls=3))
        curves.append(nm.lesion(model, tokens, "blocks.0.z[head=0]", [3, 9, 1], metric, doses=[0, 1], n_controls=3))
    for own, other in zip(curves[:2], curves[2:], strict=True):
        np.testing.assert_allclose(own.data["per_sample"], other.data["per_sample"], atol=1e-4)
        np.testing.assert_allclose(own.data["control"], other.data["control"], atol=1e-4)
        assert np.abs(own.change()).max() > 0.01


def test_steering_a_huggingface_model_equals_a_hook_by_hand():
    import transformers

    config = transformers.GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)
    network = transformers.GPT2LMHeadModel(config).eval()
    ids = torch.randint(3, 30, (4, 7), generator=torch.Generator().manual_seed(0))
    direction = normal(16, seed=4)
    metric = nm.log_probability(7)
    curve = nm.steer(nm.adapt(network), ids, "blocks.0.resid_post", direction, [-1.5, 3.0], metric, n_controls=2)
    for coefficient, values in zip([-1.5, 3.0], curve.data["per_sample"].values, strict=True):

        def push(_module, _args, output, coefficient=coefficient):
            hidden = output[0] if isinstance(output, tuple) else output
            hidden = hidden + coefficient * direction
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handle = network.transformer.h[0].register_forward_hook(push)
        with torch.no_grad():
            expected = metric(network(ids))
        handle.remove()
        np.testing.assert_allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize("bit", range(3))
def test_a_remembered_bit_flips_half_way_between_its_two_states(bit):
    model = nm.adapt(nm.load_model("flip_flop_rnn"))
    inputs = flip_flop(80, 20, pulse_probability=0.15, seed=0).inputs
    inputs[:, 7:] = 0  # nothing but memory from here on
    states = model.run(inputs).output[:, -1].sign()
    acts = model.capture(inputs, "hidden[time=10]")["hidden[time=10]"]
    direction = nm.mean_difference_direction(acts, states[:, bit] > 0)
    low = inputs[states[:, bit] < 0]
    curve = nm.steer(
        model, low, "hidden[time=10]", direction, np.linspace(0, 1, 9), lambda output: output[:, -1, bit], n_controls=9
    )
    np.testing.assert_allclose(curve.values[[0, -1]], [-1, 1], atol=0.05)
    # the task treats both states alike, so the boundary between their basins lies half way
    assert curve.attributes["midpoint"] == pytest.approx(0.5, abs=0.05)
    assert curve.attributes["p_control"] == 0.1
    other = (bit + 1) % 3
    kept = nm.do(model, low, nm.Add("hidden[time=10]", direction), lambda output: output[:, -1, other].sign())
    assert np.abs(kept.data["per_sample"]).mean() < 0.05  # the other bits stay as they were


def test_lesions_take_away_what_the_units_contribute_and_random_ones_hardly_anything():
    weights = [0.0] * 40
    weights[3], weights[11], weights[29] = 4.0, 2.0, 1.0
    model, inputs = summing(weights), 1 + 0.1 * normal(25, 40)
    curve = nm.lesion(model, inputs, "0", [3, 11, 29], first, doses=[0, 1 / 3, 2 / 3, 1])
    lost = np.cumsum([0.0, *(weights[unit] * inputs[:, unit].mean().item() for unit in (3, 11, 29))])
    np.testing.assert_allclose(curve.change(), -lost, atol=1e-5)
    assert curve.attributes["monotonicity"] == -1
    assert curve.attributes["p_control"] == 0.05  # the smallest that 19 controls allow
    idle = nm.lesion(model, inputs, "0", [0, 1, 2], first)
    assert np.abs(idle.change()).max() == 0
    assert idle.attributes["p_control"] == 1
    assert (idle.data["p"] == 1).all()


def test_random_lesions_are_no_different_from_their_controls():
    p = []
    for seed in range(60):
        model = summing(normal(30, seed=seed).tolist())
        inputs = 1 + normal(6, 30, seed=100 + seed)
        curve = nm.lesion(model, inputs, "0", 0.2, first, doses=[0, 1], n_controls=9, seed=seed)
        assert len(curve.attributes["units"]) == 6
        p.append(curve.attributes["p_control"])
    assert np.mean(np.array(p) <= 0.1) <= 0.2  # one in ten is expected
    assert 0.4 < np.mean(p) < 0.7


def test_a_lesion_to_the_mean_spares_what_is_constant():
    model, inputs = summing([1.0, 1.0]), torch.stack([torch.full((9,), 3.0), normal(9)], 1)
    constant = nm.lesion(model, inputs, "0", [0], first, doses=[0, 1], method="mean")
    np.testing.assert_allclose(constant.change(), 0, atol=1e-6)
    assert nm.lesion(model, inputs, "0", [0], first, doses=[0, 1]).change()[-1] == pytest.approx(-3, abs=1e-5)
    varying = nm.lesion(model, inputs, "0", [1], first, doses=[0, 1], method="mean")
    expected = inputs[:, 1].mean() - inputs[:, 1]
    np.testing.assert_allclose(varying.data["per_sample"].sel(dose=1) - varying.data["baseline"], expected, atol=1e-5)


def test_silencing_channels_equals_removing_their_weights():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.ReLU(), torch.nn.Conv2d(6, 2, 3, bias=False))
    images = normal(5, 1, 8, 8)
    curve = nm.lesion(nm.adapt(network), images, "1", [4, 0], lambda output: output[:, 1].mean((1, 2)), doses=[0, 1])
    with torch.no_grad():
        cut = network[2].weight.clone()
        cut[:, [0, 4]] = 0
        expected = torch.nn.functional.conv2d(network[1](network[0](images)), cut)[:, 1].mean((1, 2))
    np.testing.assert_allclose(curve.data["per_sample"].sel(dose=1), expected, atol=1e-6)


def test_silencing_recurrent_units_equals_cutting_their_weights():
    network = nm.load_model("decision_rnn")
    model, inputs = nm.adapt(network), normal(6, 12, 4)
    units = [5, 60, 22]
    curve = nm.lesion(model, inputs, "hidden", units, lambda output: output[:, -1, 0], doses=[0, 1], n_controls=2)
    cut = nm.load_model("decision_rnn")
    with torch.no_grad():
        cut.rnn.weight_hh_l0[:, units] = 0
        cut.readout.weight[:, units] = 0
        expected = cut(inputs)[:, -1, 0]
    np.testing.assert_allclose(curve.data["per_sample"].sel(dose=1), expected, atol=1e-5)


# -- dose-response ---------------------------------------------------------------------------------------------------


def test_any_edits_may_depend_on_the_dose():
    model, inputs = summing([1.0, -2.0, 0.5]), normal(7, 3)
    scaled = nm.dose_response(model, inputs, "0", [0, 0.5, 2], first)
    expected = model.run(inputs).output[:, 0].double().numpy()
    np.testing.assert_allclose(scaled.data["per_sample"], np.array([[0], [0.5], [2]]) * expected, atol=1e-6)
    shifted = nm.dose_response(
        model,
        inputs,
        lambda dose: [nm.Add("0[unit=1]", dose), nm.Scale("0[unit=2]", dose)] if dose else [],
        [0, 1, 3],
        first,
        controls=[lambda dose: nm.Add("0[unit=0]", dose)],
        dose_name="current",
    )
    third = inputs[:, 2].double().numpy()
    by_hand = [expected, expected - 2, expected - 6 + third]
    np.testing.assert_allclose(shifted.data["per_sample"], by_hand, atol=1e-6)
    np.testing.assert_allclose(shifted.data["control"].values[0], expected.mean() + np.array([0, 1, 3]), atol=1e-6)


def test_the_summary_of_a_curve_agrees_with_scipy_and_numpy():
    random = np.random.default_rng(0)
    for seed in SEEDS:
        doses = np.sort(random.normal(size=7))
        curve = random.normal(size=(7, 12))
        found = curve_summary(doses, curve, seed)
        assert found["monotonicity"] == pytest.approx(spearmanr(doses, curve.mean(1)).statistic)
        assert found["slope"] == pytest.approx(np.polyfit(doses, curve.mean(1), 1)[0])


def test_a_curve_of_noise_has_no_midpoint_and_no_trend():
    random = np.random.default_rng(1)
    found = [curve_summary(np.arange(5.0), random.normal(size=(5, 20)), seed) for seed in range(60)]
    assert np.mean([one["midpoint"] is not None for one in found]) <= 0.15
    assert np.mean([one["slope_p"] < 0.05 for one in found]) <= 0.15


@pytest.mark.parametrize("engine", ["auto", "loop", "batched"])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_curves_do_not_depend_on_how_they_are_computed(engine, batch_size):
    model, inputs = nm.adapt(nm.load_model("flip_flop_gru")), normal(7, 6, 3)
    metric = lambda output: output[:, -1, 1]  # noqa: E731
    direction = normal(32, seed=3)
    options = {"n_controls": 3, "seed": 5}
    plain = nm.steer(model, inputs, "hidden[time=2:5]", direction, [-1, 0, 2], metric, engine="loop", **options)
    curve = nm.steer(
        model,
        inputs,
        "hidden[time=2:5]",
        direction,
        [-1, 0, 2],
        metric,
        engine=engine,
        batch_size=batch_size,
        **options,
    )
    for name in ("per_sample", "control", "baseline"):
        np.testing.assert_allclose(curve.data[name], plain.data[name], atol=1e-5)
