"""Tiny models of other libraries, built in memory: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.interop.lens_models import POSITIONS, VARIANTS, VOCABULARY, make_bridge

collect_ignore = ["exploratory_analysis.py", "nnsight_server.py"]  # scripts, which tests run


def _shaken(module: nn.Module, seed: int = 0, scale: float = 0.2) -> nn.Module:
    """Move every parameter away from its initial value: zero biases and unit gains would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return module.eval()


@pytest.fixture(scope="session")
def tokens() -> torch.Tensor:
    """Clean prompts, (sample, position), of ordinary tokens."""
    return torch.randint(4, VOCABULARY, (3, POSITIONS), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def corrupted(tokens: torch.Tensor) -> torch.Tensor:
    """The clean prompts with two tokens changed."""
    other = tokens.clone()
    other[:, 1] = (tokens[:, 1] - 4 + 7) % (VOCABULARY - 4) + 4
    other[:, 4] = (tokens[:, 4] - 4 + 3) % (VOCABULARY - 4) + 4
    return other


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., Any]:
    def make(padding_side: str = "right") -> Any:
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        special = {"[UNK]": 0, "[BOS]": 1, "[EOS]": 2, "[PAD]": 3}
        words = {f"w{number}": number + 4 for number in range(VOCABULARY - 4)}
        inner = Tokenizer(models.WordLevel(special | words, unk_token="[UNK]"))
        inner.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=inner,
            unk_token="[UNK]",
            bos_token="[BOS]",
            eos_token="[EOS]",
            pad_token="[PAD]",
            padding_side=padding_side,
        )
        # TransformerLens fetches a tokenizer anew unless it is told that this one adds the BOS token
        tokenizer.init_kwargs.update(add_bos_token=True, name_or_path="in memory")
        return tokenizer

    return make


@pytest.fixture(scope="session")
def make_hf() -> Callable[[str], Any]:
    """Return a function that builds a tiny HuggingFace causal language model."""

    def make(kind: str) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return _shaken(build(kind))

    def build(kind: str) -> Any:
        import transformers

        size = {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": 32,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 3,
        }
        if kind == "gpt2":
            config = transformers.GPT2Config(
                vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2
            )
            return transformers.GPT2LMHeadModel(config)
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**size, num_key_value_heads=2))

    return make


@pytest.fixture(scope="session")
def shaken() -> Callable[..., nn.Module]:
    return _shaken


@pytest.fixture
def count_hooks() -> Callable[[nn.Module], list[tuple[int, int, int]]]:
    """Return a function that lists how many torch and TransformerLens hooks each submodule has."""

    def count(module: nn.Module) -> list[tuple[int, int, int]]:
        return [
            (
                len(part._forward_hooks) + len(part._forward_pre_hooks),
                len(part._backward_hooks) + len(part._backward_pre_hooks),
                len(getattr(part, "fwd_hooks", [])) + len(getattr(part, "bwd_hooks", [])),
            )
            for part in module.modules()
        ]

    return count


@pytest.fixture(scope="module")
def make_lens(shaken: Callable[..., Any]) -> Callable[..., Any]:
    def make(tokenizer: Any = None, scale: float = 0.2, **settings: Any) -> Any:
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        size: dict[str, Any] = {
            "n_layers": 2, "d_model": 32, "n_ctx": 32, "d_head": 8, "n_heads": 4, "d_mlp": 48, "d_vocab": VOCABULARY,
            "act_fn": "gelu_new", "normalization_type": "LN", "device": "cpu",
        }  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return shaken(
                HookedTransformer(HookedTransformerConfig(**size | settings), tokenizer=tokenizer), scale=scale
            )

    return make


@pytest.fixture(scope="module")
def models(make_lens: Callable[..., Any], make_hf: Callable[[str], Any]) -> dict[str, Any]:
    built = {name: make_lens(**settings) for name, settings in VARIANTS.items()}
    built["GPT-2 bridge"] = make_bridge(make_hf("gpt2"), "GPT2LMHeadModel")
    built["Llama bridge"] = make_bridge(make_hf("llama"), "LlamaForCausalLM")
    return built


@pytest.fixture
def lens(models: dict[str, Any], request: pytest.FixtureRequest) -> Any:
    return models[getattr(request, "param", "plain")]
