"""Attributions against algebra, against integrals written out here, and against captum's own classes for modules."""

from __future__ import annotations

import copy
import sys

import captum.attr
import matplotlib.figure
import numpy as np
import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.causal.attribution.methods import METHODS
from tests.slow import slow_case
from tests.truth.small_networks import captum_may_warn, drawn, first, normal, random, tanh_net

SEEDS = (0, 1, 2)
each_method = pytest.mark.parametrize("method", METHODS)


def relu_net(seed=0):
    return drawn(nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 7), nn.ReLU(), nn.Linear(7, 2)), seed)


def integral(function, values, baseline, n_steps=400):
    """Integrated gradients by the midpoint rule, with nothing but autograd."""
    total = torch.zeros_like(values)
    for step in range(n_steps):
        point = (baseline + (step + 0.5) / n_steps * (values - baseline)).detach().requires_grad_()
        total += torch.autograd.grad(function(point).sum(), point)[0]
    return (values - baseline) * total / n_steps


# -- what must come out ----------------------------------------------------------------------------------------------


@each_method
@pytest.mark.parametrize("seed", SEEDS)
def test_in_a_linear_model_each_input_contributes_its_weight_times_its_distance_from_the_baseline(method, seed):
    net = drawn(nn.Sequential(nn.Linear(5, 4), nn.Identity(), nn.Linear(4, 1)), seed).double()
    inputs, baseline = normal(3, 5, seed=seed, dtype=torch.float64), normal(5, seed=seed + 9, dtype=torch.float64)
    weights = (net[2].weight @ net[0].weight)[0].detach()
    result = nm.attribute(nm.adapt(net), inputs, first, method, baseline=baseline, n_steps=7)
    np.testing.assert_allclose(result.values, weights * (inputs - baseline), rtol=1e-6, atol=1e-7)
    assert result.complete
    hidden = net[0](inputs).detach()
    inside = nm.attribute(nm.adapt(net), inputs, first, method, at="1", n_steps=7)
    np.testing.assert_allclose(inside.values, net[2].weight.detach() * hidden, rtol=1e-6, atol=1e-7)


@each_method
def test_an_input_that_is_not_read_gets_exactly_nothing(method):
    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = tanh_net()

        def forward(self, inputs):
            return self.inner(torch.cat([inputs[:, :3], inputs[:, 4:]], 1))

    result = nm.attribute(nm.adapt(Blind()), normal(4, 7), first, method, baseline=normal(7, seed=1))
    attribution = result.values.values
    assert (attribution[:, 3] == 0).all()
    assert (np.delete(attribution, 3, 1) != 0).all()


@pytest.mark.parametrize("seed", [0, *map(slow_case, SEEDS[1:])])
@pytest.mark.parametrize("at", [None, "0", "1", "2"])
def test_integrated_gradients_and_deeplift_add_up_and_input_times_gradient_does_not(seed, at):
    model, inputs = nm.adapt(tanh_net(seed)), normal(8, 6, seed=seed)
    net = model.module
    path = nm.attribute(model, inputs, first, at=at, n_steps=100)
    assert abs(path.data["residual"]).max() < 1e-5
    lifted = nm.attribute(model, inputs, first, "deeplift", at=at)
    assert abs(lifted.data["residual"]).max() < 1e-5
    assert path.complete
    assert lifted.complete
    # the difference itself is checked against the network, not only against the sum
    zero = torch.zeros(1, 6) if at is None else torch.zeros_like(nn.Sequential(*net[: int(at) + 1])(inputs[:1]))
    rest = net if at is None else net[int(at) + 1 :]
    np.testing.assert_allclose(path.data["metric_at_baseline"], first(rest(zero).expand(8, -1)).detach(), rtol=1e-5)
    np.testing.assert_allclose(path.data["metric"], first(net(inputs)).detach(), rtol=1e-5)
    quick = nm.attribute(model, inputs, first, "input_x_gradient", at=at)
    assert abs(quick.data["residual"]).max() > 0.05
    assert not quick.complete
    assert "not complete: the attributions of" in quick.warnings[0]


def test_a_flat_end_of_the_path_hides_the_effect_from_the_gradient_only():
    # f(x) = 1 - relu(1 - x) rises from 0 to 1 between 0 and 1 and is flat at x = 2 (Sundararajan et al. 2017, 2.1)
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    for parameter, value in zip(net.parameters(), (-1.0, 1.0, -1.0, 1.0), strict=True):
        parameter.data.fill_(value)
    got = {m: nm.attribute(nm.adapt(net), torch.tensor([[2.0]]), first, m, n_steps=400).values.item() for m in METHODS}
    assert got["integrated_gradients"] == pytest.approx(1, abs=1e-5)
    assert got["deeplift"] == pytest.approx(1, abs=1e-6)
    assert got["gradient_shap"] == pytest.approx(1, abs=5 / 400**0.5)
    assert got["input_x_gradient"] == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_integrated_gradients_equal_the_integral_written_out(seed):
    net, inputs, baseline = tanh_net(seed), normal(4, 6, seed=seed), normal(4, 6, seed=seed + 5)
    got = nm.attribute(nm.adapt(net), inputs, first, baseline=baseline)
    expected = integral(lambda x: first(net(x)), inputs, baseline)
    np.testing.assert_allclose(got.values, expected, atol=2e-5)
    point = inputs.clone().requires_grad_()
    gradient = torch.autograd.grad(first(net(point)).sum(), point)[0]
    quick = nm.attribute(nm.adapt(net), inputs, first, "input_x_gradient", baseline=baseline)
    np.testing.assert_allclose(quick.values, (inputs - baseline) * gradient, rtol=1e-4, atol=1e-6)
    inside = nm.attribute(nm.adapt(net), inputs, first, at="2", baseline=0.5)
    values = net[:3](inputs).detach()
    expected = integral(lambda h: first(net[3:](h)), values, torch.full_like(values, 0.5))
    np.testing.assert_allclose(inside.values, expected, atol=2e-5)


def test_deeplift_follows_the_rescale_rule_by_hand():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
    net[0].weight.data = torch.tensor([[2.0, -1.0], [-1.0, -1.0]])
    net[0].bias.data = torch.tensor([-1.0, 3.0])
    net[2].weight.data = torch.tensor([[1.0, 2.0]])
    # first unit: -1 -> 2 before, 0 -> 2 after the ReLU, multiplier 2/3; second: 3 -> 0 before and after, multiplier 1
    got = nm.attribute(nm.adapt(net), torch.tensor([[2.0, 1.0]]), first, "deeplift").values.values[0]
    np.testing.assert_allclose(got, [2 / 3 * 2 * 2 + 2 * -1 * 2, 2 / 3 * -1 * 1 + 2 * -1 * 1], rtol=1e-6)
    # the gradient sees one open and one closed ReLU instead
    gradient = nm.attribute(nm.adapt(net), torch.tensor([[2.0, 1.0]]), first, "input_x_gradient").values.values[0]
    np.testing.assert_allclose(gradient, [2 * 2, -1], rtol=1e-6)


class Squares(nn.Module):
    def forward(self, inputs):
        return (torch.tensor([1.0, -2.0, 0.5]) * inputs**2).sum(1, keepdim=True)


def test_gradient_shap_is_centred_on_the_integral_and_states_its_own_spread():
    inputs, baselines = normal(2, 3), normal(5, 3, seed=1)
    expected = torch.tensor([1.0, -2.0, 0.5]) * (inputs**2 - (baselines**2).mean(0))  # the mean over baselines of IG
    runs = [
        nm.attribute(nm.adapt(Squares()), inputs, first, "gradient_shap", baseline=baselines, n_steps=40, seed=seed)
        for seed in range(40)
    ]
    estimates = np.stack([run.values for run in runs])
    claimed = np.sqrt(np.mean([run.data["standard_error"].values ** 2 for run in runs], 0))
    spread = estimates.std(0, ddof=1)
    np.testing.assert_array_less(abs(estimates.mean(0) - expected.numpy()), 4 * claimed / 40**0.5)
    np.testing.assert_allclose(spread, claimed, rtol=0.45)  # 40 runs: the spread has a relative error of 11 %
    residuals = np.stack([run.data["residual"] for run in runs])
    assert abs(residuals.mean()) < 4 * residuals.std() / residuals.size**0.5
    np.testing.assert_allclose(
        runs[0].data["metric_at_baseline"], first(Squares()(baselines)).mean().expand(2), rtol=1e-5
    )


def test_gradient_shap_repeats_with_its_seed_and_leaves_the_global_generators_alone():
    model = nm.adapt(tanh_net())

    def shap(seed):
        return nm.attribute(model, normal(2, 6), first, "gradient_shap", n_steps=5, seed=seed)

    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    one, again, other = shap(0), shap(0), shap(1)
    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    np.testing.assert_array_equal(one.values, again.values)
    assert (one.values != other.values).any()
    source = np.random.default_rng(0)
    assert (shap(source).values != shap(source).values).any()
    assert one.provenance.seed == 0


# -- sites of sequence models ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def induction():
    return nm.adapt(nm.load_model("induction"))


@pytest.fixture(scope="module")
def repeats():
    """Sequences whose second half repeats the first, and what follows; the answer stands at position 4."""
    rows = torch.stack([torch.randperm(63, generator=random(seed))[:8] + 1 for seed in range(8)])
    return torch.cat([rows, rows[:, :4]], 1), rows[:, 4]


def test_token_models_equal_captums_layer_method_at_a_block(induction, repeats):
    tokens, answers = repeats
    other = tokens.roll(1, 0)
    metric = nm.log_probability(answers)
    net = induction.module
    path = captum.attr.LayerIntegratedGradients(lambda ids: metric(net(ids)), net.blocks[0])
    expected = path.attribute(tokens, other, n_steps=20, internal_batch_size=len(tokens)).detach()
    site = "blocks.0.resid_post"
    got = nm.attribute(induction, tokens, metric, at=site, baseline=induction.capture(other, site), n_steps=20)
    np.testing.assert_allclose(got.values, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("at", ["embed", "blocks.0.z[head=0]", "blocks.1.pattern", "blocks.1.k[head=[0, 3]]"])
def test_every_kind_of_site_is_complete(induction, repeats, at):
    tokens, answers = repeats
    result = nm.attribute(induction, tokens, nm.logit_difference(answers, (answers + 7) % 63 + 1), at=at)
    assert result.complete
    assert result.data["relative_residual"].max() < 1e-4
    assert abs(result.data["metric"] - result.data["metric_at_baseline"]).min() > 0.1


def test_heads_of_the_last_layer_contribute_what_their_weights_write_on_the_logits(induction, repeats):
    tokens, answers = repeats
    metric = nm.logit_difference(answers, (answers + 7) % 63 + 1)
    net = induction.module
    direction = net.unembedding.weight[metric.correct] - net.unembedding.weight[metric.wrong]
    z = induction.capture(tokens, "blocks.1.z")["blocks.1.z"][:, -1]
    written = torch.einsum("nhu,dhu,nd->nh", z, net.blocks[1].attention.output.weight.unflatten(1, (4, 16)), direction)
    whole = nm.attribute(induction, tokens, metric, at="blocks.1.z")
    np.testing.assert_allclose(whole.by("head"), written.detach(), rtol=1e-3, atol=1e-4)
    assert abs(whole.values.isel(position=slice(-1))).max() == 0
    one = nm.attribute(induction, tokens, metric, at="blocks.1.z[head=2, position=-1]")
    np.testing.assert_allclose(one.values.sum("unit"), written[:, 2].detach(), rtol=1e-3, atol=1e-4)


def test_the_tokens_of_the_induction_matter_and_not_once_the_weights_are_drawn_anew(induction, repeats):
    tokens, answers = repeats

    # the last token stands at 11 and came before at 3; its answer followed at 4
    def found(model):
        by_position = nm.attribute(model, tokens, nm.log_probability(answers), at="embed", n_steps=30).by("position")
        largest = by_position.values.argsort(1)[:, -3:]
        return float((np.sort(largest, 1) == [3, 4, 11]).all(1).mean())

    assert found(induction) == 1
    for seed in SEEDS:
        network = copy.deepcopy(induction.module)
        for parameter in network.parameters():
            parameter.data = parameter.std() * torch.randn(parameter.shape, generator=random(seed))
        assert found(nm.adapt(network)) <= 0.25


@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_networks_have_their_samples_first_whatever_their_layout(batch_first):
    net = drawn(nn.GRU(3, 4, batch_first=batch_first), 0, 0.5)
    inputs = normal(5, 2, 3)  # (time, sample, unit)
    given = inputs.transpose(0, 1) if batch_first else inputs

    def last(output):
        return (output[0][:, -1] if batch_first else output[0][-1])[:, 1]

    result = nm.attribute(nm.adapt(net), given, last)
    assert result.values.dims == ("sample", "time", "unit")
    expected = integral(lambda x: last(net(x)), given, torch.zeros_like(given))
    np.testing.assert_allclose(result.values, expected if batch_first else expected.transpose(0, 1), atol=1e-5)
    middle = nm.attribute(nm.adapt(net), given, last, at="hidden[time=2]")
    assert dict(middle.values.sizes) == {"sample": 2, "unit": 4}
    assert middle.complete
    assert abs(middle.data["residual"]).max() < 1e-5


# -- the result ------------------------------------------------------------------------------------------------------


def test_one_number_for_all_samples_is_attributed_as_a_whole():
    net, inputs = tanh_net(), normal(4, 6)
    result = nm.attribute(nm.adapt(net), inputs, lambda output: output[:, 0].mean())
    assert result.data["residual"].dims == ()
    assert result.complete
    per_sample = nm.attribute(nm.adapt(net), inputs, first)
    np.testing.assert_allclose(result.values, per_sample.values / 4, rtol=1e-4, atol=1e-7)
    lifted = nm.attribute(nm.adapt(net), inputs, lambda output: output[:, 0].mean(), "deeplift")
    np.testing.assert_allclose(lifted.values.sum(), result.values.sum(), rtol=1e-4)


def test_the_result_is_labelled_saved_summed_and_drawn(induction, repeats, tmp_path):
    tokens, answers = repeats
    site = "blocks.1.v[head=[1, 3], position=2:]"
    result = nm.attribute(induction, tokens, nm.log_probability(answers), at=site, n_steps=20)
    assert result.values.coords["kv_head"].values.tolist() == [1, 3]
    assert result.values.coords["position"].values.tolist() == list(range(2, 12))
    assert result.values.attrs["units"] == "log-probability (nats)"
    assert nm.load_result(result.save(tmp_path / "attribution.nc")) == result
    np.testing.assert_allclose(result.by("head").sum("kv_head"), result.values.sum(result.values.dims[1:]), rtol=1e-4)
    text = result.summary()
    assert f"metric of the input: {result.data['metric'].mean().item():.4g} log-probability (nats)" in text
    largest = abs(result.values).mean("sample").max().item()
    assert text.count(f": {largest:.4g}\n") == 1
    assert set(result.attributes) >= {"method", "site", "captum", "n_steps", "tolerance"}
    for drawn_result in (result, result.for_sample(3)):
        axes = drawn_result.plot(matplotlib.figure.Figure().subplots())
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("position", "kv head")
    shown = axes.images[0].get_array()
    np.testing.assert_allclose(shown, result.values.sel(sample=3).sum("unit").transpose("kv_head", "position"))
    assert result.for_sample(-1).data["sample"].item() == 7


def test_a_row_of_features_is_drawn_as_bars_of_the_mean_size():
    result = nm.attribute(nm.adapt(tanh_net()), normal(5, 6), first)
    heights = [bar.get_height() for bar in result.plot(matplotlib.figure.Figure().subplots()).patches]
    np.testing.assert_allclose(heights, abs(result.values).mean("sample"), rtol=1e-6)
    single = result.for_sample(1)
    heights = [bar.get_height() for bar in single.plot(matplotlib.figure.Figure().subplots()).patches]
    np.testing.assert_allclose(heights, result.values[1], rtol=1e-6)
    one = nm.attribute(nm.adapt(tanh_net()), normal(5, 6), first, at="3[unit=2]")
    assert one.values.dims == ("sample",)
    assert "site: " in one.summary()
    assert len(one.plot(matplotlib.figure.Figure().subplots()).patches) == 1


@pytest.mark.parametrize("frozen", [True, False])
@each_method
def test_the_model_and_its_inputs_stay_as_they_were(method, frozen):
    net, inputs = relu_net().train(), normal(4, 6)
    for parameter in net[0].parameters():
        parameter.requires_grad_(not frozen)
    before, given = copy.deepcopy(net.state_dict()), inputs.clone()

    def state():
        hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in net.modules()]
        return hooks, [sorted(vars(m)) for m in net.modules()], [m.training for m in net.modules()]

    kept = state()
    nm.attribute(nm.adapt(net), inputs, first, method, at="1")  # the first ReLU lies before the site
    with pytest.raises(ZeroDivisionError):
        nm.attribute(nm.adapt(net), inputs, lambda output: output[:, 0] / (1 // 0), method)
    assert state() == kept
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(inputs, given)
    assert not inputs.requires_grad


@each_method
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_gradient_mode_does_not_matter(method, mode):
    model = nm.adapt(relu_net())
    expected = nm.attribute(model, normal(4, 6), first, method, at="0").values
    with mode():
        got = nm.attribute(model, normal(4, 6), first, method, at="0").values
    np.testing.assert_array_equal(got, expected)


# -- what is refused -------------------------------------------------------------------------------------------------


class Functional(nn.Module):
    """Its nonlinearity is a function, which DeepLIFT cannot see."""

    def __init__(self):
        super().__init__()
        self.into, self.out = drawn(nn.Linear(6, 8)), drawn(nn.Linear(8, 1))

    def forward(self, inputs):
        return self.out(torch.relu(self.into(inputs)))


class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.into, self.square, self.relu = nn.Linear(6, 6), nn.Linear(6, 6), nn.ReLU()

    def forward(self, inputs):
        return self.relu(self.square(self.relu(self.into(inputs))))


def test_deeplift_is_refused_where_captum_would_treat_a_nonlinearity_as_linear(induction, repeats):
    inputs = normal(4, 6)
    with pytest.raises(nm.errors.CapabilityError, match="not DeepLIFT's attributions") as caught:
        nm.attribute(nm.adapt(Functional()), inputs, first, "deeplift")
    assert "torch.relu" in str(caught.value)
    with captum_may_warn():
        silent, delta = captum.attr.DeepLift(Functional()).attribute(
            inputs.clone().requires_grad_(), target=0, return_convergence_delta=True
        )
    assert torch.isfinite(silent).all()
    assert delta.abs().max() > 0.1
    net = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 1))
    with pytest.raises(nm.errors.CapabilityError, match="GELU"):
        nm.attribute(nm.adapt(drawn(net)), inputs, first, "deeplift")
    for at in (None, "square"):
        with pytest.raises(nm.errors.CapabilityError, match="runs several times"):
            nm.attribute(nm.adapt(drawn(Reused())), inputs, first, "deeplift", at=at)
    with pytest.raises(nm.errors.CapabilityError, match="not DeepLIFT's attributions"):
        nm.attribute(induction, repeats[0], nm.log_probability(repeats[1]), "deeplift", at="embed")
    # behind the attention there is nothing nonlinear left
    metric = nm.logit_difference(repeats[1], 1)
    assert nm.attribute(induction, repeats[0], metric, "deeplift", at="blocks.1.z").complete


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "integrated_gradient"}, "OptionError", "did you mean 'integrated_gradients'"),
        ({"baseline": torch.zeros(5)}, "InputError", "another shape than the site"),
        ({"baseline": torch.zeros(3, 6)}, "InputError", r"shape \(4, 6\)"),
        ({"baseline": torch.zeros(3, 5), "method": "gradient_shap"}, "InputError", "another shape"),
        ({"baseline": float("nan")}, "InputError", "not finite"),
        ({"baseline": "zero"}, "InputError", "no array"),
        ({"n_steps": 0}, "InputError", "n_steps is out of range"),
        ({"n_steps": 2.0}, "InputError", "n_steps is out of range"),
        ({"seed": -1}, "InputError", "negative"),
        ({"metric": None}, "InputError", "neither"),
        ({"target": "2[unit=1]"}, "InputError", "both"),
        ({"metric": "2[unit=1]"}, "InputError", "cannot be called"),
        ({"metric": lambda output: output[:, :2]}, "InputError", "too many axes"),
        ({"metric": lambda output: output[:3, 0]}, "InputError", "one value per sample"),
        ({"metric": lambda output: output[:, 0] / 0}, "InputError", "not finite"),
        ({"metric": lambda output: torch.ones(4)}, "InputError", "does not depend on the model's output"),
        ({"metric": lambda output: 0 * output[:, 0]}, "InputError", "the metric does not depend on ':in'"),
        ({"metric": None, "target": "2"}, "InputError", "is not one unit"),
        ({"metric": None, "target": "0[unit=1]", "at": "2"}, "InputError", r"0\[unit=1\] does not depend on"),
        ({"metric": None, "target": "0[unit=1]", "at": "0"}, "InputError", r"0\[unit=1\] does not depend on"),
        ({"at": "*"}, "SiteError", "one site"),
        ({"at": "nowhere"}, "SiteError", "no site 'nowhere'"),
        ({"at": "0[unit=10]"}, "SiteError", "out of range"),
        ({"at": "0[sample=1]"}, "SiteError", "per sample"),
    ],
)
def test_what_does_not_fit_is_refused(options, error, message):
    options = {"metric": first} | options
    with pytest.raises(getattr(nm.errors, error), match=message):
        nm.attribute(nm.adapt(tanh_net()), normal(4, 6), **options)


def test_token_ids_and_models_without_gradients_or_edits_are_refused(induction, repeats):
    for tokens in (repeats[0], {"tokens": repeats[0]}, "some words"):
        with pytest.raises(nm.errors.InputError, match="at='embed'"):
            nm.attribute(induction, tokens, first)
    with pytest.raises(nm.errors.SiteError, match="no site"):
        nm.attribute(induction, repeats[0], first, at="unused")
    recording = nm.adapt(nm.Recording(np.ones((3, 4)), dims=("sample", "unit")))
    with pytest.raises(nm.errors.CapabilityError, match="cannot be edited"):
        nm.attribute(recording, None, first)
    with pytest.raises(nm.errors.InputError, match="no adapter"):
        nm.attribute(tanh_net(), normal(4, 6), first)

    class WithoutGradients(type(nm.adapt(tanh_net()))):
        capabilities = frozenset({"capture", "intervene"})

    with pytest.raises(nm.errors.CapabilityError, match="has no gradients"):
        nm.attribute(WithoutGradients(tanh_net()), normal(4, 6), first)


def test_a_missing_captum_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(nm.errors.MissingDependencyError, match=r"neuros-mechint\[attribution\]"):
        nm.attribute(nm.adapt(tanh_net()), normal(4, 6), first)
