"""Names vanish, with a reason, where what they mean is not there; and odd shapes of model keep theirs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from neuros_mechint.adapters.inference import infer_sites
from neuros_mechint.datasets.networks import InductionTransformer
from tests.conformance.architectures import ARCHITECTURES, HEADS, WIDTH, NanoGPT
from tests.conformance.toy_blocks import (
    BLOCK_NAMES,
    MLP,
    Block,
    Stack,
    names_in_block,
    run,
    seeded,
)

# -- names must vanish when what they mean is not there --------------------------------------------


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

    model, state = seeded(lambda: Noisy(fused=True)), torch.random.get_rng_state()
    sites = infer_sites(model, (ids,))
    assert not sites.taps
    assert "another output" in sites.withheld["*"]
    assert torch.equal(torch.random.get_rng_state(), state)


class SharedExpert(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.routed, self.shared = nn.Linear(WIDTH, 1), MLP(), MLP()

    def forward(self, x):
        return torch.sigmoid(self.gate(x)) * self.routed(x) + self.shared(x)


def test_the_hidden_units_of_one_of_several_experts_are_not_the_mlps(stream):
    sites = infer_sites(seeded(lambda: Stack(Block(mlp=SharedExpert()))), (stream,))
    assert names_in_block(sites) == BLOCK_NAMES - {"pre", "post"}
    assert "several experts" in sites.withheld["blocks.0.post"]


@pytest.mark.parametrize(("last", "is_norm"), [(nn.PReLU(), False), (nn.Tanh(), False), (nn.RMSNorm(WIDTH), True)])
def test_only_what_forgets_scale_is_the_final_norm(stream, last, is_norm):
    model = seeded(lambda: nn.Sequential(Stack(Block(), Block()), last))
    assert ("ln_final" in infer_sites(model, (stream,)).taps) is is_norm


@pytest.mark.parametrize("shape", [(1, 7), (3, 3)])
def test_too_small_a_batch_is_refused_with_what_is_needed(ids, shape):
    sites = infer_sites(seeded(lambda: NanoGPT(fused=True)), (ids[: shape[0], : shape[1]],))
    assert not names_in_block(sites)
    assert "at least 2 samples of 4 positions" in sites.withheld["blocks.*"]


def test_a_stream_whose_first_axis_is_not_the_samples_is_refused(stream):
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 48, batch_first=False)
    sites = infer_sites(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval(), (stream,))
    assert not sites.taps
    assert "batch_first" in sites.withheld["blocks.*"]


class ConvolutionalBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(7, 7, 3, padding=1), nn.BatchNorm1d(7)

    def forward(self, x):
        return x + self.norm(self.conv(x)).relu()


def test_channels_are_not_taken_for_positions(stream):
    sites = infer_sites(Stack(ConvolutionalBlock(), ConvolutionalBlock()).eval(), (stream,))
    assert not sites.taps
    assert "native module paths" in sites.withheld["blocks.*"]


def test_a_model_without_blocks_keeps_its_native_paths_only(stream):
    sites = infer_sites(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 4)), (stream,))
    assert not sites.taps
    assert "native module paths" in sites.withheld["blocks.*"]


# -- shapes of model that are no trap but easily missed --------------------------------------------


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
        assert "resid_mid" not in names_in_block(infer_sites(seeded(lambda kind=other: Stack(kind())), (stream,)))


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
