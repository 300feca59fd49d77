"""Ways in which a site can look right and be wrong. Each test fails if inference falls for one of them."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from neuros_mechint.adapters import softmax
from neuros_mechint.adapters.inference import infer, infer_sites
from neuros_mechint.adapters.taps import HeadView, Tap
from neuros_mechint.core.errors import CapabilityError
from tests.conformance.architectures import ARCHITECTURES, HEADS, WIDTH, NanoGPT, main_output
from tests.conformance.toy_blocks import (
    BLOCK_NAMES,
    MLP,
    Attention,
    Block,
    Stack,
    names_in_block,
    run,
    seeded,
)

STREAM = ("sample", "position", "unit")


# -- 1. an edit of the middle of the stream must move the skip path --------------------------------


def test_an_edit_of_resid_mid_moves_the_skip_path(delta):
    model, inputs = ARCHITECTURES["GPT2"].build()
    taps = infer_sites(model, (), inputs).taps
    taps["norm's input"] = Tap("transformer.h.0.ln_2", "in", 0, 0, dims=STREAM)
    _, got = run(model, inputs, taps, ["blocks.0.resid_mid", "norm's input"])
    torch.testing.assert_close(got["blocks.0.resid_mid"], got["norm's input"])

    outputs = {
        name: run(model, inputs, taps, edits={name: lambda x: x + delta})[0]
        for name in ("blocks.0.attn_out", "blocks.0.resid_mid", "norm's input")
    }
    torch.testing.assert_close(outputs["blocks.0.resid_mid"], outputs["blocks.0.attn_out"])
    # the tap that reads the same values rightly edits only the MLP's view of them
    assert (outputs["norm's input"] - outputs["blocks.0.attn_out"]).abs().max() > 0.1


def test_replacing_resid_mid_makes_what_follows_depend_on_it_alone(delta):
    model, inputs = ARCHITECTURES["GPT2"].build()
    taps = infer_sites(model, (), inputs).taps
    other = {"input_ids": inputs["input_ids"].flip(0)}
    replaced = {"blocks.1.resid_mid": lambda x: delta}
    torch.testing.assert_close(run(model, inputs, taps, edits=replaced)[0], run(model, other, taps, edits=replaced)[0])


# -- 2. the attention weights a model returns are not the ones it uses -----------------------------


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_edited_patterns_are_the_ones_the_model_uses(attention):
    model, inputs = ARCHITECTURES["Llama"].build(attention=attention)
    taps = infer_sites(model, (), inputs).taps
    before = main_output(model(**inputs)).detach()

    def uniform(pattern):
        return torch.ones_like(pattern) / pattern.shape[-1]

    names = ["blocks.0.pattern", "blocks.0.v", "blocks.0.z"]
    after, got = run(model, inputs, taps, names, {"blocks.0.pattern": uniform})
    mean = got["blocks.0.v"].mean(1, keepdim=True).repeat_interleave(2, dim=2)
    torch.testing.assert_close(got["blocks.0.z"], mean.expand_as(got["blocks.0.z"]))
    assert (after - before).abs().max() > 1e-2


def test_editing_the_returned_weights_changes_nothing():
    model, inputs = ARCHITECTURES["Llama"].build(attention="eager")
    path = infer_sites(model, (), inputs).taps["blocks.0.pattern"].path
    returned = {"returned": Tap(path, "out", 1, 0, dims=("sample", "head", "query", "key"))}
    before = main_output(model(**inputs)).detach()
    after, _ = run(model, inputs, returned, edits={"returned": torch.zeros_like})
    assert torch.equal(after, before)


@pytest.mark.parametrize("mask", ["none", "causal", "bool", "float"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_in_the_open_is_the_fused_attention(mask, groups, dtype):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, heads, 5, 8, generator=generator).to(dtype) for heads in (4, 4 // groups, 4 // groups)
    )
    options = {"scale": 0.3, "enable_gqa": groups > 1, "is_causal": mask == "causal"}
    if mask == "bool":
        options["attn_mask"] = torch.rand(2, 1, 5, 5, generator=generator) > 0.4
        options["attn_mask"][0, :, 2] = False  # a query that may attend to nothing
    if mask == "float":
        options["attn_mask"] = torch.randn(2, 1, 5, 5, generator=generator).to(dtype)
    opened = softmax.explicit_attention(lambda pattern: pattern, query, key, value, **options)
    tolerance = {"atol": 0.03, "rtol": 0.03} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(opened, F.scaled_dot_product_attention(query, key, value, **options), **tolerance)


# -- 3. patterns that can be seen but are not the model's own --------------------------------------


@pytest.mark.parametrize("factor", [1.5, 1.005])
def test_patterns_are_withheld_where_open_attention_is_another_function(ids, monkeypatch, factor):
    def sharper(visit, query, *args, **kwargs):
        return open_attention(visit, query * factor, *args, **kwargs)

    open_attention = softmax.explicit_attention
    model = seeded(lambda: NanoGPT(fused=True))
    assert "pattern" in names_in_block(infer_sites(model, (ids,)))
    monkeypatch.setattr(softmax, "explicit_attention", sharper)
    sites = infer_sites(model, (ids,))
    assert names_in_block(sites) == BLOCK_NAMES - {"pattern"}
    assert "another output" in sites.withheld["blocks.0.pattern"]


@pytest.fixture
def flex_attention():
    """A kernel under a name with "flex", whose pattern nothing can see."""
    from transformers import modeling_utils
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask

    def kernel(module, query, key, value, mask, scaling=None, **kwargs):
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scores = (query @ key.transpose(-1, -2) * scaling + mask).exp()
        return (scores / scores.sum(-1, keepdim=True) @ value).transpose(1, 2).contiguous(), None

    modeling_utils.ALL_ATTENTION_FUNCTIONS.register("flex_for_test", kernel)
    ALL_MASK_ATTENTION_FUNCTIONS.register("flex_for_test", eager_mask)
    yield "flex_for_test"
    for registry in (modeling_utils.ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
        type(registry)._global_mapping.pop("flex_for_test")


def test_patterns_are_withheld_under_kernels_that_never_hold_them(flex_attention):
    model, inputs = ARCHITECTURES["Llama"].build(attention=flex_attention)
    sites = infer_sites(model, (), inputs)
    assert names_in_block(sites) == BLOCK_NAMES - {"pattern"}
    assert flex_attention in sites.withheld["blocks.0.pattern"]
    assert model.config._attn_implementation == flex_attention
    with (
        pytest.raises(CapabilityError, match="set_attn_implementation"),
        softmax.visible_softmax(model, torch.clone),
    ):
        pass


# -- 4. projections that start at zero add nothing that could be seen ------------------------------


@pytest.mark.parametrize("silent", ["attn.c_proj", "mlp.c_proj", "attn.c_attn", "ln_2"])
@pytest.mark.parametrize("frozen", [True, False])
def test_zero_initialised_projections_hide_nothing(ids, silent, frozen):
    model = seeded(lambda: NanoGPT(fused=True))
    expected = infer_sites(model, (ids,)).taps
    for block in model.transformer["h"]:
        for parameter in block.get_submodule(silent).parameters():
            nn.init.zeros_(parameter)
    model.requires_grad_(not frozen)
    before = copy.deepcopy(model.state_dict())
    assert infer_sites(model, (ids,)).taps == expected
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_zero_projections_would_hide_sites_without_jitter(ids, monkeypatch):
    model = seeded(lambda: NanoGPT(fused=True))
    expected = infer_sites(model, (ids,)).taps
    for block in model.transformer["h"]:
        nn.init.zeros_(block.attn.c_proj.weight)
        nn.init.zeros_(block.attn.c_proj.bias)
    monkeypatch.setattr(infer, "_jittered_parameters", lambda trace: {})
    assert infer_sites(model, (ids,)).taps != expected


# -- 5. arguments of equal value -------------------------------------------------------------------


def test_encoder_and_decoder_embeddings_are_told_apart_on_equal_ids(ids):
    model, _ = ARCHITECTURES["T5"].build()
    inputs = {"input_ids": ids, "decoder_input_ids": ids.clone()}
    taps = infer_sites(model, (), inputs).taps
    encoded = run(model, inputs, taps, ["encoder.ln_final"])[1]["encoder.ln_final"]
    for name, changes in (("encoder.embed", True), ("decoder.embed", False)):
        _, got = run(model, inputs, taps, ["encoder.ln_final"], {name: torch.zeros_like})
        assert torch.equal(got["encoder.ln_final"], encoded) is not changes


def test_token_ids_are_told_from_token_types_and_positions_of_equal_value():
    model, _ = ARCHITECTURES["BERT"].build()
    zeros = torch.zeros(2, 5, dtype=torch.int64)
    inputs = {"token_type_ids": zeros, "position_ids": zeros.clone(), "input_ids": zeros.clone()}
    assert infer_sites(model, (), inputs).taps["embed"].path == "bert.embeddings.word_embeddings"


class PositionsFirst(NanoGPT):
    def forward(self, ids, positions):
        x = self.transformer.wpe(positions) + self.transformer.wte(ids)
        for block in self.transformer.h:
            x = block(x)
        return x


def test_the_embedding_that_runs_first_is_not_taken_for_the_tokens(ids):
    model = seeded(lambda: PositionsFirst(fused=True))
    ids = ids % 64
    assert infer_sites(model, (ids, ids.clone())).taps["embed"].path == "transformer.wte"


# -- 6. in-place operations and flattened tokens ---------------------------------------------------


class InPlaceBlock(Block):
    def forward(self, x):
        attended = self.attn(self.ln_1(x))
        attended += x
        mixed = self.mlp(self.ln_2(attended))
        mixed += attended
        return mixed


class InPlaceParallelBlock(Block):
    def forward(self, x):
        mixed = self.mlp(self.ln_1(x))
        mixed += self.attn(self.ln_1(x))
        return mixed.add_(x)


class FlatMLPBlock(Block):
    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        flat = x.reshape(-1, x.shape[-1])
        return (flat + self.mlp(self.ln_2(flat))).view_as(x)


@pytest.mark.parametrize("kind", [InPlaceBlock, FlatMLPBlock])
def test_in_place_sums_and_flattened_tokens_give_the_plain_blocks_sites(kind, stream):
    plain = seeded(lambda: Stack(Block(mlp=MLP(nn.ReLU())), Block(mlp=MLP(nn.ReLU()))))
    model = Stack(kind(mlp=MLP(nn.ReLU(inplace=True))), kind(mlp=MLP(nn.ReLU(inplace=True)))).eval()
    model.load_state_dict(plain.state_dict())
    expected = run(plain, {"x": stream}, *[infer_sites(plain, (stream,)).taps] * 2)[1]
    taps = infer_sites(model, (stream,)).taps
    assert names_in_block(infer_sites(model, (stream,))) == BLOCK_NAMES
    assert any(tap.flat for tap in taps.values()) is (kind is FlatMLPBlock)
    _, got = run(model, {"x": stream}, taps, taps)
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], msg=name)


def test_an_in_place_sum_does_not_make_the_mlp_look_like_attention(stream):
    sites = infer_sites(seeded(lambda: Stack(InPlaceParallelBlock())), (stream,))
    assert sites.taps["blocks.0.mlp_out"].path == "blocks.0.mlp"
    assert sites.taps["blocks.0.attn_out"].path == "blocks.0.attn"
    assert "parallel" in sites.withheld["blocks.0.resid_mid"]


# -- 7. norms of queries and keys ------------------------------------------------------------------


@pytest.mark.parametrize(("name", "module"), [("OLMo2", "q_norm"), ("Qwen3", "q_proj")])
def test_queries_are_taken_behind_a_norm_that_mixes_heads_only(name, module):
    model, inputs = ARCHITECTURES[name].build()
    assert infer_sites(model, (), inputs).taps["blocks.0.q"].path.endswith(module)


class NormsAcrossHeads(Attention):
    def forward(self, x):
        q, k = (F.rms_norm(p(x), (WIDTH,)) for p in (self.q, self.k))
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (q, k, self.v(x)))
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_queries_and_keys_whose_heads_are_mixed_afterwards_are_withheld(stream):
    sites = infer_sites(seeded(lambda: Stack(Block(NormsAcrossHeads()))), (stream,))
    assert names_in_block(sites) == BLOCK_NAMES - {"q", "k"}


@pytest.mark.parametrize("fused", [True, False])
def test_keys_of_a_single_head_are_not_mistaken_for_the_stream_they_come_from(stream, fused):
    sites = infer_sites(seeded(lambda: Stack(Block(Attention(1, fused)), Block(Attention(1, fused)))), (stream,))
    assert {name: sites.taps[f"blocks.0.{name}"].path.rpartition(".")[2] for name in "qkv"} == dict(
        zip("qkv", "qkv", strict=True)
    )


def test_the_wrong_layout_of_a_fused_projection_is_refused():
    for name, other in (("GPTNeoX", "split"), ("GPT2", "grouped"), ("BLOOM", "split"), ("Phi3", "grouped")):
        model, inputs = ARCHITECTURES[name].build()
        taps = infer_sites(model, (), inputs).taps
        view = taps["blocks.0.v"].view
        native = {**taps, "native": Tap(taps["blocks.0.v"].path, dims=STREAM)}
        _, got = run(model, inputs, native, ["native", "blocks.0.v", "blocks.0.pattern", "blocks.0.z"])
        wrong = HeadView(view.heads, view.width, "v", other, view.query_heads).read(got["native"])
        for values, right in ((got["blocks.0.v"], True), (wrong, False)):
            values = values.repeat_interleave(HEADS // view.heads, 2)
            z = torch.einsum("bhqk,bkhd->bqhd", got["blocks.0.pattern"], values)
            assert bool((z - got["blocks.0.z"]).abs().max() < 1e-4) is right, name
