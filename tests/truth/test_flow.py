"""Logit lens, direct logit attribution and attention rollout against closed forms and the models' own modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from tests.conformance.architectures import ARCHITECTURES
from tests.truth.edges_by_hand import EdgesByHand, answer, language_model
from tests.truth.hand_weighted import HEADS, LENGTH, hand_weighted, partners

pytestmark = [
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def circuit():
    clean, _, correct, wrong = partners()
    return nm.adapt(hand_weighted()), clean, nm.logit_difference(correct, wrong)


# -- logit lens ------------------------------------------------------------------------------------------------------


def test_the_answer_can_be_read_only_after_the_head_that_writes_it(circuit):
    model, tokens, metric = circuit
    lens = nm.logit_lens(model, tokens, metric)
    assert lens.main["site"].values.tolist() == ["blocks.0.resid_pre", "blocks.0.resid_post", "blocks.1.resid_post"]
    np.testing.assert_allclose(lens.main, [0, 0, metric(model.run(tokens).output).mean()], atol=1e-4)
    assert lens.main.values[-1] > 9


def test_the_lens_is_the_final_norm_and_unembedding_of_every_stream():
    model, inputs = ARCHITECTURES["GPT2"].build()
    lens = nm.logit_lens(nm.adapt(model, example=inputs), inputs, answer, batch_size=2)
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states
        for layer, site in enumerate(["blocks.0.resid_pre", "blocks.0.resid_post"]):
            logits = model.lm_head(model.transformer.ln_f(states[layer]))
            expected = logits[:, -1, 5] - logits[:, -1, 9]
            np.testing.assert_allclose(lens.data["per_sample"].sel(site=site), expected, atol=1e-5)
    np.testing.assert_allclose(
        lens.data["per_sample"].sel(site="blocks.1.resid_post"), answer(model(**inputs)).detach(), atol=1e-5
    )
    between = nm.logit_lens(nm.adapt(model, example=inputs), inputs, answer, sites="blocks.*.resid_mid")
    assert between.main["site"].values.tolist() == ["blocks.0.resid_mid", "blocks.1.resid_mid"]


# -- direct logit attribution ----------------------------------------------------------------------------------------


def test_only_the_induction_head_writes_the_answer(circuit):
    model, tokens, metric = circuit
    parts = nm.direct_logit_attribution(model, tokens, metric).main
    assert float(parts.sel(node="a1.h0")) == pytest.approx(float(metric(model.run(tokens).output).mean()), rel=1e-5)
    assert float(np.abs(parts.drop_sel(node="a1.h0")).max()) < 1e-5


@pytest.mark.parametrize("name", ["GPT2", "Llama", "GPTNeoX"])
def test_contributions_equal_those_computed_from_weights_and_add_up(name):
    model, clean, _ = language_model(name, 1.0)
    parts = nm.direct_logit_attribution(nm.adapt(model, example=clean), clean, answer)
    by_hand = EdgesByHand(name, model, clean, clean, answer)
    norm = model.get_submodule(by_hand.parts.final_norm)
    entering: list[torch.Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _, args: entering.append(args[0]))
    expected = answer(model(**clean)).detach()
    handle.remove()
    stream = entering[0].detach()
    unembedding = model.get_output_embeddings().weight.detach()
    direction = norm.weight.detach() * (unembedding[5] - unembedding[9])
    centred = name != "Llama"  # an RMS norm takes no mean away
    scale = (stream - centred * stream.mean(-1, keepdim=True)).square().mean(-1).add(1e-6 if name == "Llama" else 1e-5)
    for node in ("input", "a0.h0", "a1.h3", "m0", "m1"):
        written = by_hand.written(node)
        written = written - centred * written.mean(-1, keepdim=True)
        share = (written @ direction / scale.sqrt())[:, -1]
        np.testing.assert_allclose(parts.data["per_sample"].sel(node=node), share, atol=1e-5, err_msg=node)
    np.testing.assert_allclose(parts.data["per_sample"].sum("node"), expected, atol=1e-5)
    assert np.abs(parts.main.sel(node=["a0.h0", "m1"])).min() > 1e-3


@pytest.mark.parametrize(("name", "metric"), [("GPT2", nm.log_probability(5)), ("BERT", answer)])
def test_what_is_no_sum_is_refused(name, metric):
    model, inputs = ARCHITECTURES[name].build()
    with pytest.raises(nm.errors.CapabilityError, match="not the sum of what the nodes write"):
        nm.direct_logit_attribution(nm.adapt(model, example=inputs), inputs, metric)


# -- attention rollout -----------------------------------------------------------------------------------------------


def test_rollout_of_uniform_attention_has_a_closed_form():
    model = hand_weighted()
    with torch.no_grad():
        for block in model.blocks:
            block.attn.W_Q.zero_()
    rollout = nm.attention_rollout(nm.adapt(model), partners()[0], batch_size=3).main
    uniform = np.tril(np.ones((LENGTH, LENGTH))) / np.arange(1, LENGTH + 1)[:, None]
    mixed = (uniform + np.eye(LENGTH)) / 2
    for layer, expected in enumerate([mixed, mixed @ mixed]):
        for sample in rollout.sel(layer=layer).values:
            np.testing.assert_allclose(sample, expected, atol=1e-6)


def test_rollout_follows_the_heads_of_the_circuit(circuit):
    model, tokens, _ = circuit
    result = nm.attention_rollout(model, tokens)
    patterns = model.capture(tokens, "blocks.*.pattern")
    rollout = np.broadcast_to(np.eye(LENGTH), (len(tokens), LENGTH, LENGTH))
    for layer in range(2):
        heads = patterns[f"blocks.{layer}.pattern"].numpy()
        mixed = sum(heads[:, head] for head in range(HEADS)) / HEADS / 2 + np.eye(LENGTH) / 2
        rollout = np.einsum("sqm,smk->sqk", mixed, rollout)
        np.testing.assert_allclose(result.main.sel(layer=layer), rollout, atol=1e-6)
    np.testing.assert_allclose(result.main.sum("key"), 1, atol=1e-9)
    assert not np.triu(result.main.values, 1).any()  # nothing comes from later positions
    one_back = np.diagonal(result.main.sel(layer=0).values, -1, 1, 2)[:, 4:].mean()
    assert one_back > 0.125 - 0.01  # one of four heads looks one back, and counts half


# -- what is drawn, kept and refused ---------------------------------------------------------------------------------


def test_results_are_drawn_saved_and_loaded(circuit, tmp_path):
    from matplotlib.figure import Figure

    model, tokens, metric = circuit
    for number, result in enumerate(
        (
            nm.logit_lens(model, tokens, metric),
            nm.direct_logit_attribution(model, tokens, metric),
            nm.attention_rollout(model, tokens),
        )
    ):
        assert result.plot(Figure().subplots()).get_xlabel()
        loaded = nm.load_result(result.save(tmp_path / f"{number}.nc"))
        assert loaded == result
        assert type(loaded) is type(result)


def test_models_without_a_stream_and_sites_off_it_are_refused(circuit):
    model, tokens, metric = circuit
    plain = nm.adapt(torch.nn.Sequential(torch.nn.Linear(2, 2)))
    for flow in (nm.logit_lens, nm.direct_logit_attribution):
        with pytest.raises(nm.errors.SiteError, match="no proven residual stream"):
            flow(plain, torch.ones(1, 2), lambda output: output[:, 0])
    with pytest.raises(nm.errors.SiteError):
        nm.attention_rollout(plain, torch.ones(1, 2))
    with pytest.raises(nm.errors.InputError, match="no residual stream"):
        nm.logit_lens(model, tokens, metric, sites="blocks.0.z")
    with pytest.raises(nm.errors.InputError, match="no streams to read"):
        nm.logit_lens(model, tokens, metric, sites=[])
    with pytest.raises(nm.errors.InputError, match="no adapter"):
        nm.logit_lens(model.module, tokens, metric)
