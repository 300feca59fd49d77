"""Tiny randomly initialised models of the architectures whose sites are tested, built offline."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

VOCABULARY, WIDTH, HEADS, LAYERS, POSITIONS, SAMPLES = 97, 32, 4, 2, 7, 3
FULL_BLOCK = 12
EVERY_END = ("embed", "ln_final", "logits")

Inputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Architecture:
    """How to build one architecture, and which names it must and must not offer.

    `missing` are names without their prefix: in every block, or at the ends.
    """

    name: str
    make: Callable[[str | None], nn.Module]
    inputs: str = "tokens"
    missing: tuple[str, ...] = ()
    causal: bool = True
    is_huggingface: bool = True

    def build(self, seed: int = 0, attention: str | None = None, noise: float = 0.15) -> tuple[nn.Module, Inputs]:
        """Return the model in eval mode and its inputs; with noise every bias and gain counts."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.make(attention)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter) * noise)
        return model.eval(), INPUTS[self.inputs](torch.Generator().manual_seed(1))


def main_output(output: Any) -> torch.Tensor:
    """Return the tensor by which two runs are compared."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, tuple):
        return output[0]
    return output["logits"] if "logits" in output else output["last_hidden_state"]


def _ids(generator: torch.Generator, positions: int = POSITIONS) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (SAMPLES, positions), generator=generator)


INPUTS: dict[str, Callable[[torch.Generator], Inputs]] = {
    "tokens": lambda g: {"input_ids": _ids(g)},
    "ids": lambda g: {"ids": _ids(g)},
    "image": lambda g: {"pixel_values": torch.randn(SAMPLES, 3, 16, 16, generator=g)},
    # the decoder is given the encoder's own first tokens: equal values must not confuse the two
    "two token streams": lambda g: (lambda ids: {"input_ids": ids, "decoder_input_ids": ids[:, :5]})(_ids(g)),
    "sound": lambda g: {
        "input_features": torch.randn(SAMPLES, 8, 20, generator=g),
        "decoder_input_ids": _ids(g),
    },
}

_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_BASE = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    **_SPECIAL,
}
_GROUPED = {**_BASE, "num_key_value_heads": 2}
_GEMMA = {**_GROUPED, "head_dim": 12}
_FALCON = {k: _BASE[k] for k in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")} | _SPECIAL
_OPT = {k: v for k, v in _BASE.items() if k != "intermediate_size"} | {"ffn_dim": 48}
_GPT = {
    "vocab_size": VOCABULARY,
    "n_embd": WIDTH,
    "n_layer": LAYERS,
    "n_head": HEADS,
    "n_positions": 64,
    **_SPECIAL,
}
_VISION = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 48,
    "image_size": 16,
    "patch_size": 8,
}
_T5 = {
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    "d_kv": 6,
    "d_ff": 48,
    "num_layers": LAYERS,
    "num_heads": HEADS,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
_WHISPER = {
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_mel_bins": 8,
    "max_source_positions": 10,
    "max_target_positions": 20,
    "decoder_start_token_id": 3,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    **_SPECIAL,
}


def _huggingface(model: str, config: str, settings: dict[str, Any]) -> Callable[[str | None], nn.Module]:
    def make(attention: str | None) -> nn.Module:
        import transformers

        configuration = getattr(transformers, config)(**settings)
        return getattr(transformers, model)._from_config(configuration, attn_implementation=attention)

    return make


def _causal(family: str, settings: dict[str, Any], config: str | None = None) -> Callable[[str | None], nn.Module]:
    return _huggingface(f"{family}ForCausalLM", config or f"{family}Config", settings)


class NanoAttention(nn.Module):
    """Causal self-attention as small teaching implementations write it."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fused = fused

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.c_attn(x).split(WIDTH, dim=2))
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
            scores = (q @ k.transpose(-2, -1)) / math.sqrt(q.shape[-1])
            y = F.softmax(scores.masked_fill(future, float("-inf")), dim=-1) @ v
        return self.c_proj(y.transpose(1, 2).flatten(2))


class NanoMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c_fc, self.gelu, self.c_proj = (
            nn.Linear(WIDTH, 4 * WIDTH),
            nn.GELU(),
            nn.Linear(4 * WIDTH, WIDTH),
        )

    def forward(self, x):
        return self.c_proj(self.gelu(self.c_fc(x)))


class NanoBlock(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(WIDTH), NanoAttention(fused)
        self.ln_2, self.mlp = nn.LayerNorm(WIDTH), NanoMLP()

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class NanoGPT(nn.Module):
    """A transformer in the style of nanoGPT: plain modules, a dict of parts, a tuple as output."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(VOCABULARY, WIDTH),
                "wpe": nn.Embedding(64, WIDTH),
                "h": nn.ModuleList(NanoBlock(fused) for _ in range(LAYERS)),
                "ln_f": nn.LayerNorm(WIDTH),
            }
        )
        self.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, ids, targets=None):
        x = self.transformer.wte(ids) + self.transformer.wpe(torch.arange(ids.shape[1]))
        for block in self.transformer.h:
            x = block(x)
        logits = self.lm_head(self.transformer.ln_f(x))
        loss = None if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return logits, loss


PARALLEL = ("resid_mid",)
POST_NORM = ("ln_final",)

_ALL = [
    Architecture("GPT2", _huggingface("GPT2LMHeadModel", "GPT2Config", _GPT)),
    Architecture("Llama", _causal("Llama", _GROUPED)),
    Architecture("Qwen2", _causal("Qwen2", _GROUPED)),
    Architecture("Qwen3", _causal("Qwen3", _GEMMA)),
    Architecture("Mistral", _causal("Mistral", _GROUPED)),
    Architecture(
        "Mixtral",
        _causal("Mixtral", {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
        missing=("pre", "post"),
    ),
    Architecture("Gemma", _causal("Gemma", _GEMMA)),
    Architecture("Gemma2", _causal("Gemma2", {**_GEMMA, "query_pre_attn_scalar": 12})),
    Architecture("Gemma3", _causal("Gemma3", {**_GEMMA, "query_pre_attn_scalar": 12}, "Gemma3TextConfig")),
    Architecture("GPTNeoX", _causal("GPTNeoX", _BASE), missing=PARALLEL),
    Architecture("GPTNeoX-sequential", _causal("GPTNeoX", {**_BASE, "use_parallel_residual": False})),
    Architecture("Phi", _causal("Phi", _BASE), missing=PARALLEL),
    Architecture("Phi3", _causal("Phi3", _GROUPED)),
    Architecture("OLMo", _causal("Olmo", _GROUPED)),
    Architecture("OLMo2", _causal("Olmo2", _GROUPED)),
    Architecture(
        "Falcon-7b",
        _causal("Falcon", {**_FALCON, "multi_query": True, "parallel_attn": True, "bias": False}),
        missing=PARALLEL,
    ),
    Architecture(
        "Falcon-40b",
        _causal("Falcon", {**_FALCON, "num_kv_heads": 2, "new_decoder_architecture": True, "bias": False}),
        missing=PARALLEL,
    ),
    Architecture(
        "Falcon-rw",
        _causal("Falcon", {**_FALCON, "multi_query": False, "parallel_attn": False, "bias": True, "alibi": True}),
    ),
    Architecture("OPT", _causal("OPT", {**_OPT, "word_embed_proj_dim": WIDTH})),
    Architecture(
        "OPT-350m",
        _causal("OPT", {**_OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
        missing=POST_NORM,
    ),
    Architecture(
        "BLOOM",
        _causal(
            "Bloom",
            {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "n_layer": LAYERS, "n_head": HEADS, **_SPECIAL},
        ),
    ),
    Architecture("GPT-J", _causal("GPTJ", {**_GPT, "rotary_dim": 4}), missing=PARALLEL),
    Architecture("StableLM", _causal("StableLm", _GROUPED)),
    Architecture(
        "Mamba",
        _causal(
            "Mamba",
            {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "state_size": 8},
        ),
        missing=("q", "k", "v", "z", "pattern", "attn_out", "resid_mid", "mlp_out", "pre", "post"),
    ),
    Architecture("BERT", _huggingface("BertForMaskedLM", "BertConfig", _BASE), missing=POST_NORM, causal=False),
    Architecture(
        "RoBERTa",
        _huggingface("RobertaForMaskedLM", "RobertaConfig", {**_BASE, "pad_token_id": 1}),
        missing=POST_NORM,
        causal=False,
    ),
    Architecture(
        "DistilBERT",
        _huggingface(
            "DistilBertForMaskedLM",
            "DistilBertConfig",
            {
                "vocab_size": VOCABULARY,
                "dim": WIDTH,
                "n_layers": LAYERS,
                "n_heads": HEADS,
                "hidden_dim": 48,
                "max_position_embeddings": 64,
            },
        ),
        missing=POST_NORM,
        causal=False,
    ),
    Architecture(
        "ALBERT",
        _huggingface("AlbertForMaskedLM", "AlbertConfig", {**_BASE, "embedding_size": 16}),
        missing=POST_NORM,
        causal=False,
    ),
    Architecture(
        "ViT",
        _huggingface("ViTForImageClassification", "ViTConfig", {**_VISION, "num_labels": 5}),
        inputs="image",
        missing=("embed",),
        causal=False,
    ),
    Architecture(
        "CLIP-vision",
        _huggingface("CLIPVisionModel", "CLIPVisionConfig", _VISION),
        inputs="image",
        missing=EVERY_END,
        causal=False,
    ),
    Architecture("T5", _huggingface("T5ForConditionalGeneration", "T5Config", _T5), inputs="two token streams"),
    Architecture(
        "T5-gated",
        _huggingface("T5ForConditionalGeneration", "T5Config", {**_T5, "feed_forward_proj": "gated-gelu"}),
        inputs="two token streams",
    ),
    Architecture(
        "Whisper",
        _huggingface("WhisperForConditionalGeneration", "WhisperConfig", _WHISPER),
        inputs="sound",
        missing=("encoder.embed",),
    ),
    Architecture("nanoGPT-fused", lambda _: NanoGPT(fused=True), inputs="ids", is_huggingface=False),
    Architecture("nanoGPT-open", lambda _: NanoGPT(fused=False), inputs="ids", is_huggingface=False),
]

ARCHITECTURES = {architecture.name: architecture for architecture in _ALL}
