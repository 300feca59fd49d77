"""The quickstart's numbers: the circuit of the embedded transformer, and the memory of the flip-flop RNN."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.datasets.networks import InductionTransformer
from neuros_mechint.workflows.quickstart import LAGS, induction_prompts


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return nm.quickstart(tmp_path_factory.mktemp("quickstart") / "page.html", progress=False)


def test_accuracy_is_perfect_at_every_lag_also_outside_the_trained_range(found):
    accuracy = found.results["accuracy"].main
    assert list(accuracy["lag"].values) == list(LAGS)
    assert accuracy.values.min() >= 0.999


def test_one_head_of_the_first_layer_matters_and_none_of_the_second_alone(found):
    heads = found.results["heads"].normalized()
    assert heads.sel(site="blocks.0.z").max() > 0.1
    assert heads.sel(site="blocks.1.z").max() <= 0.05


def test_the_heads_of_the_second_layer_are_redundant(found):
    assert found.results["joint"].normalized().item() >= 0.95


def test_the_head_that_matters_looks_at_the_previous_token(found):
    scores = found.results["head_scores"].main.sel(score="previous token")
    heads = found.results["heads"].normalized().sel(site="blocks.0.z")
    assert scores.values[:4].argmax() == heads.values.argmax()
    assert scores.values.max() >= 0.4


def test_the_information_moves_one_position_on_and_then_to_the_end(found):
    effects = found.results["positions"].normalized()
    earlier = induction_prompts(1).earlier
    assert effects.sel(site="blocks.0.resid_pre").values.argmax() == earlier
    assert effects.sel(site="blocks.0.resid_pre", position=earlier) == pytest.approx(1, abs=1e-5)
    assert effects.sel(site="blocks.1.resid_pre").values.argmax() == earlier + 1
    assert effects.sel(site="blocks.1.resid_post", position=effects["position"].max()) == pytest.approx(1, abs=1e-5)


def test_the_rnn_remembers_and_its_states_form_one_cluster_per_memory(found):
    result = found.results["trajectories"]
    assert result.attributes["accuracy_while_remembering"] >= 0.99
    settled = result.data["settled"].values
    states, memory = result.main.values[settled], result.data["memory"].values[settled]
    centres = np.stack([states[memory == value].mean(0) for value in range(8)])
    nearest = np.linalg.norm(states[:, None] - centres, axis=-1).argmin(-1)
    assert (nearest == memory).mean() > 0.95


def test_an_untrained_transformer_shows_none_of_it():
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        untrained = nm.adapt(InductionTransformer())
    prompts = induction_prompts(64)
    patcher = nm.ActivationPatcher(untrained, nm.log_probability(prompts.answer))
    effects = patcher.sweep(prompts.clean, prompts.corrupted, "blocks.0.resid_pre")
    assert abs(effects.clean - np.log(1 / 64)) < 0.2
    trained = nm.adapt(nm.load_model("induction"))
    clean = nm.ActivationPatcher(trained, nm.log_probability(prompts.answer)).joint(
        prompts.clean, prompts.corrupted, "blocks.0.resid_pre"
    )
    assert clean.clean > -0.1


def test_the_page_is_complete_and_names_its_figures(found):
    page = found.path.read_text(encoding="utf-8")
    for heading in ("Where the answer travels", "Which heads are needed", "three bits"):
        assert heading in page
    assert len(found.report.sections) == 9
