"""Dale's law: planted weights come back, signs hold at every step, excitation and inhibition balance."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from neuros_mechint.adapters.registry import adapt
from neuros_mechint.core.edits import Zero
from neuros_mechint.core.errors import OptionError
from neuros_mechint.core.result import load_result
from neuros_mechint.datasets.embedded import load_model
from neuros_mechint.datasets.tasks import context_decision
from neuros_mechint.neuro.biophysics.dale.balance import balanced_weights, connection_mask
from neuros_mechint.neuro.biophysics.dale.compliance import compliance_of, sign_compliance
from neuros_mechint.neuro.biophysics.dale.linear import DalesLinear
from neuros_mechint.neuro.biophysics.dale.optimisation import enforce_dales_law
from neuros_mechint.neuro.biophysics.dale.recurrent import EIRecurrentNetwork
from neuros_mechint.neuro.biophysics.dale.signs import source_signs
from neuros_mechint.neuro.biophysics.dale.training import train_biological
from tests.slow import slow_case

_N = 50
_SIGNS = torch.where(torch.arange(_N) < 40, 1.0, -1.0)
PARAMETRISATIONS = ("projected", "absolute")
SEEDS = [0, 1, *map(slow_case, range(2, 5))]


def _planted(seed: int) -> torch.Tensor:
    """A matrix of 40 excitatory and 10 inhibitory columns, of which a fifth of the entries is zero."""
    random = np.random.default_rng(1000 + seed)
    magnitudes = random.gamma(2.0, 0.1, (_N, _N)) * (random.random((_N, _N)) < 0.8)
    return torch.from_numpy(magnitudes * np.where(np.arange(_N) < 40, 1.0, -4.0)).float()


def _fit(layer, planted, seed, n_steps=800, noise=0.0, n_samples=None):
    """Fit a layer to what the planted weights do; return its weights and the least compliance at any step."""
    random = torch.Generator().manual_seed(seed)

    def draw(count):
        inputs = torch.randn(count, _N, generator=random).relu()
        return inputs, inputs @ planted.T + noise * torch.randn(count, _N, generator=random)

    optimizer = torch.optim.Adam(layer.parameters(), lr=2e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    if isinstance(layer, DalesLinear):
        enforce_dales_law(optimizer, layer)
    fixed = draw(n_samples) if n_samples else None
    least = 1.0
    for _ in range(n_steps):
        inputs, targets = fixed or draw(256)
        optimizer.zero_grad()
        (layer(inputs) - targets).square().mean().backward()
        optimizer.step()
        schedule.step()
        least = min(least, float((layer.weight.detach() * _SIGNS >= 0).float().mean()))
    return layer.weight.detach(), least


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


def _plain(seed: int) -> torch.nn.Linear:
    layer = torch.nn.Linear(_N, _N)
    bound = 1 / math.sqrt(_N)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
        layer.bias.zero_()
    return layer


# -- planted weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_planted_weights_are_recovered_and_signs_hold_at_every_step(seed, parametrisation):
    planted = _planted(seed)
    found, least = _fit(DalesLinear(_N, _N, parametrisation=parametrisation, seed=seed), planted, seed)
    assert _correlation(found, planted) >= 0.999
    assert least == 1.0


@pytest.mark.parametrize("seed", [0, slow_case(1), slow_case(2)])
def test_an_unconstrained_layer_breaks_the_law_and_recovers_less_from_few_noisy_samples(seed):
    planted = _planted(seed)
    settings = {"n_steps": 400, "noise": 1.0, "n_samples": 100}
    free, least = _fit(_plain(seed), planted, seed, **settings)
    kept, always = _fit(DalesLinear(_N, _N, seed=seed), planted, seed, **settings)
    assert least < 0.6
    assert (free * _SIGNS >= 0).float().mean() < 0.9
    assert always == 1.0
    assert _correlation(kept, planted) > _correlation(free, planted) + 0.02


class _Rectified(torch.nn.Module):
    """The parametrisation that is not offered: rectified free numbers."""

    def __init__(self, seed):
        super().__init__()
        self.free = torch.nn.Parameter(0.2 * torch.randn(_N, _N, generator=torch.Generator().manual_seed(seed)))

    @property
    def weight(self):
        return self.free.relu() * _SIGNS

    def forward(self, inputs):
        return inputs @ self.weight.T


@pytest.mark.parametrize("seed", [0, slow_case(1), slow_case(2)])
def test_rectified_weights_die_which_is_why_they_are_not_offered(seed):
    planted = _planted(seed)
    found, _ = _fit(_Rectified(seed), planted, seed)
    connected = planted != 0
    assert (found[connected] == 0).float().mean() > 0.3
    assert _correlation(found, planted) < 0.98
    with pytest.raises(OptionError, match="parametrisation"):
        DalesLinear(_N, _N, parametrisation="relu")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("seed", range(3))
def test_steps_of_any_size_are_put_back(seed):
    layer = DalesLinear(20, 10, seed=seed)
    optimizer = torch.optim.SGD(layer.parameters(), lr=10.0)
    handle = enforce_dales_law(optimizer, layer)
    inputs = torch.rand(8, 20, generator=torch.Generator().manual_seed(seed))
    for keeps in (True, False):
        optimizer.zero_grad()
        layer(inputs).square().sum().backward()
        optimizer.step()
        assert (compliance_of(layer) == 1.0) is keeps
        handle.remove()
    layer.project_()
    assert compliance_of(layer) == 1.0


# -- initial weights ---------------------------------------------------------------------------------------------------


def test_excitation_and_inhibition_of_targets_cancel_within_the_standard_error():
    sums = torch.cat([balanced_weights(source_signs(200), 200, seed=seed).sum(1) for seed in range(20)])
    assert abs(sums.mean()) < 3 * sums.std() / math.sqrt(len(sums))
    excitation = balanced_weights(source_signs(200), 200)[:, :160].sum(1)
    assert excitation.mean() > 20 * excitation.std() / math.sqrt(200)


def test_every_target_is_balanced_also_where_connections_are_uneven():
    signs = source_signs(40)
    mask = torch.ones(3, 40, dtype=torch.bool)
    mask[0, 4:32] = False  # four excitatory, eight inhibitory sources
    mask[1, 33:] = False  # 32 excitatory, one inhibitory
    sums = torch.stack([balanced_weights(signs, 3, mask, seed=seed).sum(1) for seed in range(2000)])
    assert (sums.mean(0).abs() < 3.5 * sums.std(0) / math.sqrt(2000)).all()


def test_a_target_without_sources_of_one_kind_keeps_the_others():
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[0, 8:] = False
    weights = balanced_weights(source_signs(10), 2, mask)
    assert (weights[0, :8] > 0).all()
    assert (weights[0, 8:] == 0).all()


@pytest.mark.parametrize("fraction", [0.5, 0.8])
def test_the_variance_of_rectified_gaussian_inputs_is_kept(fraction):
    random = torch.Generator().manual_seed(0)
    inputs = 3.0 * torch.randn(2000, 400, generator=random)
    out = [inputs.relu() @ balanced_weights(source_signs(400, fraction), 400, seed=seed).T for seed in range(10)]
    assert float(torch.stack(out).var()) == pytest.approx(9.0, rel=0.05)


@pytest.mark.parametrize("radius", [0.5, 1.5])
@pytest.mark.parametrize("density", [0.2, 1.0])
def test_the_spectral_radius_is_the_one_asked_for(radius, density):
    mask = connection_mask(80, 80, density, self_connections=False, seed=1)
    layer = DalesLinear(80, 80, mask=mask, spectral_radius=radius, seed=2)
    assert float(torch.linalg.eigvals(layer.weight.detach()).abs().max()) == pytest.approx(radius, rel=1e-4)


def test_connections_that_do_not_exist_stay_away_in_training():
    mask = connection_mask(30, 30, 0.3, self_connections=False, seed=0)
    assert 0.25 < mask.float().mean() < 0.35
    for parametrisation in PARAMETRISATIONS:
        layer = DalesLinear(30, 30, mask=mask, parametrisation=parametrisation)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
        for _ in range(5):  # not even put back: they do not act
            layer(torch.rand(4, 30, generator=torch.Generator().manual_seed(0))).square().sum().backward()
            optimizer.step()
            assert (layer.acting_weight()[~mask] == 0).all()
        layer.project_()
        assert (layer.weight[~mask] == 0).all()


def test_seeds_repeat_and_torchs_generator_stays_where_it_was():
    before = torch.get_rng_state()
    one, same, other = (EIRecurrentNetwork(2, 20, 1, density=0.5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.cell.recurrent.weight, other.cell.recurrent.weight)


# -- recurrent networks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
@pytest.mark.parametrize("nonlinearity", ["relu", "softplus"])
def test_a_network_follows_its_equation(nonlinearity, parametrisation):
    network = EIRecurrentNetwork(
        3, 20, 2, alpha=0.3, nonlinearity=nonlinearity, parametrisation=parametrisation, readout="all", seed=1
    ).double()
    inputs = torch.randn(4, 15, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = network.run(inputs)
    rates_of = {"relu": lambda x: np.maximum(x, 0), "softplus": lambda x: np.log1p(np.exp(x))}[nonlinearity]
    recurrent, readout = network.cell.recurrent, network.readout
    w, w_in, w_out = (one.detach().numpy() for one in (recurrent.weight, network.cell.weight_ih, readout.weight))
    x = np.zeros((4, 20))
    for step in range(15):
        x = 0.7 * x + 0.3 * (rates_of(x) @ w.T + inputs[:, step].numpy() @ w_in.T)
        np.testing.assert_allclose(found.rates[:, step].detach(), rates_of(x), atol=1e-12)
        np.testing.assert_allclose(found.outputs[:, step].detach(), rates_of(x) @ w_out.T, atol=1e-12)


def test_the_noise_of_unconnected_units_has_the_variance_of_its_process():
    network = EIRecurrentNetwork(1, 50, 1, alpha=0.2, noise=0.3, nonlinearity="softplus", seed=0).double()
    with torch.no_grad():
        network.cell.recurrent.weight.zero_()
    rates = network.run(torch.zeros(200, 60, 1, dtype=torch.float64), torch.Generator().manual_seed(0)).rates
    currents = torch.log(torch.expm1(rates[:, -1])).detach()
    assert float(currents.std()) == pytest.approx(0.3 * math.sqrt(2 / (2 - 0.2)), rel=0.02)
    silent = network.run(torch.zeros(2, 60, 1, dtype=torch.float64)).rates
    assert torch.equal(silent[0], silent[1])


def test_only_excitatory_units_project_out_of_the_network():
    network = EIRecurrentNetwork(2, 20, 3, seed=0)
    run = network.run(torch.randn(4, 6, 2, generator=torch.Generator().manual_seed(0)))
    run.rates.retain_grad()
    run.outputs[:, -1].sum().backward()
    slope = run.rates.grad
    assert slope is not None
    assert (slope[:, -1, 16:] == 0).all()
    assert (slope[:, -1, :16] > 0).all()
    assert network.excitatory.tolist() == [True] * 16 + [False] * 4


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_adapters_capture_edit_and_step_the_network(parametrisation):
    network = EIRecurrentNetwork(4, 30, 1, density=0.5, parametrisation=parametrisation, seed=3)
    model = adapt(network)
    assert {"time", "step", "intervene", "gradient"} <= model.capabilities
    inputs = torch.randn(6, 12, 4, generator=torch.Generator().manual_seed(0))
    run = network.run(inputs)
    captured = model.capture(inputs, ["hidden", "rates:out"])
    assert captured.xarray("hidden").dims == ("sample", "time", "unit")
    torch.testing.assert_close(captured["rates:out"], run.rates)
    torch.testing.assert_close(captured["hidden"].relu(), run.rates)
    state = torch.zeros(6, 30)
    for step in range(12):
        state = model.step(state, inputs[:, step])
    torch.testing.assert_close(state, captured["hidden"][:, -1])
    edited = model.run(inputs, edits=[Zero("hidden[time=3:6]")])
    assert torch.equal(edited.output[:, :3], run.outputs[:, :3])
    assert (edited.output[:, 6:] - run.outputs[:, 6:]).abs().max() > 0.01


def test_a_network_copies_saves_and_loads(tmp_path):
    network = EIRecurrentNetwork(2, 20, 1, density=0.4, parametrisation="absolute", seed=0)
    inputs = network.dummy_inputs
    other = EIRecurrentNetwork(2, 20, 1, density=0.4, parametrisation="absolute", seed=9)
    other.load_state_dict(network.state_dict())
    for twin in (other, copy.deepcopy(network)):
        assert torch.equal(twin(inputs), network(inputs))


# -- report ------------------------------------------------------------------------------------------------------------


def test_a_report_counts_what_can_be_counted_by_hand():
    layer = torch.nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, -1.0, -2.0], [0.0, 3.0, 0.0]]))
    report = sign_compliance(layer, {"weight": [1, 1, -1]})
    one = report.data.sel(layer="weight")
    assert (int(one["n_weights"]), int(one["n_wrong"])) == (6, 1)
    assert report.compliance == float(one["compliance"]) == pytest.approx(5 / 6)
    assert float(one["dead"]) == pytest.approx(2 / 6)
    assert report.balance("weight").values == pytest.approx([(2 - 3) / 5, 1.0])


def test_the_embedded_network_that_keeps_the_law_does_and_the_other_does_not():
    dale = load_model("decision_dale_rnn")
    assert sign_compliance(dale, {"rnn.weight_hh_l0": source_signs(100)}).compliance == 1.0
    plain = load_model("decision_rnn")
    assert sign_compliance(plain, {"rnn.weight_hh_l0": source_signs(64)}).compliance < 0.65


def test_a_report_is_told_drawn_and_kept(tmp_path):
    report = sign_compliance(EIRecurrentNetwork(2, 20, 1, seed=0))
    assert "cell.recurrent.weight: 380 of 380 weights (100%) keep their source's sign" in report.summary()
    axes = report.plot()
    assert [label.get_text() for label in axes.get_yticklabels()][1].startswith("readout.weight")
    with pytest.raises(OptionError, match=r"did you mean 'readout\.weight'"):
        report.balance("readout.weights")
    assert load_result(report.save(tmp_path / "report.nc")) == report


def test_a_report_of_long_names_or_no_weights_has_room_and_says_so():
    silent = DalesLinear(5, 3)
    with torch.no_grad():
        silent.weight.zero_()
    long = "a_module_of_a_long_name_in_a_network_of_modules_of_long_names"
    axes = sign_compliance(torch.nn.ModuleDict({long: silent})).plot()
    assert [text.get_text() for text in axes.texts] == ["no target has any input"]
    figure = axes.figure
    figure.canvas.draw()
    assert axes.get_window_extent().width > 0.4 * figure.bbox.width


# -- a task ------------------------------------------------------------------------------------------------------------


def _accuracy(network, coherence: float) -> float:
    test = context_decision(2000, coherences=(coherence,), seed=99)
    with torch.no_grad():
        return float((network(test.inputs)[:, -1].sign() == test.targets[:, -1]).float().mean())


def test_a_network_learns_to_decide_with_all_signs_kept():
    network = EIRecurrentNetwork(4, 40, 1, noise=0.05, seed=0)
    short = {"coherences": (1.0,), "cue_steps": 2, "stimulus_steps": 10, "response_steps": 3}
    trained = train_biological(
        network, lambda random: context_decision(64, **short, seed=random), 250, learning_rate=5e-3, progress=False
    )
    test = context_decision(1000, **short, seed=99)
    right = (trained.model(test.inputs)[:, -1].sign() == test.targets[:, -1]).float().mean()
    assert right > 0.97
    assert (trained.history.data["compliance"] == 1).all()
    assert sign_compliance(trained.model).compliance == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_network_decides_by_context_as_well_as_the_ideal_observer(seed):
    network = EIRecurrentNetwork(4, 50, 1, noise=0.05, seed=seed)
    trained = train_biological(
        network,
        lambda random: context_decision(64, seed=random),
        600,
        learning_rate=3e-3,
        rate_weight=1e-3,
        synapse_weight=1e-3,
        seed=seed,
        progress=False,
    )
    # of 40 steps of unit noise: .83 and 1.00
    assert _accuracy(trained.model, 0.15) > 0.78
    assert _accuracy(trained.model, 0.5) > 0.98
    assert _accuracy(network, 0.5) < 0.65
    assert (trained.history.data["compliance"] == 1).all()
