from __future__ import annotations

import numpy as np
import pytest
import torch

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.datasets.measures import accuracy_by_lag, induction_score, previous_token_score
from neuros_mechint.datasets.networks import InductionTransformer, RecurrentNetwork
from neuros_mechint.datasets.tasks import context_decision, flip_flop, repeated_tokens


def test_repeated_tokens_repeat_at_their_lag_and_nowhere_sooner():
    trials = repeated_tokens(200, seed=3)
    tokens = trials.inputs.numpy()
    assert (tokens[:, 0] == 0).all()
    assert (tokens[:, 1:] > 0).all()
    for sequence, lag in zip(tokens, trials.conditions["lag"], strict=True):
        assert (sequence[1 + lag :] == sequence[1:-lag]).all()
        assert len(set(sequence[1 : 1 + lag])) == lag


def test_targets_of_repeated_tokens_are_the_next_tokens():
    trials = repeated_tokens(50)
    assert torch.equal(trials.targets[:, :-1], trials.inputs[:, 1:])


def test_mask_of_repeated_tokens_marks_the_tokens_seen_before():
    trials = repeated_tokens(50)
    for sequence, mask in zip(trials.inputs.tolist(), trials.mask.tolist(), strict=True):
        assert mask == [token in sequence[:position] for position, token in enumerate(sequence)]


def test_lags_cover_the_range_they_are_drawn_from():
    lags = repeated_tokens(2000, min_lag=6, max_lag=32).conditions["lag"]
    assert set(lags) == set(range(6, 33))


def test_flip_flop_holds_the_sign_of_the_last_pulse():
    trials = flip_flop(n_trials=20, n_steps=80, n_bits=2, seed=5)
    state = torch.zeros(20, 2)
    for step in range(80):
        pulse = trials.inputs[:, step]
        state = torch.where(pulse != 0, pulse, state)
        assert torch.equal(trials.targets[:, step], state)


def test_flip_flop_answer_does_not_count_while_a_bit_settles():
    trials = flip_flop(n_trials=20, n_steps=80, settling_steps=3, seed=5)
    flips = trials.targets[:, 1:] != trials.targets[:, :-1]
    flips = torch.cat([torch.ones_like(flips[:, :1]), flips], dim=1)
    settling = flips.clone()
    for later in (1, 2):
        settling[:, later:] |= flips[:, :-later]
    assert torch.equal(trials.mask, ~settling)


def test_final_state_numbers_the_states_by_their_bits():
    trials = flip_flop(n_trials=200, n_steps=10, seed=1)
    bits = (trials.targets[:, -1] > 0).numpy()
    assert (trials.conditions["final_state"] == bits[:, 0] + 2 * bits[:, 1] + 4 * bits[:, 2]).all()
    assert set(trials.conditions["final_state"]) == set(range(8))


def test_decision_evidence_has_the_mean_and_noise_of_its_condition():
    trials = context_decision(n_trials=400, noise=2.0, cue_steps=5, stimulus_steps=400, seed=2)
    evidence = trials.inputs[:, 5:405, :2].numpy()
    signed = np.stack([trials.conditions["motion"], trials.conditions["color"]], axis=1)
    standard_error = 2.0 / np.sqrt(400)
    assert np.abs(evidence.mean(axis=1) - signed).max() < 5 * standard_error
    assert np.isclose((evidence - signed[:, None]).std(), 2.0, rtol=0.01)
    outside = torch.cat([trials.inputs[:, :5, :2], trials.inputs[:, 405:, :2]], dim=1)
    assert not outside.any()


def test_decision_is_the_sign_of_the_evidence_the_cue_asks_for():
    trials = context_decision(n_trials=300)
    motion_cue, color_cue = trials.inputs[:, 0, 2].numpy(), trials.inputs[:, 0, 3].numpy()
    expected = motion_cue * trials.conditions["motion"] + color_cue * trials.conditions["color"]
    assert (trials.conditions["choice"] == np.sign(expected)).all()
    assert (trials.targets[:, -1, 0].numpy() == trials.conditions["choice"]).all()
    assert (motion_cue + color_cue == 1).all()
    assert (trials.conditions["context"] == color_cue).all()


def test_decision_conditions_are_balanced_and_independent():
    conditions = context_decision(n_trials=20_000, seed=4).conditions
    correlation = np.corrcoef([conditions["context"], conditions["motion"], conditions["color"]])
    assert abs(correlation - np.eye(3)).max() < 0.03
    assert set(conditions["motion"]) == {-0.5, -0.15, -0.05, 0.05, 0.15, 0.5}


@pytest.mark.parametrize("draw", [repeated_tokens, lambda n, seed: flip_flop(n, 30, seed=seed), context_decision])
def test_same_seed_same_trials_and_another_seed_others(draw):
    first, again, other = draw(10, seed=7), draw(10, seed=7), draw(10, seed=8)
    assert torch.equal(first.inputs, again.inputs)
    assert not torch.equal(first.inputs, other.inputs)
    random = np.random.default_rng(7)
    assert torch.equal(draw(10, seed=random).inputs, first.inputs)
    assert not torch.equal(draw(10, seed=random).inputs, first.inputs)


def test_drawing_trials_leaves_the_global_random_state_alone():
    numpy_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    repeated_tokens(5), flip_flop(5, 10), context_decision(5)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: repeated_tokens(0),
        lambda: repeated_tokens(4, lag=63),
        lambda: repeated_tokens(4, lag=0),
        lambda: repeated_tokens(4, vocabulary=10, lag=10),
        lambda: repeated_tokens(4, min_lag=20, max_lag=10),
        lambda: flip_flop(0, 10),
        lambda: flip_flop(3, 10, pulse_probability=1.5),
        lambda: flip_flop(3, 10, pulse_probability=float("nan")),
        lambda: context_decision(5, noise=-1.0),
        lambda: context_decision(5, response_steps=0),
    ],
)
def test_values_out_of_range_are_refused(draw):
    with pytest.raises(OptionError, match="out of range"):
        draw()


@pytest.mark.parametrize("coherences", [(), (0.5, 0.0), (float("nan"),), (-0.1,)])
def test_coherences_that_leave_no_right_answer_are_refused(coherences):
    with pytest.raises(InputError, match="coherences"):
        context_decision(5, coherences=coherences)


def _copy_from_distance(distance):
    def predict(tokens):
        copied = torch.zeros_like(tokens)
        copied[:, distance:] = tokens[:, :-distance]
        return torch.nn.functional.one_hot(copied, 64).float()

    return predict


def _perfect_induction(tokens):
    logits = torch.zeros(*tokens.shape, 64)
    for row, sequence in enumerate(tokens.tolist()):
        following = {}
        for position, token in enumerate(sequence):
            if position:
                following[sequence[position - 1]] = token
            if token in following:
                logits[row, position, following[token]] = 1.0
    return logits


def test_perfect_induction_is_right_at_every_lag():
    accuracy = accuracy_by_lag(_perfect_induction, [1, 3, 8, 32, 62], n_sequences=8)
    assert accuracy == dict.fromkeys([1, 3, 8, 32, 62], 1.0)


def test_copying_from_a_fixed_distance_is_right_at_that_lag_only():
    accuracy = accuracy_by_lag(_copy_from_distance(31), [24, 31, 32, 33, 40])
    assert accuracy.pop(32) == 1.0
    assert max(accuracy.values()) == 0.0


def test_induction_score_counts_every_earlier_occurrence():
    pattern = torch.zeros(1, 2, 16, 16)
    pattern[0, 0, range(4, 16), range(2, 14)] = 0.5  # what followed the last occurrence, 3 positions back
    pattern[0, 0, range(7, 16), range(2, 11)] = 0.5  # and the one before it
    pattern[0, 1, range(16), range(16)] = 1.0
    scores = induction_score(pattern, lag=3)
    assert scores[0].item() == pytest.approx((3 * 0.5 + 9 * 1.0) / 12)
    assert scores[1] == 0.0


def test_induction_score_takes_the_lag_of_each_sequence():
    lags = np.array([3, 5])
    pattern = torch.zeros(2, 1, 16, 16)
    for sequence, lag in enumerate(lags):
        rows = torch.arange(lag, 16)
        pattern[sequence, 0, rows, rows - lag + 1] = 1.0
    assert induction_score(pattern, lags).item() == 1.0
    assert induction_score(pattern, lags[::-1].copy()).item() < 0.1


def test_previous_token_score_of_uniform_attention_is_the_mean_of_its_rows():
    pattern = torch.tril(torch.ones(4, 4))
    pattern = (pattern / pattern.sum(-1, keepdim=True))[None, None]
    assert previous_token_score(pattern).item() == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)


@pytest.mark.parametrize(
    ("shape", "lag"), [((8, 8), 3), ((1, 1, 8, 7), 3), ((2, 1, 8, 8), np.array([1, 2, 3])), ((1, 1, 8, 8), 7)]
)
def test_patterns_and_lags_that_do_not_fit_are_refused(shape, lag):
    with pytest.raises(InputError):
        induction_score(torch.zeros(shape), lag)


def test_networks_refuse_what_they_cannot_be():
    with pytest.raises(OptionError, match="cell"):
        RecurrentNetwork(3, 4, 3, cell="lstm")
    with pytest.raises(OptionError, match="nonlinearity"):
        RecurrentNetwork(3, 4, 3, cell="gru", nonlinearity="relu")
    with pytest.raises(OptionError, match="heads"):
        InductionTransformer(n_heads=3)
    with pytest.raises(InputError, match="do not fit"):
        InductionTransformer(n_ctx=8)(torch.zeros(1, 9, dtype=torch.int64))


def test_attention_sees_no_future_and_positions_reach_no_value():
    model = InductionTransformer(n_ctx=12)
    tokens = torch.randint(1, 64, (2, 12), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 8:] = 0
    assert torch.equal(model(tokens)[:, :8], model(changed)[:, :8])
    block = model.blocks[0].attention
    values = []
    handle = block.value.register_forward_hook(lambda module, inputs, output: values.append(output))
    residual = torch.randn(1, 12, 64, generator=torch.Generator().manual_seed(1))
    first, second = block(residual, torch.zeros(12, 64)), block(residual, torch.ones(12, 64).cumsum(0))
    handle.remove()
    assert torch.equal(*values)
    assert not torch.allclose(first, second)
