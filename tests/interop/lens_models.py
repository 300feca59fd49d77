"""Kinds of TransformerLens models, and the bridges that wrap those of HuggingFace."""

from __future__ import annotations

from typing import Any

import torch

from neuros_mechint.core.site_names import transformer_lens_name

VOCABULARY = 24
POSITIONS = 7
BLOCK_SITES = (
    "resid_pre", "q", "k", "v", "pattern", "z", "attn_out", "resid_mid", "pre", "post", "mlp_out", "resid_post",
)  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped queries": {"n_key_value_heads": 2},
    "attention only": {"attn_only": True},
    "parallel": {"parallel_attn_mlp": True},
    "rotary": {"normalization_type": "RMS", "positional_embedding_type": "rotary", "rotary_dim": 8, "gated_mlp": True},
}
ALL = [*VARIANTS, "GPT-2 bridge", "Llama bridge"]


def make_bridge(hf: Any, architecture: str, tokenizer: Any = None) -> Any:
    from transformer_lens.model_bridge.sources import build_bridge_config_from_hf, build_bridge_from_module

    config = build_bridge_config_from_hf(hf.config, architecture, "tiny", torch.float32)
    return build_bridge_from_module(hf, architecture=architecture, tl_config=config, tokenizer=tokenizer)


def hook(model: Any, name: str) -> Any:
    return model.hook_dict.get(transformer_lens_name(name)) if name != "ln_final" else None
