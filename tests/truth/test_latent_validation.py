from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from neuros_mechint.core.errors import CapabilityError, InputError, OptionError
from neuros_mechint.core.result import load_result
from neuros_mechint.datasets.embedded import load_model
from neuros_mechint.datasets.latent_circuits import planted_latent_circuit
from neuros_mechint.neuro.circuits.latent.dynamics import simulate
from neuros_mechint.neuro.circuits.latent.model import LatentCircuitModel
from neuros_mechint.neuro.circuits.latent.observations import observations
from neuros_mechint.neuro.circuits.latent.perturbation import changed_run, latent_perturbation_test
from neuros_mechint.neuro.circuits.latent.scores import explained
from neuros_mechint.neuro.circuits.latent.validation import compare_with_pca, linear_dynamics
from neuros_mechint.report.report import Report
from neuros_mechint.workflows.dynamics.latent_circuit import CHANNELS, CHOICES, channels, decision_circuit, gating_test
from tests.slow import slow_case


def fitted(data, n_nodes=8, seed=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return LatentCircuitModel(n_nodes, alpha=data.alpha, n_starts=2, seed=seed).fit(
            data.inputs, data.activity, data.outputs, data.conditions
        )


def planted_network(data):
    """Return units that rectify along the nodes of the planted circuit: its recurrent weights are Q W Q^T."""

    def run(change):
        connectivity = data.connectivity + data.embedding.T @ change @ data.embedding
        return simulate(connectivity, data.input_weights, data.inputs, data.alpha) @ data.output_weights.T

    return run


@pytest.mark.parametrize("seed", [0, *map(slow_case, (1, 2))])
def test_the_circuit_of_a_planted_network_predicts_every_change_and_other_directions_do_not(seed):
    data = planted_latent_circuit(seed=seed)
    test = latent_perturbation_test(
        fitted(data), planted_network(data), data.inputs, network_alpha=data.alpha, seed=seed, progress=False
    )
    found = test.data["correlation"].values
    assert test.overall > 0.999
    assert np.nanmin(found) > 0.99
    assert float(test.data["sign_agreement"]) > 0.99
    assert np.allclose(test.data["predicted_size"], test.data["network_size"], rtol=0.05, atol=1e-4)
    assert np.abs(test.controls["random"]).mean() < 0.2
    assert np.abs(test.controls["turned"]).mean() < 0.5
    assert not test.warnings


def test_a_circuit_of_the_wrong_size_and_one_of_the_wrong_wiring_predict_worse():
    data = planted_latent_circuit(seed=3)
    run, right = planted_network(data), fitted(data)
    small, shuffled = fitted(data, n_nodes=6), copy.copy(right)
    order = np.random.default_rng(0).permutation(8)
    shuffled.connectivity_ = right.connectivity_[np.ix_(order, order)]
    shuffled.embedding_ = right.embedding_[:, order]
    overall = [
        latent_perturbation_test(one, run, data.inputs, network_alpha=data.alpha, n_controls=1, progress=False).overall
        for one in (right, small, shuffled)
    ]
    assert overall[0] > 0.999
    assert max(overall[1:]) < 0.9


def test_changes_of_a_module_are_those_of_a_changed_copy_and_leave_it_as_it_was():
    module = load_model("decision_rnn")
    inputs = np.random.default_rng(0).standard_normal((3, 20, 4)).astype(np.float32)
    before = copy.deepcopy(module.state_dict())
    change = 0.1 * np.random.default_rng(1).standard_normal((64, 64))
    found = changed_run(module, inputs)(change)
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.rnn.weight_hh_l0 += torch.from_numpy(change).float()
        expected = other(torch.from_numpy(inputs)).double().numpy()
    assert np.allclose(found[:, 1:], expected[:, :-1], atol=1e-6)
    assert (found[:, 0] == 0).all()
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_recurrent_weights_of_any_name_can_be_changed():
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent = torch.nn.Parameter(torch.zeros(3, 3))

        def forward(self, inputs):
            state, states = torch.zeros(len(inputs), 3), []
            for now in inputs.unbind(1):
                state = state @ self.recurrent.T + now
                states.append(state)
            return torch.stack(states, 1)

    module = Plain()
    with pytest.raises(CapabilityError, match="not one square matrix"):
        changed_run(module, np.ones((1, 3, 3)))
    found = changed_run(module, np.ones((1, 3, 3)), weight="recurrent")(np.eye(3))
    assert found[0, :, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("module", [torch.nn.GRU(2, 4), torch.nn.Linear(2, 2), torch.nn.RNN(2, 4, num_layers=2)])
def test_modules_without_one_recurrent_matrix_are_refused(module):
    with pytest.raises(CapabilityError, match="function of your own"):
        changed_run(module, np.ones((1, 3, 2)))


class Noisy(torch.nn.Module):
    """A recurrent layer whose outputs pass a batch norm and a dropout, in training mode, with a noise of its own."""

    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.RNN(2, 5, batch_first=True)
        self.norm, self.dropout, self.n_runs = torch.nn.BatchNorm1d(5), torch.nn.Dropout(0.5), 0

    def forward(self, inputs):
        self.n_runs += 1
        states = self.rnn(inputs)[0]
        states = self.dropout(self.norm(states.transpose(1, 2)).transpose(1, 2))
        return states + 0.0 * torch.rand(1) + self.n_runs


def test_runs_change_neither_a_module_in_training_nor_global_random_numbers_nor_the_next_run():
    module = Noisy().train()
    before, random = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    run = changed_run(module, np.random.default_rng(0).standard_normal((4, 6, 2)))
    change = 0.3 * np.random.default_rng(1).standard_normal((5, 5))
    first, _, again = run(change), run(np.zeros((5, 5))), run(change)
    assert np.array_equal(first, again)
    assert torch.equal(torch.get_rng_state(), random)
    assert module.training
    assert module.norm.training
    assert module.n_runs == 0
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_layers_that_take_times_first_are_refused():
    for n_trials in (1, 3):
        with pytest.raises(InputError, match="batch_first=True"):
            changed_run(torch.nn.RNN(2, 5), np.ones((n_trials, 4, 2)))


@pytest.mark.parametrize(
    ("module", "parameters", "match"),
    [
        (torch.nn.RNN(3, 5, batch_first=True), {}, "does not take these inputs"),
        (torch.nn.RNNCell(2, 5), {}, "does not take these inputs"),
        (torch.nn.RNN(2, 5, batch_first=True), {"read": 5}, "read is no function"),
        (torch.nn.RNN(2, 5, batch_first=True), {"read": lambda outputs: 1.0}, "read does not return"),
        (torch.nn.RNN(2, 5, batch_first=True), {"read": lambda outputs: 1j * outputs}, "no real numbers"),
        (torch.nn.RNN(2, 5, batch_first=True), {"read": lambda outputs: None}, "no real numbers"),
    ],
)
def test_modules_and_readings_that_do_not_fit_are_refused(module, parameters, match):
    with pytest.raises(InputError, match=match):
        changed_run(module, np.ones((3, 4, 2)), **parameters)(np.zeros((5, 5)))


def test_changes_of_another_shape_and_what_is_no_module_are_refused():
    with pytest.raises(InputError, match="does not fit the weights"):
        changed_run(torch.nn.RNN(2, 5, batch_first=True), np.ones((3, 4, 2)))(np.zeros((1, 5)))
    no_module: Any = None
    with pytest.raises(CapabilityError, match="not one square matrix"):
        changed_run(no_module, np.ones((3, 4, 2)))


def test_bad_runs_and_numbers_are_refused():
    data = planted_latent_circuit(n_trials_per_condition=1)
    model = fitted(data)
    with pytest.raises(InputError, match="other outputs than the circuit"):
        latent_perturbation_test(model, lambda change: data.outputs[:, 1:], data.inputs, progress=False)
    with pytest.raises(InputError, match="finite"):
        latent_perturbation_test(model, lambda change: data.outputs + np.nan, data.inputs, progress=False)
    no_run: Any = 5
    outputs: Any
    circuit: Any
    for outputs in (3.0, "outputs", 1j * data.outputs, np.ma.masked_less(data.outputs, 0.1), [[1.0], [1.0, 2.0]]):
        with pytest.raises(InputError, match=r"real numbers|mask|no array|other outputs"):
            latent_perturbation_test(model, lambda change, given=outputs: given, data.inputs, progress=False)
    for circuit, run in ((None, planted_network(data)), (model, no_run)):
        with pytest.raises(InputError, match="a circuit and a network are needed"):
            latent_perturbation_test(circuit, run, data.inputs)
    with pytest.raises(InputError, match="no latent circuit"):
        compare_with_pca(no_run, data.inputs, data.activity, data.outputs)
    with pytest.raises(OptionError, match="size is 0"):
        latent_perturbation_test(model, planted_network(data), data.inputs, size=0)
    with pytest.raises(OptionError, match="size"):
        latent_perturbation_test(model, planted_network(data), data.inputs, size=np.inf)
    with pytest.raises(OptionError, match="network_alpha"):
        latent_perturbation_test(model, planted_network(data), data.inputs, network_alpha=0)
    with pytest.raises(InputError, match="not fitted"):
        latent_perturbation_test(LatentCircuitModel(8), planted_network(data), data.inputs)


def test_principal_components_lose_where_nodes_rectify_and_draw_where_none_does():
    rectified = planted_latent_circuit(seed=1)
    found = compare_with_pca(
        LatentCircuitModel(8, alpha=rectified.alpha, n_starts=2),
        *(rectified.inputs, rectified.activity, rectified.outputs, rectified.conditions),
        progress=False,
    )
    assert found.scores["circuit"] > 0.999
    assert found.scores["linear"] < 0.99
    assert found.scores["random"] < 0.2
    assert found.scores["subspace"] > 0.999
    spread = found.data["activity"].sel(model="linear").values
    assert f"({spread.min():.3f} to {spread.max():.3f})" in found.summary()
    assert "least and most of 3 folds" in found.summary()

    excitation = np.abs(rectified.connectivity) * 0.3
    states = simulate(excitation, rectified.input_weights, np.abs(rectified.inputs), rectified.alpha)
    linear = compare_with_pca(
        LatentCircuitModel(8, alpha=rectified.alpha, n_starts=2),
        *(np.abs(rectified.inputs), states @ rectified.embedding.T, states @ rectified.output_weights.T),
        progress=False,
    )
    assert linear.scores["circuit"] > 0.999
    assert linear.scores["linear"] > 0.999


def test_units_do_not_matter_to_linear_dynamics():
    data = planted_latent_circuit(noise=0.1, seed=1)

    def explained_activity(inputs: Any = 1.0, activity=1.0, outputs=1.0):
        given = inputs * data.inputs, activity * data.activity, outputs * data.outputs
        found = linear_dynamics(observations(*given, data.conditions).averaged(), 8).predict(given[0])
        return [explained(true, made) for true, made in zip(given[1:], found, strict=True)]

    usual = explained_activity()
    assert usual[0] > 0.85
    assert np.allclose(explained_activity(activity=1e3), usual)
    assert np.allclose(explained_activity(inputs=np.array([1e3, 1e-3, 1, 1, 1e3, 1])), usual)
    assert np.allclose(explained_activity(activity=1e-3, outputs=1e3), usual)


def decision(seed, n_starts=4, n_trials=144):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return decision_circuit(
            load_model("decision_rnn"), sizes=(8,), n_trials=n_trials, n_starts=n_starts, seed=seed, progress=False
        )


@pytest.mark.slow
def test_the_circuit_of_the_decision_network_predicts_what_changes_of_its_weights_do(tmp_path):
    found = decision(seed=2, n_starts=2)
    test: Any = found.parts["perturbation"]
    gating: Any = found.parts["gating"]
    assert test.overall >= 0.6
    assert np.nanmedian(test.data["correlation"]) > 0.5
    assert np.abs(test.controls["random"]).mean() < 0.2
    assert np.abs(test.controls["turned"]).mean() < 0.3
    summary, key = test.summary(), [text.get_text() for text in test.plot().get_legend().get_texts()]
    assert "pooled over the changes of 64 connections, each made alone" in summary.splitlines()[1]
    assert "the circuit predicts what changes of its connections do: more than each of 10 controls" in summary
    for words in ("random directions", "turned directions of the circuit's space"):
        assert f"{words} " in summary
        assert f"pooled, {words}" in key
    names = [*CHANNELS, *CHOICES]
    assert found.parts["circuit"].data["source"].values.tolist() == names
    assert test.data["target"].values.tolist() == names
    counts, other = gating.strength("network", "intact")
    assert counts > 4 * other
    page = Report("A decision").add(found).to_html()
    assert all(part.title in page for part in found.parts.values())
    assert load_result(found.save(tmp_path / "decision.nc")) == found
    for part in [found, *found.parts.values()]:
        assert part.plot().get_title(loc="left")


@pytest.mark.slow
def test_changes_of_the_decision_network_are_predicted_from_any_trials():
    tests: list[Any] = [decision(seed).parts["perturbation"] for seed in range(4)]
    assert min(test.overall for test in tests) >= 0.6
    assert max(np.abs(test.controls["random"]).mean() for test in tests) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_changes_of_the_network_that_keeps_dales_law_are_predicted_by_a_circuit_of_nine_nodes(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = decision_circuit(load_model("decision_dale_rnn"), sizes=(9,), seed=seed, progress=False)
    test: Any = found.parts["perturbation"]
    assert test.overall >= 0.6
    assert np.abs(test.controls["random"]).mean() < 0.2


def test_networks_without_one_recurrent_layer_and_small_circuits_are_refused():
    with pytest.raises(CapabilityError, match="recurrent layer"):
        decision_circuit(torch.nn.Linear(4, 1))
    sizes: Any
    for sizes in ((7,), (), 8, None):
        with pytest.raises(OptionError, match="sizes"):
            decision_circuit(load_model("decision_rnn"), sizes=sizes)
    with pytest.raises(InputError, match="does not return the choice"):
        decision_circuit(torch.nn.RNN(4, 12, batch_first=True), sizes=(8,))
    with pytest.raises(InputError, match="does not take the inputs"):
        decision_circuit(torch.nn.RNN(3, 12, batch_first=True), sizes=(8,))
    noise: Any = "loud"
    with pytest.raises(OptionError, match="noise"):
        decision_circuit(load_model("decision_rnn"), noise=noise)


def test_circuits_and_channels_of_another_task_are_refused():
    model: Any
    inputs: Any
    for model in (None, LatentCircuitModel(8), fitted_to_other_channels()):
        with pytest.raises(InputError, match="no circuit of a context-dependent decision"):
            gating_test(model, load_model("decision_rnn"))
    for inputs in (np.ones((2, 3, 3)), np.ones((3, 4)), "inputs"):
        with pytest.raises(InputError, match="inputs"):
            channels(inputs)


def fitted_to_other_channels():
    random = np.random.default_rng(0)
    inputs = random.uniform(0, 1, (20, 5, 2)).repeat(6, axis=1)
    states = simulate(np.array([[0.0, 0.5, 0.0], [0.0, 0.0, -0.8], [0.9, 0.0, 0.4]]), np.eye(3, 2), inputs, 0.2)
    return LatentCircuitModel(3).fit(inputs, states, states[:, :, 2:])
