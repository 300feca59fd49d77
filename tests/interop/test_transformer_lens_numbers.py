"""TransformerLens beside ours: a script of its documentation, HuggingFace's numbers, continuations and strings."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.site_names import transformer_lens_name
from tests.interop.lens_models import BLOCK_SITES, make_bridge

pytestmark = [
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning"),
]


# -- a script of TransformerLens's documentation -------------------------------------------------------------------


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """Run the script with our package imported and used; it turns gradients off for the whole process."""
    nm.adapt(torch.nn.Linear(1, 1)).run(torch.zeros(1, 1))
    try:
        return runpy.run_path(str(Path(__file__).with_name("exploratory_analysis.py")))
    finally:
        torch.set_grad_enabled(True)


def test_the_scripts_cache_and_attribution_are_ours(script: dict[str, Any]) -> None:
    model, tokens = nm.adapt(script["model"]), script["tokens"]
    activations = model.capture(tokens, ["blocks.*", "embed", "pos_embed"])
    for name, value in activations.items():
        assert value.equal(script["cache"][transformer_lens_name(name)]), name
    assert model.run(tokens).output.equal(script["original_logits"])
    _, theirs = script["model"].run_with_cache(tokens)
    ours = activations.to_transformer_lens(script["model"])
    stack = ours.accumulated_resid(layer=-1, incl_mid=True, pos_slice=-1)
    # the scale of the last norm is no site of ours: the script's own cache lends it
    lens = script["residual_stack_to_logit_diff"](stack, theirs).detach()
    assert lens.equal(script["logit_lens_logit_diffs"])


def test_the_scripts_ablation_and_patching_are_ours(script: dict[str, Any]) -> None:
    model, tokens, corrupted = nm.adapt(script["model"]), script["tokens"], script["corrupted_tokens"]
    ablated = model.run(tokens, edits=nm.Zero("blocks.0.v[head=2]")).output
    assert ablated.equal(script["ablated_logits"])
    correct, wrong = script["answer_tokens"].T
    patcher = nm.ActivationPatcher(model, nm.logit_difference(correct, wrong))
    by_position = patcher.sweep(tokens, corrupted, sites="blocks.*.resid_pre", by=("position",)).normalized()
    by_head = patcher.sweep(tokens, corrupted, sites="blocks.*.z", by=("head",)).normalized()
    np.testing.assert_allclose(by_position.values, script["patched_residual_stream_diff"], atol=1e-5)
    np.testing.assert_allclose(by_head.values, script["patched_head_z_diff"], atol=1e-5)
    assert float(by_position.max()) > 0.2


# -- unprocessed weights: the same numbers as HuggingFace ----------------------------------------------------------


@pytest.fixture(scope="module")
def twins(make_hf: Callable[[str], Any], make_lens: Callable[..., Any]) -> dict[str, Any]:
    """One GPT-2 as a HuggingFace model and as a HookedTransformer, unprocessed and processed."""
    from transformer_lens.loading_from_pretrained import convert_gpt2_weights

    hf = make_hf("gpt2")
    size = {"d_mlp": 128, "eps": hf.config.layer_norm_epsilon, "act_fn": "gelu_new", "scale": 0.0}
    keep = dict.fromkeys(("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases"), False)
    raw, processed = make_lens(**size), make_lens(**size | {"normalization_type": "LNPre"})
    raw.load_and_process_state_dict(convert_gpt2_weights(hf, raw.cfg), **keep)
    processed.load_and_process_state_dict(convert_gpt2_weights(hf, processed.cfg))
    return {"hf": hf, "raw": raw, "processed": processed}


def test_unprocessed_logits_are_huggingfaces_and_processed_ones_are_not(
    twins: dict[str, Any], tokens: torch.Tensor
) -> None:
    hf = nm.adapt(twins["hf"]).run(tokens).output.logits
    raw, processed = nm.adapt(twins["raw"]).run(tokens).output, nm.adapt(twins["processed"]).run(tokens).output
    assert (raw - hf).abs().max() <= 1e-5
    assert (processed - hf).abs().max() > 1e-2
    assert (processed.log_softmax(-1) - hf.log_softmax(-1)).abs().max() <= 1e-4


def test_all_twelve_block_sites_agree_with_huggingface(twins: dict[str, Any], tokens: torch.Tensor) -> None:
    names = [f"blocks.{layer}.{site}" for layer in range(2) for site in BLOCK_SITES] + ["embed", "ln_final", "logits"]
    hf, raw = (nm.adapt(twins[kind]).capture(tokens, names) for kind in ("hf", "raw"))
    for name in names:
        assert hf.dims(name) == raw.dims(name)
        assert (hf[name] - raw[name]).abs().max() <= 2e-5, name


@pytest.mark.parametrize("site", BLOCK_SITES)
def test_an_edit_of_any_block_site_agrees_with_huggingface(
    site: str, twins: dict[str, Any], tokens: torch.Tensor, corrupted: torch.Tensor
) -> None:
    hf, raw = nm.adapt(twins["hf"]), nm.adapt(twins["raw"])
    name = f"blocks.0.{site}"
    values = raw.capture(corrupted, name)[name]
    edits = [nm.Replace(name, values), nm.Scale(name, 0.5)]
    for edit in edits:
        ours, theirs = hf.run(tokens, edits=edit).output.logits, raw.run(tokens, edits=edit).output
        assert (ours - theirs).abs().max() <= 2e-5
        assert (theirs - raw.run(tokens).output).abs().max() > 1e-3


# -- generation ----------------------------------------------------------------------------------------------------


def continued(model: Any, ids: torch.Tensor, n_tokens: int, hooks: list[Any]) -> torch.Tensor:
    """Generate without a cache, by TransformerLens alone."""
    with torch.no_grad():
        for _ in range(n_tokens):
            ids = torch.cat([ids, model.run_with_hooks(ids, fwd_hooks=hooks)[:, -1:].argmax(-1)], dim=1)
    return ids


@pytest.mark.parametrize("lens", ["plain", "grouped queries", "rotary", "GPT-2 bridge", "Llama bridge"], indirect=True)
def test_generation_under_edits_equals_a_loop_without_a_cache(lens: Any, tokens: torch.Tensor) -> None:
    adapter = nm.adapt(lens)
    last = tokens.shape[1] - 1
    plain = continued(lens, tokens, 6, [])
    assert adapter.generate(tokens, max_new_tokens=6).equal(plain)
    identity = nm.Apply("blocks.0.resid_post", lambda stream: stream.clone())
    assert adapter.generate(tokens, edits=identity, max_new_tokens=6).equal(plain)
    changed = {"everywhere": 0, "at the last prompt token": 0}
    for steer in 6 * torch.randn(3, 32, generator=torch.Generator().manual_seed(3)):

        def everywhere(stream: torch.Tensor, hook: Any, steer: torch.Tensor = steer) -> torch.Tensor:
            return stream + steer

        def at_last(stream: torch.Tensor, hook: Any, steer: torch.Tensor = steer) -> torch.Tensor:
            return torch.cat([stream[:, :last], stream[:, last : last + 1] + steer, stream[:, last + 1 :]], dim=1)

        for (where, edit_hook), index in zip(
            {"everywhere": everywhere, "at the last prompt token": at_last}.items(), ("", "[position=-1]"), strict=True
        ):
            expected = continued(lens, tokens, 6, [("blocks.0.hook_resid_post", edit_hook)])
            edit = nm.Add(f"blocks.0.resid_post{index}", steer)
            assert adapter.generate(tokens, edits=edit, max_new_tokens=6).equal(expected), where
            changed[where] += not expected.equal(plain)
    assert all(changed.values()), changed


def test_sampling_is_repeatable_and_leaves_the_global_generator_alone(lens: Any, tokens: torch.Tensor) -> None:
    adapter, state = nm.adapt(lens), torch.get_rng_state()
    first, again, other = (adapter.generate(tokens, max_new_tokens=8, do_sample=True, seed=seed) for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)
    assert torch.get_rng_state().equal(state)


# -- strings -------------------------------------------------------------------------------------------------------

TEXTS = ["w1 w2 w3", "w4 w5 w6 w7 w8"]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("bridged", [False, True])
def test_strings_give_what_the_model_gives_on_them(
    side: str, bridged: bool, make_lens: Any, make_hf: Any, make_tokenizer: Any
) -> None:
    tokenizer = make_tokenizer(side)
    model = make_bridge(make_hf("gpt2"), "GPT2LMHeadModel", tokenizer) if bridged else make_lens(tokenizer)
    model.tokenizer.padding_side = side
    adapter = nm.adapt(model)
    with torch.no_grad():
        expected = model(TEXTS)
    real = model.to_tokens(TEXTS, padding_side=side) != tokenizer.pad_token_id
    assert int((~real).sum()) == 2
    assert (adapter.run(TEXTS).output - expected)[real].abs().max() <= 1e-6
    assert (adapter.run("w1 w2 w3").output[0] - expected[0][real[0]]).abs().max() <= 1e-5
    together = adapter.generate(TEXTS, max_new_tokens=3)
    for row, text in zip(together, TEXTS, strict=True):
        alone = adapter.generate(text, max_new_tokens=3)[0]
        assert row[-len(alone) :].equal(alone)


def test_a_tokenizer_given_with_the_model_is_used_as_it_is(make_lens: Any, make_tokenizer: Any) -> None:
    model, tokenizer = make_lens(), make_tokenizer()
    adapter = nm.adapt(model, tokenizer=tokenizer)
    ids = tokenizer(TEXTS[:1], return_tensors="pt")["input_ids"]
    assert adapter.run(TEXTS[0]).output.equal(adapter.run(ids).output)
    with pytest.raises(InputError, match="strings need a tokenizer"):
        nm.adapt(model).run(TEXTS)
