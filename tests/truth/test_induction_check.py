"""The verdict on induction: what does it, and what only looks like it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.datasets.measures import induction_score
from neuros_mechint.datasets.networks import InductionTransformer
from neuros_mechint.datasets.tasks import repeated_tokens

PERIOD = 32


@torch.no_grad()
def copies_from_a_fixed_distance(gain=200.0):
    """Built by hand: its one working head attends ``PERIOD - 1`` tokens back, whatever the tokens are."""
    n, width = 64, 128  # tokens in the first half of the stream, positions and answers in the second
    model = InductionTransformer(n_layers=2, n_heads=1, d_model=width, d_vocab=n, n_ctx=n)
    for parameter in model.parameters():
        parameter.zero_()
    eye = torch.eye(n)
    model.token_embedding.weight[:, :n] = eye
    model.position_embedding.weight[:, n:] = eye
    attention = model.blocks[0].attention
    attention.query.weight[: n - PERIOD + 1, n + PERIOD - 1 :] = gain * eye[: n - PERIOD + 1, : n - PERIOD + 1]
    attention.key.weight[:n, n:] = eye
    attention.value.weight[:n, :n] = eye
    attention.output.weight[n:, :n] = eye
    model.unembedding.weight[:, n:] = eye
    return model.eval()


def test_the_embedded_model_does_induction():
    check = nm.induction_check(nm.adapt(nm.load_model("induction")))
    assert check.is_induction
    assert check.reasons == ()
    assert "verdict: induction" in check.summary()
    assert float(check.data["accuracy"].min()) >= 0.99


def test_copying_from_a_fixed_distance_has_the_attention_but_not_the_verdict():
    model = nm.adapt(copies_from_a_fixed_distance())
    trials = repeated_tokens(16, lag=PERIOD, seed=0)
    pattern = model.capture(trials.inputs, "blocks.0.pattern")["blocks.0.pattern"]
    assert induction_score(pattern, PERIOD).max() > 0.95  # what the usual test looks at
    check = nm.induction_check(model)
    accuracy = check.data["accuracy"]
    assert float(accuracy.sel(lag=PERIOD)) > 0.95
    assert float(accuracy.drop_sel(lag=[4, 8, 16, PERIOD]).max()) < 0.1  # a shorter period may fit into this one
    assert not check.is_induction
    assert "verdict: not induction" in check.summary()
    assert any("the token before" in reason for reason in check.reasons)


@pytest.mark.parametrize("seed", range(3))
def test_a_random_model_does_no_induction(seed):
    torch.manual_seed(seed)
    check = nm.induction_check(nm.adapt(InductionTransformer().eval()), lags=(8, 32))
    assert not check.is_induction
    assert len(check.reasons) == 2


@pytest.mark.slow
def test_a_model_trained_on_a_fixed_period_is_reported_as_not_induction():
    from _training import train
    from train_induction import cross_entropy

    torch.manual_seed(0)
    model = InductionTransformer()
    train(
        model,
        draw=lambda step: repeated_tokens(64, lag=PERIOD, seed=step),
        loss=cross_entropy,
        n_steps=600,
        weight_decay=0.01,
        progress=False,
    )
    check = nm.induction_check(nm.adapt(model.eval()))
    assert float(check.data["accuracy"].sel(lag=PERIOD)) > 0.9  # it has learned what it was trained on
    assert not check.is_induction
    assert any("wrong at" in reason for reason in check.reasons)


class LooksBackAtFirst:
    """Every head looks one token back at positions below 16, and nowhere but at itself after them."""

    def run(self, tokens):
        return SimpleNamespace(output=torch.zeros(*tokens.shape, 64))

    def capture(self, tokens, sites):
        n = tokens.shape[1]
        looks_at = torch.arange(n) - (torch.arange(n) < 16).long()
        pattern = torch.eye(n)[looks_at.clamp(min=0)].expand(len(tokens), 2, n, n)
        return {"blocks.0.pattern": pattern}

    def fingerprint(self):
        return "made by hand"


def test_attention_that_stops_along_the_sequence_is_told_with_where_it_was_measured():
    model: Any = LooksBackAtFirst()
    check = nm.induction_check(model, lags=(8,))
    at = check.data["previous_token_at"]
    assert at.dims == ("head", "position")
    assert at["position"].values.tolist() == list(range(1, 64))
    assert (at == (at["position"] < 16)).all()
    assert check.data["previous_token"].values == pytest.approx(at.mean("position").values)
    assert "over sequences of 64 tokens: at most 0.24" in check.summary()
    assert "(0.94 at the first 16 of these positions, 0.00 at the last 16)" in check.summary()


def test_bad_input_is_refused():
    with pytest.raises(nm.errors.InputError, match="no lags"):
        nm.induction_check(nm.adapt(nm.load_model("induction")), lags=())
    with pytest.raises(nm.errors.SiteError):
        nm.induction_check(nm.adapt(torch.nn.Embedding(64, 64)))
