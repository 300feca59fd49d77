"""Circuits of edges run in one forward pass with hooks on the models' own modules: what the package is compared with.

Nothing of the package is used. Contributions are computed from the weights; which edges lead anywhere is found with
networkx.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import networkx as nx
import torch

from tests.truth.edges_by_hand import EDGE, HEAD, EdgesByHand, HookedEdges


def on_a_path(edges: Iterable[str]) -> set[str]:
    """Return the edges that lie on a path from the input to the logits."""
    graph = nx.DiGraph()
    ends = {edge: tuple(EDGE.fullmatch(edge).group("sender", "receiver")) for edge in edges}
    for sender, receiver in ends.values():
        graph.add_edge(sender, receiver)
        graph.add_edge(receiver, receiver.partition("<")[0])
    graph.add_nodes_from(["input", "logits"])
    forward, backward = nx.descendants(graph, "input") | {"input"}, nx.ancestors(graph, "logits") | {"logits"}
    return {edge for edge, (sender, receiver) in ends.items() if sender in forward and receiver in backward}


class HookedCircuits(HookedEdges):
    """The hand-weighted model: the input of every head's queries, keys and values is put together edge by edge."""

    def metric_of(self, kept: set[str]) -> torch.Tensor:
        """Return the metric per sample, with what is not on a path of kept edges at its ablated value."""
        kept = on_a_path(kept)
        now = {"input": self.before["input"]}

        def arriving(receiver: str) -> torch.Tensor:
            layer = 2 if receiver == "logits" else int(receiver[1])
            senders = ["input", *(f"a{one}.h{head}" for one in range(layer) for head in range(4))]
            return sum(now[one] if f"{one}->{receiver}" in kept else self.after[one] for one in senders)

        def receive(value: torch.Tensor, hook: Any) -> torch.Tensor:
            layer, channel = hook.name.split(".")[1], hook.name.split("_")[1]
            return torch.stack([arriving(f"a{layer}.h{head}<{channel}>") for head in range(4)], dim=2)

        def send(value: torch.Tensor, hook: Any) -> torch.Tensor:
            now.update({f"a{hook.layer()}.h{head}": value[:, :, head] for head in range(4)})
            return value

        hooks = [(f"blocks.{layer}.hook_{channel}_input", receive) for layer in range(2) for channel in "qkv"]
        hooks += [(f"blocks.{layer}.attn.hook_result", send) for layer in range(2)]
        hooks += [("blocks.1.hook_resid_post", lambda value, hook: arriving("logits"))]
        with torch.no_grad():
            return self.metric(self.model.run_with_hooks(self.clean, fwd_hooks=hooks))


class CircuitsByHand(EdgesByHand):
    """One HuggingFace model: each receiver reads the present stream with what comes along other edges exchanged."""

    def metric_of(self, kept: set[str], edges: Iterable[str]) -> torch.Tensor:
        """Return the metric per sample with all ``edges`` that are not kept at their corrupted value."""
        cut: dict[str, list[str]] = {}
        for edge in edges:
            match = EDGE.fullmatch(edge)
            cut.setdefault(match["receiver"], []).extend([match["sender"]] * (edge not in kept))
        now = {"input": self.written("input")}
        with ExitStack() as stack:
            for handle in [*self._watch(now), *self._receive(cut, now)]:
                stack.callback(handle.remove)
            return self._metric()

    def _exchanged(self, senders: list[str], now: dict[str, torch.Tensor]) -> Any:
        return sum(self.written(one, corrupted=True) - now[one] for one in senders)

    def _watch(self, now: dict[str, torch.Tensor]) -> list[Any]:
        """Record what every node sends in this very pass."""
        handles = []
        for layer, block in enumerate(self.parts.blocks(self.model)):
            projection = block.get_submodule(self.parts.output)
            weight = projection.weight.detach()
            weight = weight if "Conv1D" in type(projection).__name__ else weight.T

            def heads(_: Any, args: Any, layer: int = layer, weight: torch.Tensor = weight) -> None:
                width = self.parts.head_width
                for head in range(weight.shape[0] // width):
                    columns = slice(head * width, (head + 1) * width)
                    now[f"a{layer}.h{head}"] = args[0][..., columns] @ weight[columns]

            handles.append(projection.register_forward_pre_hook(heads))
        return handles

    def _receive(self, cut: dict[str, list[str]], now: dict[str, torch.Tensor]) -> list[Any]:
        handles = []
        streams: dict[Any, torch.Tensor] = {}
        for receiver, senders in cut.items():
            head = HEAD.fullmatch(receiver)
            if receiver == "logits":
                norm = self.model.get_submodule(self.parts.final_norm)
                hook = lambda one, args, out, s=senders: one.forward(args[0] + self._exchanged(s, now))  # noqa: E731
                handles.append(norm.register_forward_hook(hook))
                continue
            layer = int(head["layer"] if head else receiver[1:])
            block = self.parts.blocks(self.model)[layer]
            norm = block.get_submodule(self.parts.norm_before_attention if head else self.parts.norm_before_mlp)
            module = block.get_submodule(self.parts.projection(head["channel"])) if head else block.mlp
            columns = self.parts.columns(int(head["head"]), head["channel"]) if head else slice(None)
            handles.append(
                norm.register_forward_pre_hook(lambda one, args: streams.__setitem__(one, args[0].detach().clone()))
            )

            def replace(
                one: Any, args: Any, out: Any, s: Any = senders, norm: Any = norm, c: Any = columns, r: str = receiver
            ) -> Any:
                changed = one.forward(norm.forward(streams[norm] + self._exchanged(s, now)))
                out = out.clone()
                out[..., c] = changed[..., c]
                if r.startswith("m"):
                    now[r] = out.detach()
                return out

            handles.append(module.register_forward_hook(replace))
        return handles
