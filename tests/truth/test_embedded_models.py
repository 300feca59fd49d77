from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from neuros_mechint.core.errors import CapabilityError, OptionError, StorageError
from neuros_mechint.datasets import embedded
from neuros_mechint.datasets.embedded import embedded_models, load_model, to_hooked_transformer
from neuros_mechint.datasets.measures import accuracy_by_lag, induction_score, previous_token_score
from neuros_mechint.datasets.networks import InductionTransformer
from neuros_mechint.datasets.tasks import context_decision, flip_flop, repeated_tokens

REPOSITORY = Path(__file__).parents[2]
LAGS = (3, 4, 5, 8, 16, 24, 32, 40, 48)
FLIP_FLOPS = ("flip_flop_rnn", "flip_flop_gru")
DECISIONS = ("decision_rnn", "decision_dale_rnn")


@pytest.fixture(scope="module")
def induction():
    return load_model("induction")


@pytest.fixture(scope="module")
def hooked():
    return load_model("induction", backend="transformer_lens")


@pytest.fixture(scope="module")
def trials():
    return repeated_tokens(64, seed=11)


@pytest.fixture(scope="module")
def untrained():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return InductionTransformer().eval()


@pytest.fixture(scope="module")
def cache(hooked, trials):
    return hooked.run_with_cache(trials.inputs)[1]


# The files


@pytest.mark.parametrize("name", embedded_models())
def test_file_is_the_one_recorded_and_small(name):
    entry = embedded_models()[name]
    content = entry.path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry.sha256
    assert len(content) <= (200 if name == "induction" else 100) * 1024


@pytest.mark.parametrize("name", embedded_models())
def test_models_come_in_evaluation_mode_with_trainable_parameters(name):
    model = load_model(name)
    assert not any(module.training for module in model.modules())
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("backend", ["torch", "transformer_lens"])
def test_loading_leaves_the_global_random_state_alone(backend):
    before = torch.get_rng_state()
    load_model("induction", backend=backend)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_changed_byte_is_noticed(monkeypatch, tmp_path):
    content = bytearray(embedded_models()["decision_rnn"].path.read_bytes())
    content[-1] ^= 1
    (tmp_path / "decision_rnn.safetensors").write_bytes(content)
    monkeypatch.setattr(embedded, "WEIGHTS", tmp_path)
    with pytest.raises(StorageError, match="is damaged"):
        load_model("decision_rnn")


def test_missing_and_unreadable_files_are_storage_errors(monkeypatch, tmp_path):
    monkeypatch.setattr(embedded, "WEIGHTS", tmp_path)
    with pytest.raises(StorageError, match="cannot be read"):
        load_model("decision_rnn")
    (tmp_path / "decision_rnn.safetensors").write_bytes(b"no safetensors")
    entry = dataclasses.replace(embedded_models()["decision_rnn"], sha256=hashlib.sha256(b"no safetensors").hexdigest())
    monkeypatch.setitem(embedded._MODELS, "decision_rnn", entry)
    with pytest.raises(StorageError, match="cannot be read"):
        load_model("decision_rnn")


def test_unknown_names_and_backends_are_refused():
    with pytest.raises(OptionError, match="flip_flop_rnn"):
        load_model("flip_flop")
    with pytest.raises(OptionError, match="transformer_lens"):
        load_model("induction", backend="transformerlens")
    with pytest.raises(CapabilityError, match="TransformerLens"):
        load_model("flip_flop_rnn", backend="transformer_lens")


# The induction transformer


def test_induction_is_right_at_every_lag_also_at_those_it_was_not_trained_on(induction):
    accuracy = accuracy_by_lag(induction, LAGS, seed=21)
    assert min(accuracy.values()) >= 0.999, accuracy


def test_untrained_transformer_guesses(untrained):
    accuracy = accuracy_by_lag(untrained, LAGS, seed=21)
    assert max(accuracy.values()) < 0.05, accuracy


@pytest.mark.parametrize("lag", [24, 32])
def test_induction_guesses_where_the_same_tokens_follow_in_another_order(induction, lag):
    trials = repeated_tokens(128, lag=lag, seed=4)
    tokens, random = trials.inputs.numpy().copy(), np.random.default_rng(0)
    first = slice(1, lag + 1)
    tokens[:, first] = random.permuted(tokens[:, first], axis=1)
    with torch.no_grad():
        predicted = induction(torch.from_numpy(tokens)).argmax(dim=-1)
    # Up to twice the lag the one earlier occurrence of each token lies in the part that was reordered.
    scored = slice(lag + 1, 2 * lag)
    accuracy = (predicted == trials.targets)[:, scored].double().mean().item()
    assert accuracy < 0.08  # chance is 1 / lag for whoever knows which tokens belong to the sequence


def test_transformer_lens_model_has_the_same_logits_and_is_unprocessed(induction, hooked, trials):
    with torch.no_grad():
        torch.testing.assert_close(hooked(trials.inputs), induction(trials.inputs), atol=1e-5, rtol=0)
    assert torch.equal(hooked.W_E, induction.token_embedding.weight)
    assert not hooked.training


def test_transformer_lens_model_holds_weights_of_its_own(induction):
    before = induction.token_embedding.weight.detach().clone()
    hooked = to_hooked_transformer(induction)
    with torch.no_grad():
        hooked.W_E.zero_()
    assert torch.equal(induction.token_embedding.weight, before)


def test_conversion_holds_for_any_size(trials):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = InductionTransformer(n_layers=3, n_heads=2, d_model=12, d_vocab=70, n_ctx=80).eval()
    with torch.no_grad():
        torch.testing.assert_close(to_hooked_transformer(model)(trials.inputs), model(trials.inputs), atol=1e-5, rtol=0)


def test_first_layer_has_a_previous_token_head_and_the_second_induction_heads(cache, trials):
    previous = previous_token_score(cache["pattern", 0])
    induction = induction_score(cache["pattern", 1], trials.conditions["lag"])
    assert previous.max() >= 0.4
    assert previous_token_score(cache["pattern", 1]).max() < 0.1
    assert induction.min() >= 0.9
    assert induction_score(cache["pattern", 0], trials.conditions["lag"]).max() < 0.2


def test_untrained_transformer_has_no_such_heads(untrained, trials):
    cache = to_hooked_transformer(untrained).run_with_cache(trials.inputs)[1]
    assert previous_token_score(cache["pattern", 0]).max() < 0.1
    assert induction_score(cache["pattern", 1], trials.conditions["lag"]).max() < 0.2


def test_second_layer_heads_matter_jointly_but_not_singly(hooked):
    clean, corrupted = (repeated_tokens(64, lag=20, seed=seed) for seed in (6, 7))
    other_heads = hooked.run_with_cache(corrupted.inputs)[1]

    def log_probability(tokens, heads=()):
        def replace(z, hook):
            z[:, :, list(heads)] = other_heads[hook.name][:, :, list(heads)]
            return z

        with torch.no_grad():
            logits = hooked.run_with_hooks(tokens, fwd_hooks=[("blocks.1.attn.hook_z", replace)])
        answers = logits.log_softmax(dim=-1).gather(-1, clean.targets[..., None])[..., 0]
        return answers[clean.mask].mean().item()

    best, worst = log_probability(clean.inputs), log_probability(corrupted.inputs)
    single = [(best - log_probability(clean.inputs, [head])) / (best - worst) for head in range(4)]
    joint = (best - log_probability(clean.inputs, range(4))) / (best - worst)
    assert max(single) <= 0.05
    assert joint >= 0.95


# The flip-flop networks


@pytest.mark.parametrize("name", FLIP_FLOPS)
@pytest.mark.parametrize(("n_steps", "pulse_probability"), [(60, 0.1), (300, 0.1), (300, 0.02)])
def test_flip_flop_networks_remember_also_for_longer_than_trained(name, n_steps, pulse_probability):
    trials = flip_flop(128, n_steps, pulse_probability=pulse_probability, seed=31)
    with torch.no_grad():
        right = load_model(name)(trials.inputs).sign() == trials.targets
    assert right[trials.mask].double().mean() >= 0.99


@pytest.mark.parametrize("name", FLIP_FLOPS)
def test_flip_flop_networks_forget_without_recurrent_weights(name):
    model, trials = load_model(name), flip_flop(128, 100, seed=31)
    with torch.no_grad():
        model.rnn.weight_hh_l0.zero_()
        right = model(trials.inputs).sign() == trials.targets
    assert right[trials.mask].double().mean() < 0.75


# The decision networks


@pytest.fixture(scope="module")
def decisions():
    return context_decision(4000, seed=41)


def _choices(model, inputs):
    with torch.no_grad():
        return model(inputs)[:, -1, 0].sign().numpy()


def _relevant(trials):
    conditions = trials.conditions
    return np.where(conditions["context"] == 0, conditions["motion"], conditions["color"])


@pytest.mark.parametrize("name", DECISIONS)
@pytest.mark.parametrize("context", [0, 1])
def test_choices_follow_the_relevant_evidence(name, context, decisions):
    chosen = decisions.conditions["context"] == context
    choices, evidence = _choices(load_model(name), decisions.inputs)[chosen], _relevant(decisions)[chosen]
    positive = [(choices[evidence == strength] > 0).mean() for strength in np.unique(evidence)]
    assert (np.diff(positive) > 0).all(), positive
    assert positive[0] <= 0.05, positive
    assert positive[-1] >= 0.95, positive
    weakest = positive[3] - positive[2]
    assert 0.1 < weakest < 0.5  # weak evidence stays hard: noise, not a missing sign, limits the network


@pytest.mark.parametrize("name", DECISIONS)
def test_reversing_the_irrelevant_evidence_changes_few_choices_and_the_relevant_nearly_all(name, decisions):
    model, context = load_model(name), torch.from_numpy(decisions.conditions["context"])
    before = _choices(model, decisions.inputs)
    changed = {}
    for evidence, stream in (("relevant", context), ("irrelevant", 1 - context)):
        reversal = 1 - 2 * torch.nn.functional.one_hot(stream, 4)
        changed[evidence] = (_choices(model, decisions.inputs * reversal[:, None]) != before).mean()
    assert changed["irrelevant"] <= 0.1
    assert changed["relevant"] >= 0.9


@pytest.mark.parametrize("name", DECISIONS)
def test_choices_are_chance_when_the_cue_names_the_other_context(name, decisions):
    swapped = decisions.inputs[..., [0, 1, 3, 2]]
    right = _choices(load_model(name), swapped) == decisions.conditions["choice"]
    assert abs(right.mean() - 0.5) < 0.05


def test_every_column_of_the_dale_network_keeps_one_sign_and_the_plain_one_does_not():
    weights = load_model("decision_dale_rnn").rnn.weight_hh_l0
    excitatory, inhibitory = weights[:, :80], weights[:, 80:]
    assert weights.shape == (100, 100)
    assert (excitatory >= 0).all()
    assert (inhibitory <= 0).all()
    assert (weights != 0).any(dim=0).all()
    plain = load_model("decision_rnn").rnn.weight_hh_l0
    assert ((plain > 0).any(dim=0) & (plain < 0).any(dim=0)).all()


# The training scripts

TRAIN = """
import hashlib, sys
sys.path[:0] = [{scripts!r}, {repository!r}]
from train_decision import train_decision
from train_flip_flop import train_flip_flop
from train_induction import train_induction
model = {training}
print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest())
"""


def _train_in_a_new_process(training):
    source = TRAIN.format(scripts=str(REPOSITORY / "scripts"), repository=str(REPOSITORY), training=training)
    return subprocess.run([sys.executable, "-c", source], capture_output=True, check=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "training",
    [
        "train_induction(seed={seed}, n_steps=20)",
        "train_flip_flop('flip_flop_gru', seed={seed}, n_steps=20)",
        "train_decision('decision_dale_rnn', seed={seed}, n_steps=20)",
    ],
)
def test_training_twice_gives_the_same_weights(training):
    first, again = (_train_in_a_new_process(training.format(seed=0)) for _ in range(2))
    assert first == again
    assert first != _train_in_a_new_process(training.format(seed=1))
