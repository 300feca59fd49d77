"""Effects of edges written out with the model's own modules: what PathAnalyzer is compared with.

Nothing of the package is used. A sender's contribution is computed from its weights; the receiver's projection is run
on the stream with this contribution changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests.conformance.architectures import ARCHITECTURES

EDGE = re.compile(r"(?P<sender>[^-]+)->(?P<receiver>.+)")
HEAD = re.compile(r"a(?P<layer>\d)\.(?:h|kv)(?P<head>\d)(?:<(?P<channel>[qkv])>)?")


@dataclass(frozen=True)
class Parts:
    """Where the parts of one architecture are, and how heads lie in its projections."""

    blocks: Callable[[Any], nn.ModuleList]
    norm_before_attention: str
    projection: Callable[[str], str]
    columns: Callable[[int, str], slice]
    output: str
    norm_before_mlp: str
    final_norm: str
    head_width: int = 8


HUGGINGFACE = {
    "GPT2": Parts(
        lambda model: model.transformer.h,
        "ln_1",
        lambda channel: "attn.c_attn",
        lambda head, channel: slice(32 * "qkv".index(channel) + 8 * head, 32 * "qkv".index(channel) + 8 * head + 8),
        "attn.c_proj",
        "ln_2",
        "transformer.ln_f",
    ),
    "Llama": Parts(
        lambda model: model.model.layers,
        "input_layernorm",
        lambda channel: f"self_attn.{channel}_proj",
        lambda head, channel: slice(8 * head, 8 * head + 8),
        "self_attn.o_proj",
        "post_attention_layernorm",
        "model.norm",
    ),
    "GPTNeoX": Parts(
        lambda model: model.gpt_neox.layers,
        "input_layernorm",
        lambda channel: "attention.query_key_value",
        lambda head, channel: slice(24 * head + 8 * "qkv".index(channel), 24 * head + 8 * "qkv".index(channel) + 8),
        "attention.dense",
        "post_attention_layernorm",
        "gpt_neox.final_layer_norm",
    ),
}


def language_model(name: str, size: float) -> tuple[Any, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return a tiny model in double precision, and embeddings as inputs and partners that differ by ``size``."""
    model, inputs = ARCHITECTURES[name].build()
    model = model.double()
    with torch.no_grad():
        embedded = model.get_input_embeddings()(inputs["input_ids"])
    change = torch.randn(embedded.shape, dtype=embedded.dtype, generator=torch.Generator().manual_seed(3))
    return model, {"inputs_embeds": embedded}, {"inputs_embeds": embedded + size * change}


def answer(output: Any) -> torch.Tensor:
    """Return a logit difference at the last position."""
    return output.logits[:, -1, 5] - output.logits[:, -1, 9]


class EdgesByHand:
    """One HuggingFace model on a clean and a corrupted input."""

    def __init__(self, name: str, model: Any, clean: dict[str, Any], corrupted: dict[str, Any], metric: Any) -> None:
        self.model, self.parts, self.clean, self.metric = model, HUGGINGFACE[name], clean, metric
        self.sent = [self._values(clean), self._values(corrupted)]
        self.baseline = self._metric()

    def effect(self, *edges: str) -> torch.Tensor:
        """Return the effect of one edge, or of several at once, per sample."""
        with ExitStack() as stack:
            for edge in edges:
                match = EDGE.fullmatch(edge)
                delta = self.written(match["sender"], corrupted=True) - self.written(match["sender"])
                stack.enter_context(self._received(match["receiver"], delta))
            return self.baseline - self._metric()

    def _metric(self) -> torch.Tensor:
        with torch.no_grad():
            return self.metric(self.model(**self.clean))

    def _values(self, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the first stream, the heads' values of every block and the outputs of its MLP."""
        seen: dict[str, torch.Tensor] = {}
        with ExitStack() as stack:
            for layer, block in enumerate(self.parts.blocks(self.model)):
                handles = [
                    block.get_submodule(self.parts.output).register_forward_pre_hook(
                        lambda _, args, layer=layer: seen.__setitem__(f"z{layer}", args[0].detach().clone())
                    ),
                    block.mlp.register_forward_hook(
                        lambda _, args, out, layer=layer: seen.__setitem__(f"m{layer}", out.detach().clone())
                    ),
                ]
                if not layer:
                    norm = block.get_submodule(self.parts.norm_before_attention)
                    handles.append(
                        norm.register_forward_pre_hook(
                            lambda _, args: seen.__setitem__("input", args[0].detach().clone())
                        )
                    )
                for handle in handles:
                    stack.callback(handle.remove)
            with torch.no_grad():
                self.model(**inputs)
        return seen

    def written(self, sender: str, corrupted: bool = False) -> torch.Tensor:
        """Return what a sender writes to the stream: from its weights."""
        sent = self.sent[corrupted]
        head = HEAD.fullmatch(sender)
        if head is None:
            return sent[sender]
        layer, index = int(head["layer"]), int(head["head"])
        columns = slice(index * self.parts.head_width, (index + 1) * self.parts.head_width)
        output = self.parts.blocks(self.model)[layer].get_submodule(self.parts.output)
        weight = output.weight.detach() if "Conv1D" in type(output).__name__ else output.weight.detach().T
        return sent[f"z{layer}"][..., columns] @ weight[columns]

    @contextmanager
    def _received(self, receiver: str, delta: torch.Tensor) -> Iterator[None]:
        """Let one receiver read the stream with ``delta`` added; ``forward`` is called so that hooks do not run."""
        if receiver == "logits":
            norm = self.model.get_submodule(self.parts.final_norm)
            handles = [norm.register_forward_hook(lambda one, args, out: one.forward(args[0] + delta))]
        else:
            handles = self._on_block(receiver, delta)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _on_block(self, receiver: str, delta: torch.Tensor) -> list[Any]:
        head = HEAD.fullmatch(receiver)
        block = self.parts.blocks(self.model)[int(head["layer"] if head else receiver[1:])]
        norm = block.get_submodule(self.parts.norm_before_attention if head else self.parts.norm_before_mlp)
        module = block.get_submodule(self.parts.projection(head["channel"])) if head else block.mlp
        columns = self.parts.columns(int(head["head"]), head["channel"]) if head else slice(None)
        stream: list[torch.Tensor] = []

        def replace(one: nn.Module, args: Any, out: torch.Tensor) -> torch.Tensor:
            changed = one.forward(norm.forward(stream[0] + delta))
            out = out.clone()
            out[..., columns] = changed[..., columns]
            return out

        return [
            norm.register_forward_pre_hook(lambda _, args: stream.append(args[0])),
            module.register_forward_hook(replace),
        ]


class HookedEdges:
    """The hand-weighted model: TransformerLens gives every head's queries, keys and values an input of their own."""

    def __init__(self, model: Any, clean: torch.Tensor, other: torch.Tensor | str, metric: Any) -> None:
        self.model, self.clean, self.metric = model, clean, metric
        model.set_use_attn_result(True)
        model.set_use_split_qkv_input(True)
        self.before = self._sent(clean)
        if isinstance(other, torch.Tensor):
            self.after = self._sent(other)
        else:
            mean = {name: value.mean((0, 1), keepdim=True).expand_as(value) for name, value in self.before.items()}
            self.after = {name: torch.zeros_like(mean[name]) for name in mean} if other == "zero" else mean

    def _sent(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            _, cache = self.model.run_with_cache(tokens)
        sent = {"input": cache["hook_embed"] + cache["hook_pos_embed"]}
        for layer in range(2):
            for head in range(self.model.cfg.n_heads):
                sent[f"a{layer}.h{head}"] = cache["result", layer][:, :, head]
        return sent

    def exact(self, edge: str) -> torch.Tensor:
        """Return the effect of one edge per sample."""
        match = EDGE.fullmatch(edge)
        delta = self.after[match["sender"]] - self.before[match["sender"]]
        name, head = _hook(match["receiver"])

        def change(value: torch.Tensor, hook: Any) -> torch.Tensor:
            value = value.clone()
            (value if head is None else value[:, :, head]).add_(delta)
            return value

        with torch.no_grad():
            edited = self.model.run_with_hooks(self.clean, fwd_hooks=[(name, change)])
            return self.metric(self.model(self.clean)) - self.metric(edited)

    def estimates(self, edges: list[str], steps: int) -> dict[str, torch.Tensor]:
        """Return edge attribution patching as published: change of the stream times gradient at the receiver."""
        places = [(step + 0.5) / steps for step in range(steps)] if steps else [0.0]
        slopes: dict[str, torch.Tensor] = {}
        for place in places:
            for name, slope in self._slopes(edges, place).items():
                slopes[name] = slopes.get(name, 0) + slope / len(places)
        found: dict[str, torch.Tensor] = {}
        for edge in edges:
            match = EDGE.fullmatch(edge)
            name, head = _hook(match["receiver"])
            slope = slopes[name] if head is None else slopes[name][:, :, head]
            change = self.after[match["sender"]] - self.before[match["sender"]]
            found[edge] = -(change * slope).sum((1, 2))
        return found

    def _slopes(self, edges: list[str], place: float) -> dict[str, torch.Tensor]:
        held: dict[str, torch.Tensor] = {}

        def keep(value: torch.Tensor, hook: Any) -> torch.Tensor:
            value.retain_grad()
            held[hook.name] = value
            return value

        moved = place * (self.after["input"] - self.before["input"])
        hooks = [("hook_embed", lambda value, hook: value + moved)]
        hooks += [(name, keep) for name in {_hook(EDGE.fullmatch(edge)["receiver"])[0] for edge in edges}]
        self.metric(self.model.run_with_hooks(self.clean, fwd_hooks=hooks)).sum().backward()
        self.model.zero_grad()
        return {name: value.grad for name, value in held.items()}


def _hook(receiver: str) -> tuple[str, int | None]:
    head = HEAD.fullmatch(receiver)
    if head is None:
        return "blocks.1.hook_resid_post", None
    return f"blocks.{head['layer']}.hook_{head['channel']}_input", int(head["head"])
