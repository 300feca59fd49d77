from __future__ import annotations

import numpy as np
import pytest

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.datasets.latent_circuits import COHERENCES, planted_latent_circuit

PARTS = ("inputs", "activity", "outputs", "connectivity", "input_weights", "output_weights", "embedding")


def condition_means(data, values):
    return np.stack([values[data.conditions == number].mean(0) for number in np.unique(data.conditions)])


@pytest.mark.parametrize("kind", ["gating", "random"])
@pytest.mark.parametrize("inputs", ["task", "rich"])
@pytest.mark.parametrize("n_hidden", [0, 2])
def test_activity_and_outputs_are_what_the_circuit_makes_of_the_inputs(kind, inputs, n_hidden):
    data = planted_latent_circuit(kind, inputs=inputs, n_hidden=n_hidden, seed=4)
    nodes = data.activity @ data.embedding
    assert np.allclose(nodes @ data.embedding.T, data.activity)
    assert (nodes[:, 0] == 0).all()
    received = nodes[:, :-1] @ data.connectivity.T + data.inputs[:, :-1] @ data.input_weights.T
    expected = (1 - data.alpha) * nodes[:, :-1] + data.alpha * np.maximum(received, 0)
    assert np.allclose(nodes[:, 1:], expected)
    assert np.allclose(data.outputs, nodes @ data.output_weights.T)
    assert nodes.std((0, 1)).min() >= 0.15 * nodes.std()


def test_each_context_inhibits_the_evidence_of_the_other_and_no_wiring_equals_the_next():
    wirings = np.stack([planted_latent_circuit(seed=seed).connectivity for seed in range(5)])
    assert (wirings[:, [4, 5], 0] < 0).all()
    assert (wirings[:, [2, 3], 1] < 0).all()
    assert (wirings[:, [6, 7, 6, 7], [2, 3, 4, 5]] > 0).all()
    assert (np.count_nonzero(wirings, axis=(1, 2)) == 12).all()
    assert wirings.std(0)[wirings[0] != 0].min() > 0.02


@pytest.mark.parametrize(("context", "relevant", "irrelevant"), [(0, 0, 1), (1, 1, 0)])
def test_the_relevant_evidence_moves_the_choice_more_while_the_context_lasts(context, relevant, irrelevant):
    for seed in range(5):
        data = planted_latent_circuit(n_trials_per_condition=10, seed=seed)
        place = np.stack(np.unravel_index(np.arange(72), (2, 6, 6)))
        inhibited = condition_means(data, data.activity @ data.embedding)[place[0] == context][:, 30:36]
        nodes = {0: [2, 3], 1: [4, 5]}
        assert inhibited[..., nodes[relevant]].mean() > inhibited[..., nodes[irrelevant]].mean()


def test_conditions_of_the_task_are_named_by_their_evidence():
    data = planted_latent_circuit(n_trials_per_condition=20)
    means = condition_means(data, data.inputs)
    context, motion, color = np.unravel_index(np.arange(72), (2, 6, 6))
    assert (means[:, 10, :2].argmax(1) == context).all()
    evidence = means[:, 30:].mean(1)
    assert np.allclose(evidence[:, 2] - evidence[:, 3], COHERENCES[motion], atol=0.01)
    assert np.allclose(evidence[:, 4] - evidence[:, 5], COHERENCES[color], atol=0.01)


def test_noise_is_measured_by_the_states_of_the_nodes():
    clean, noisy = (planted_latent_circuit(noise=noise, seed=2) for noise in (0.0, 0.3))
    size = 0.3 * (clean.activity @ clean.embedding).std()
    assert (noisy.activity - clean.activity).std() == pytest.approx(size, rel=0.01)
    assert (noisy.outputs - clean.outputs).std() == pytest.approx(size, rel=0.02)
    assert np.array_equal(noisy.connectivity, clean.connectivity)


@pytest.mark.parametrize("first", range(100, 110))
def test_a_circuit_is_drawn_from_any_seed(first):
    for seed in range(first, first + 100, 10):  # 104: from its first gains none whose nodes all vary
        planted_latent_circuit(seed=seed)


def test_rich_inputs_vary_each_on_their_own():
    largest = {}
    for inputs in ("rich", "task"):
        channels = planted_latent_circuit(inputs=inputs).inputs.reshape(-1, 6)
        largest[inputs] = np.abs(np.corrcoef(channels.T) - np.eye(6)).max()
    assert largest["rich"] < 0.2  # five standard errors: 720 stretches
    assert largest["task"] > 0.5


def test_a_seed_gives_the_same_data_and_another_seed_others():
    first, again, other = (planted_latent_circuit("random", noise=0.1, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(getattr(first, part), getattr(again, part)) for part in PARTS)
    assert not any(np.array_equal(getattr(first, part), getattr(other, part)) for part in PARTS)


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"kind": "gated"}, OptionError, "did you mean 'gating'"),
        ({"inputs": "poor"}, OptionError, "one of 'task', 'rich'"),
        ({"n_units": 7}, InputError, "n_units of at least 8"),
        ({"n_units": 9, "n_hidden": 2}, InputError, "n_units of at least 10"),
        ({"noise": -0.1}, OptionError, "noise"),
        ({"noise": float("nan")}, OptionError, "noise"),
        ({"noise": 1e308}, OptionError, "noise"),
        ({"n_trials_per_condition": 0}, OptionError, "n_trials_per_condition"),
        ({"n_hidden": -1}, OptionError, "n_hidden"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, error, told):
    with pytest.raises(error, match=told):
        planted_latent_circuit(**arguments)
