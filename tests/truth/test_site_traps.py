"""Ways in which a site can look right and be wrong. Each test builds one, and fails if inference falls for it."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from neuros_mechint.adapters import softmax
from neuros_mechint.adapters.hooks import run_hooked
from neuros_mechint.adapters.inference import infer, infer_sites
from neuros_mechint.adapters.taps import HeadView, Tap
from neuros_mechint.core.errors import CapabilityError
from neuros_mechint.datasets.networks import InductionTransformer
from tests.conformance.architectures import ARCHITECTURES, HEADS, WIDTH, NanoGPT, main_output

STREAM = ("sample", "position", "unit")
BLOCK_NAMES = {
    *("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"),
    *("q", "k", "v", "z", "pattern", "pre", "post"),
}


def run(model, inputs, taps, capture=(), edits=None):
    functions = {name: [lambda x, _dims, _window, f=f: f(x)] for name, f in (edits or {}).items()}
    n_samples = len(next(iter(inputs.values())))
    done = run_hooked(model, lambda: model(**inputs), taps, functions, capture, n_samples=n_samples)
    return main_output(done.output), done.tensors


def names_in_block(sites, layer=0):
    prefix = f"blocks.{layer}."
    return {name.removeprefix(prefix) for name in sites.taps if name.startswith(prefix)}


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture(scope="module")
def stream():
    return torch.randn(3, 7, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def ids():
    return torch.randint(3, 97, (3, 7), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def delta():
    return torch.randn(3, 7, WIDTH, generator=torch.Generator().manual_seed(3))


class Stack(nn.Module):
    """Blocks on a stream, and nothing else."""

    def __init__(self, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Attention(nn.Module):
    def __init__(self, heads=HEADS, fused=True):
        super().__init__()
        self.heads, self.fused = heads, fused
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x):
        q, k, v = (p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q, self.k, self.v))
        if self.fused:
            z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            z = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.o(z.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, activation=None):
        super().__init__()
        self.up, self.act, self.down = nn.Linear(WIDTH, 48), activation or nn.GELU(), nn.Linear(48, WIDTH)

    def forward(self, x):
        return self.down(self.act(self.up(x)))


class Block(nn.Module):
    def __init__(self, attention=None, mlp=None):
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = (
            nn.LayerNorm(WIDTH),
            attention or Attention(),
            nn.LayerNorm(WIDTH),
            mlp or MLP(),
        )

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


# -- 1. an edit of the middle of the stream must move the skip path ------------------------------------------------


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
    torch.testing.assert_close(
        run(model, inputs, taps, edits=replaced)[0], run(model, other, taps, edits=replaced)[0]
    )


# -- 2. the attention weights a model returns are not the ones it uses ---------------------------------------------


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
    torch.testing.assert_close(
        opened, F.scaled_dot_product_attention(query, key, value, **options), **tolerance
    )


# -- 3. patterns that can be seen but are not the model's own -------------------------------------------------------


def test_patterns_are_withheld_where_open_attention_is_another_function(ids, monkeypatch):
    def sharper(visit, *args, **kwargs):
        return open_attention(visit, *args, **{**kwargs, "scale": 0.9})

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


# -- 4. projections that start at zero add nothing that could be seen ----------------------------------------------


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


# -- 5. arguments of equal value ------------------------------------------------------------------------------------


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


# -- 6. in-place operations and flattened tokens ----------------------------------------------------------------------


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


# -- 7. norms of queries and keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "module"), [("OLMo2", "q_norm"), ("Qwen3", "q_proj")])
def test_queries_are_taken_behind_a_norm_that_mixes_heads_only(name, module):
    model, inputs = ARCHITECTURES[name].build()
    assert infer_sites(model, (), inputs).taps["blocks.0.q"].path.endswith(module)


@pytest.mark.parametrize("fused", [True, False])
def test_keys_of_a_single_head_are_not_mistaken_for_the_stream_they_come_from(stream, fused):
    sites = infer_sites(
        seeded(lambda: Stack(Block(Attention(1, fused)), Block(Attention(1, fused)))), (stream,)
    )
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


# -- names must vanish when what they mean is not there --------------------------------------------------------------


def test_a_scaled_stream_has_no_residual_names(ids):
    model = seeded(lambda: NanoGPT(fused=True))
    model.transformer["h"][0].register_forward_hook(lambda _m, _a, output: output * 1.01)
    sites = infer_sites(model, (ids,))
    assert names_in_block(sites) == BLOCK_NAMES - {"attn_out", "resid_mid", "mlp_out", "pre", "post"}
    assert names_in_block(sites, layer=1) == BLOCK_NAMES


def test_mixed_heads_have_no_head_names(ids):
    model = seeded(lambda: NanoGPT(fused=True))
    model.transformer["h"][0].attn.c_proj.register_forward_pre_hook(lambda _m, args: (args[0].roll(1, -1),))
    sites = infer_sites(model, (ids,))
    assert names_in_block(sites) == BLOCK_NAMES - {"q", "k", "v", "z", "pattern"}
    assert "z != pattern @ v" in sites.withheld["blocks.0.v"]


def test_a_random_model_is_refused(ids):
    class Noisy(NanoGPT):
        def forward(self, ids):
            logits, loss = super().forward(ids)
            return logits + torch.randn(logits.shape), loss

    sites = infer_sites(seeded(lambda: Noisy(fused=True)), (ids,))
    assert not sites.taps
    assert "another output" in sites.withheld["*"]


@pytest.mark.parametrize("shape", [(1, 7), (3, 3)])
def test_too_small_a_batch_is_refused_with_what_is_needed(ids, shape):
    sites = infer_sites(seeded(lambda: NanoGPT(fused=True)), (ids[: shape[0], : shape[1]],))
    assert not names_in_block(sites)
    assert "at least 2 samples of 4 positions" in sites.withheld["blocks.*"]


def test_a_model_without_blocks_keeps_its_native_paths_only(stream):
    sites = infer_sites(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 4)), (stream,))
    assert not sites.taps
    assert "native module paths" in sites.withheld["blocks.*"]


# -- shapes of model that are no trap but easily missed ----------------------------------------------------------------


def test_layers_that_share_one_module_are_blocks_of_their_own(delta):
    model, inputs = ARCHITECTURES["ALBERT"].build()
    taps = infer_sites(model, (), inputs).taps
    assert taps["blocks.0.attn_out"].path == taps["blocks.1.attn_out"].path
    names = ["blocks.0.resid_post", "blocks.1.resid_post"]
    before = run(model, inputs, taps, names)[1]
    after = run(model, inputs, taps, names, {"blocks.1.attn_out": lambda x: x + delta})[1]
    assert [torch.equal(before[name], after[name]) for name in names] == [True, False]


class FunctionalNorms(Block):
    def forward(self, x):
        x = x + self.attn(F.rms_norm(x, (WIDTH,)))
        return x + self.mlp(F.rms_norm(x, (WIDTH,)))


class ParallelFunctionalNorms(Block):
    def forward(self, x):
        return x + self.attn(F.rms_norm(x, (WIDTH,))) + self.mlp(F.rms_norm(x, (WIDTH,)))


class MLPReadsAttentionOnly(Block):
    def forward(self, x):
        attended = self.attn(F.rms_norm(x, (WIDTH,)))
        return x + attended + self.mlp(F.rms_norm(attended, (WIDTH,)))


def test_a_stream_no_module_sees_is_proven_by_its_derivatives(stream, delta):
    model = seeded(lambda: Stack(FunctionalNorms(), FunctionalNorms()))
    taps = infer_sites(model, (stream,)).taps
    assert names_in_block(infer_sites(model, (stream,))) == BLOCK_NAMES
    by_branch, by_stream = (
        run(model, {"x": stream}, taps, edits={name: lambda x: x + delta})[0]
        for name in ("blocks.0.attn_out", "blocks.0.resid_mid")
    )
    torch.testing.assert_close(by_branch, by_stream)
    for other in (ParallelFunctionalNorms, MLPReadsAttentionOnly):
        assert "resid_mid" not in names_in_block(
            infer_sites(seeded(lambda kind=other: Stack(kind())), (stream,))
        )


class FunctionalActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 48), nn.Linear(48, WIDTH)

    def forward(self, x):
        return self.down(F.relu(self.up(x)).square())


def test_a_functional_activation_is_found_between_its_projections(stream):
    model = seeded(lambda: Stack(Block(mlp=FunctionalActivation())))
    _, got = run(model, {"x": stream}, *[infer_sites(model, (stream,)).taps] * 2)
    torch.testing.assert_close(F.relu(got["blocks.0.pre"]).square(), got["blocks.0.post"])


@pytest.mark.parametrize("norm_first", [True, False])
def test_torchs_own_transformer_layers_offer_what_their_fused_attention_shows(stream, norm_first):
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 48, batch_first=True, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    sites = infer_sites(model, (stream,))
    assert names_in_block(sites) == {
        "resid_pre",
        "mixer_out",
        "resid_mid",
        "pre",
        "post",
        "mlp_out",
        "resid_post",
    }
    assert "no softmax attention" in sites.withheld["blocks.0.pattern"]


def test_an_attention_only_transformer_offers_its_heads(ids):
    sites = infer_sites(seeded(lambda: InductionTransformer(d_vocab=97)), (ids,))
    assert names_in_block(sites) == {"resid_pre", "q", "k", "v", "pattern", "z", "attn_out", "resid_post"}
    assert "resid_mid is resid_post" in sites.withheld["blocks.0.resid_mid"]
    assert "no MLP" in sites.withheld["blocks.0.mlp_out"]
    assert {"embed", "logits"} <= set(sites.taps)
    assert sites.taps["embed"].path == "token_embedding"


def test_logits_of_the_last_position_only_are_still_logits(ids):
    class LastOnly(NanoGPT):
        def forward(self, ids):
            x = self.transformer.wte(ids)
            for block in self.transformer.h:
                x = block(x)
            return self.lm_head(self.transformer.ln_f(x)[:, [-1], :])

    assert "logits" in infer_sites(seeded(lambda: LastOnly(fused=True)), (ids,)).taps


def test_a_model_without_gradients_keeps_what_equalities_prove(ids):
    class Detached(NanoGPT):
        @torch.no_grad()
        def forward(self, ids):
            return super().forward(ids)

    sites = infer_sites(seeded(lambda: Detached(fused=True)), (ids,))
    assert {"resid_pre", "attn_out", "z", "v", "pattern", "resid_mid"} <= names_in_block(sites)
    assert not {"q", "k"} & names_in_block(sites)


def test_a_forward_that_fails_while_traced_leaves_nothing_behind(ids):
    class Failing(NanoGPT):
        def forward(self, ids):
            output = super().forward(ids)
            if torch.is_grad_enabled():
                raise RuntimeError("out of something")
            return output

    model, state = seeded(lambda: Failing(fused=True)), torch.random.get_rng_state()
    with pytest.raises(RuntimeError, match="out of something"):
        infer_sites(model, (ids,))
    assert not any([*module._forward_hooks, *module._forward_pre_hooks] for module in model.modules())
    assert torch.equal(torch.random.get_rng_state(), state)
