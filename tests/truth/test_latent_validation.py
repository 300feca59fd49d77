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
from neuros_mechint.neuro.circuits.latent.perturbation import changed_run, latent_perturbation_test
from neuros_mechint.neuro.circuits.latent.validation import compare_with_pca
from neuros_mechint.report.report import Report
from neuros_mechint.workflows.latent_circuit import decision_circuit


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


@pytest.mark.parametrize("seed", [0, 1, 2])
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


def test_bad_runs_and_numbers_are_refused():
    data = planted_latent_circuit(n_trials_per_condition=1)
    model = fitted(data)
    with pytest.raises(InputError, match="other outputs than the circuit"):
        latent_perturbation_test(model, lambda change: data.outputs[:, 1:], data.inputs, progress=False)
    with pytest.raises(InputError, match="finite"):
        latent_perturbation_test(model, lambda change: data.outputs + np.nan, data.inputs, progress=False)
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

    excitation = np.abs(rectified.connectivity) * 0.3
    states = simulate(excitation, rectified.input_weights, np.abs(rectified.inputs), rectified.alpha)
    linear = compare_with_pca(
        LatentCircuitModel(8, alpha=rectified.alpha, n_starts=2),
        *(np.abs(rectified.inputs), states @ rectified.embedding.T, states @ rectified.output_weights.T),
        progress=False,
    )
    assert linear.scores["circuit"] > 0.999
    assert linear.scores["linear"] > 0.999


def decision(seed, n_starts=4, n_trials=144):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return decision_circuit(
            load_model("decision_rnn"), sizes=(8,), n_trials=n_trials, n_starts=n_starts, seed=seed, progress=False
        )


def test_the_circuit_of_the_decision_network_predicts_what_changes_of_its_weights_do(tmp_path):
    found = decision(seed=2, n_starts=2)
    test: Any = found.parts["perturbation"]
    gating: Any = found.parts["gating"]
    assert test.overall >= 0.6
    assert np.nanmedian(test.data["correlation"]) > 0.5
    assert np.abs(test.controls["random"]).mean() < 0.2
    assert np.abs(test.controls["turned"]).mean() < 0.3
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
    with pytest.raises(OptionError, match="sizes"):
        decision_circuit(load_model("decision_rnn"), sizes=(7,))
