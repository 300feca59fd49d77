"""Dale's ANN: a new layer inhibits as a layer norm does; corrections are those of the Fisher information."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.biophysics.dale.compliance import compliance_of, sign_compliance
from neuros_mechint.neuro.biophysics.dale.dann import DANNLayer
from neuros_mechint.neuro.biophysics.dale.linear import DalesLinear
from neuros_mechint.neuro.biophysics.dale.optimisation import enforce_dales_law, parameter_groups

SEEDS = range(3)


def _rates(n_samples: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n_samples, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).relu()


def _layer(d: int, n_units: int, n_inhibitory: int | None = None, seed: int = 0) -> DANNLayer:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # weights that are rounded have no exact mean
    try:
        return DANNLayer(d, n_units, n_inhibitory, seed=seed)
    finally:
        torch.set_default_dtype(before)


# -- a new layer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_layer_follows_its_equation(seed):
    layer, x = _layer(7, 5, 3, seed), _rates(4, 7, seed)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=random, dtype=torch.float64))
    w_ex, w_ix, w_ei, alpha, g, b = (
        getattr(layer, name).detach().numpy()
        for name in ("excitatory", "to_inhibitory", "from_inhibitory", "log_divisor", "gain", "bias")
    )
    for row, out in zip(x.numpy(), layer(x).detach().numpy(), strict=True):
        h = w_ix @ row
        np.testing.assert_allclose(out, g / (w_ei @ (np.exp(alpha) * h)) * (w_ex @ row - w_ei @ h) + b, rtol=1e-7)


@pytest.mark.parametrize("seed", SEEDS)
def test_with_one_interneuron_it_is_a_layer_norm_up_to_one_factor_per_sample(seed):
    layer, x = _layer(200, 150, 1, seed), _rates(50, 200, seed)
    out, norm = layer(x), nn.functional.layer_norm(x @ layer.excitatory.T, (150,), eps=0.0)
    assert out.mean(-1).abs().max() < 1e-9  # the mean over units is gone, exactly
    factor = (out / norm).detach()
    assert (factor.std(-1) / factor.mean(-1)).abs().max() < 1e-6
    # the divisor is a spread over weights and inputs, that of a layer norm one over weights alone
    assert float(factor.mean()) == pytest.approx(math.sqrt(math.pi / (2 * math.pi - 1)), rel=0.06)
    plain = DalesLinear(200, 150, seed=seed).double()(x)
    assert plain.mean(-1).abs().mean() > 0.01


@pytest.mark.parametrize("n_inhibitory", [1, 20])
def test_the_divisor_is_the_standard_deviation_of_excitation(n_inhibitory):
    excitation, divisors = [], []
    for seed in range(8):
        layer, x = _layer(400, 100, n_inhibitory, seed), _rates(300, 400, seed)
        excitation.append((x @ layer.excitatory.T).detach())
        divisors.append(layer.divisor(x @ layer.to_inhibitory.T).detach())
    spread = float(torch.stack(excitation).std())
    assert spread == pytest.approx(1.0, rel=0.05)  # that of the Gaussians
    assert float(torch.stack(divisors).mean()) == pytest.approx(spread, rel=0.05)


# -- corrections -------------------------------------------------------------------------------------------------------


def _fisher(layer: DANNLayer, x: torch.Tensor) -> dict[str, float]:
    """Mean diagonal Fisher information of unit-Gaussian outputs around a layer, by the chain rule on paper."""
    w_ei, alpha = layer.from_inhibitory.detach(), layer.log_divisor.detach().exp()
    h = (x @ layer.to_inhibitory.T).detach()
    gamma = layer.divisor(h).detach()
    z = ((x @ layer.excitatory.T - h @ w_ei.T) / gamma).detach()
    slope = (layer.gain.detach() / gamma).square()  # (sample, unit)
    through = (1 + z[:, :, None] * alpha).square()  # subtraction and division together (sample, unit, interneuron)
    x2 = x.square().mean(1)
    return {
        "excitatory": float((slope.mean(1) * x2).mean()),
        "to_inhibitory": float(((slope[:, :, None] * through * w_ei.square()).sum(1).mean(1) * x2).mean()),
        "from_inhibitory": float((slope[:, :, None] * through * h[:, None].square()).mean()),
        "log_divisor": float((slope[:, :, None] * (z[:, :, None] * w_ei * alpha * h[:, None]).square()).sum(1).mean()),
    }


def _measured_kl(layer: DANNLayer, x: torch.Tensor, name: str, size: float = 1e-4) -> float:
    """Mean Kullback-Leibler divergence over steps of one size in each entry, in units of the Fisher information."""
    flat = getattr(layer, name).detach().view(-1)
    entries = torch.randperm(flat.numel(), generator=torch.Generator().manual_seed(0))[:300]
    found = []
    with torch.no_grad():
        before = layer(x)
        for entry in entries:
            old = flat[entry].item()
            flat[entry] = old + size
            found.append(0.5 * float((layer(x) - before).square().sum(1).mean()))
            flat[entry] = old
    return 2 * float(np.mean(found)) / size**2


@pytest.mark.parametrize("seed", SEEDS)
def test_the_formula_of_the_fisher_information_is_what_steps_change(seed):
    layer, x = _layer(12, 10, 3, seed), _rates(20, 12, seed)
    for name, expected in _fisher(layer, x).items():
        assert _measured_kl(layer, x, name) == pytest.approx(expected, rel=2e-3), name


def _of_order_one(d: int, n_units: int) -> DANNLayer:
    """Weights that do not shrink with the size of the layer: what the factors are derived for."""
    layer = _layer(d, n_units, 1)
    with torch.no_grad():
        layer.excitatory.copy_(torch.linspace(0.5, 1.5, n_units, dtype=torch.float64)[:, None].expand(-1, d))
        layer.to_inhibitory.fill_(1.0)
        layer.log_divisor.zero_()
    return layer


def _exponents(make, sizes: list[tuple[int, int]], which: int) -> dict[str, float]:
    """By which power of a size a step's effect grows, relative to a step in the excitatory weights."""
    ratios = []
    for d, n_units in sizes:
        found = _fisher(make(d, n_units), _rates(400, d, seed=1))
        ratios.append({name: value / found["excitatory"] for name, value in found.items()})
    logs = np.log([size[which] for size in sizes])
    return {name: float(np.polyfit(logs, np.log([one[name] for one in ratios]), 1)[0]) for name in ratios[0]}


def test_corrections_undo_what_the_sizes_of_a_layer_do_to_steps():
    units = _exponents(_of_order_one, [(50, n) for n in (20, 40, 80, 160)], which=1)
    inputs = _exponents(_of_order_one, [(d, 20) for d in (50, 100, 200, 400)], which=0)
    few, many = DANNLayer(50, 20).update_factors(), DANNLayer(50, 160).update_factors()
    narrow, wide = DANNLayer(50, 20).update_factors(), DANNLayer(400, 20).update_factors()
    for name in ("to_inhibitory", "from_inhibitory", "log_divisor"):
        # a step scaled by c changes c^2 as much
        assert units[name] + 2 * math.log(many[name] / few[name]) / math.log(8) == pytest.approx(0, abs=0.1), name
        assert inputs[name] + 2 * math.log(wide[name] / narrow[name]) / math.log(8) == pytest.approx(0, abs=0.05), name


def test_at_the_initial_weights_effects_grow_more_slowly_with_the_inputs_than_corrections_assume():
    inputs = _exponents(lambda d, n: _layer(d, n, 1), [(d, 50) for d in (50, 100, 200, 400)], which=0)
    assert inputs["to_inhibitory"] == pytest.approx(0, abs=0.1)
    assert inputs["from_inhibitory"] == pytest.approx(1, abs=0.1)  # the factor 1/d undoes 2
    assert inputs["log_divisor"] == pytest.approx(0, abs=0.15)  # and here, too


def test_factors_are_those_of_the_paper_and_reach_the_optimiser():
    layer = DANNLayer(100, 25, 4)
    assert layer.update_factors() == {"to_inhibitory": 1 / 5, "from_inhibitory": 1 / 100, "log_divisor": 1 / 500}
    model = nn.Sequential(layer, nn.ReLU(), nn.Linear(25, 2))
    rates = {id(one): group["lr"] for group in parameter_groups(model, 0.5) for one in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    assert rates[id(layer.log_divisor)] == pytest.approx(0.001)
    assert {rates[id(one)] for one in (layer.excitatory, layer.gain, layer.bias, *model[2].parameters())} == {0.5}


# -- training ----------------------------------------------------------------------------------------------------------


def _ordinary(d: int, n_units: int, n_inhibitory: int | None = None, seed: Any = 0) -> nn.Module:
    """Return a layer without the law, uniform as torch begins."""
    layer = nn.utils.skip_init(nn.Linear, d, n_units)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.from_numpy(seed.uniform(-(d**-0.5), d**-0.5, parameter.shape)))
    return layer


def _digits(seed: int, corrected: bool, layer: Any = DANNLayer, rate: float = 0.1) -> tuple[float, float]:
    """Train two hidden layers on digits; return accuracy on held-out ones and the least compliance at any step."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    inputs, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    random = np.random.default_rng(seed)
    order = random.permutation(len(inputs))
    train, test = order[:1300], order[1300:]
    model = nn.Sequential(
        layer(64, 100, seed=random),
        nn.ReLU(),
        layer(100, 100, seed=random),
        nn.ReLU(),
        layer(100, 10, 1, seed=random),
    )
    optimizer = torch.optim.SGD(parameter_groups(model, rate) if corrected else model.parameters(), lr=rate)
    of_dale, least = layer is DANNLayer, 1.0
    if of_dale:
        enforce_dales_law(optimizer, model)
    for _ in range(4):
        for batch in np.array_split(random.permutation(train), 40):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()
            least = min(least, compliance_of(model)) if of_dale else least
    with torch.no_grad():
        return float((model(inputs[test]).argmax(1) == labels[test]).float().mean()), least


def test_with_corrections_a_network_learns_digits_at_a_rate_at_which_it_fails_without():
    corrected, always = _digits(0, corrected=True)
    plain, too = _digits(0, corrected=False)
    assert plain < 0.5 < corrected
    assert always == too == 1.0


@pytest.mark.slow
def test_over_seeds_corrections_make_a_network_that_learns_better_than_an_ordinary_one():
    # Seeds 0 to 9, mean and standard deviation of single networks: .929 and .040 (.865 to .968) with corrections, .255
    # and .094 (.085 to .429) without, .814 and .043 (.710 to .859) in ordinary layers of the same sizes, and .948 and
    # .014 in those with layer norms. One network says little: after 160 steps at this rate some still miss one digit
    # more often than not (seed 7 knows 39% of the fives); twice as many steps bring .94 to .98 (five seeds).
    seeds = range(10)
    found = np.array([[_digits(seed, corrected=True), _digits(seed, corrected=False)] for seed in seeds])
    accuracy, compliance = found[..., 0], found[..., 1]
    assert (compliance == 1.0).all()
    ordinary = np.array([_digits(seed, corrected=False, layer=_ordinary)[0] for seed in seeds])
    for other, least in ((accuracy[:, 1], 0.5), (ordinary, 0.0)):
        gain = accuracy[:, 0] - other
        assert gain.mean() - 3 * gain.std(ddof=1) / len(gain) ** 0.5 > least


def test_only_interneurons_inhibit_and_all_signs_are_reported():
    report = sign_compliance(DANNLayer(20, 10, 2, seed=0))
    assert report.data["layer"].values.tolist() == ["excitatory", "to_inhibitory", "from_inhibitory"]
    assert (report.balance("from_inhibitory") == -1).all()
    assert report.compliance == 1.0


# -- input -------------------------------------------------------------------------------------------------------------


def test_seeds_repeat_and_torchs_generator_stays_where_it_was():
    before = torch.get_rng_state()
    one, same, other = (DANNLayer(10, 5, 2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.excitatory, same.excitatory)
    assert not torch.equal(one.excitatory, other.excitatory)


def test_a_silent_layer_gives_its_bias():
    assert torch.equal(_layer(10, 5)(torch.zeros(1, 10, dtype=torch.float64)), torch.zeros(1, 5, dtype=torch.float64))


@pytest.mark.parametrize(("sizes", "name"), [((0, 5), "in"), ((5, 0), "out"), ((5, 5, 0), "n_inh"), ((2.5, 5), "in")])
def test_sizes_that_are_none_are_refused(sizes, name):
    with pytest.raises(OptionError, match=name):
        DANNLayer(*sizes)


@pytest.mark.parametrize("name", ["excitatory", "to_inhibitory", "from_inhibitory", "gain"])
@pytest.mark.parametrize(("bad", "match"), [(-0.1, "negative"), (float("nan"), "not finite")])
def test_magnitudes_that_are_none_are_not_loaded(name, bad, match):
    layer, state = DANNLayer(10, 5, 2), DANNLayer(10, 5, 2, seed=1).state_dict()
    before = layer.excitatory.detach().clone()
    state[name].view(-1)[0] = bad
    with pytest.raises(InputError, match=match):
        layer.load_state_dict(state)
    assert torch.equal(layer.excitatory, before)
