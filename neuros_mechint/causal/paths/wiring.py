"""Which parts of a model are nodes, what each of them sends, and where each of them receives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.errors import InputError, SiteError
from neuros_mechint.core.sites import SiteReference, SiteTable

INPUT = "input"
MODEL_INPUT = ":in"
_STREAM_IN = "blocks.0.resid_pre"
_OF_BLOCK = re.compile(r"blocks\.(\d+)\.(\w+)")
_STATES = re.compile(r"(?:.*\.)?(?:hidden|cell)")


@dataclass(frozen=True)
class Node:
    """A part of a model that sends a value to other parts.

    Parameters
    ----------
    name : str
        ``input``, ``a1.h0`` (head 0 of block 1), ``m1`` (the MLP of block 1), or the name of a module or state.
    site : str
        Where the value it sends can be read and set.
    kind : {"input", "head", "attention", "mixer", "mlp", "module", "state"}
        What it is.
    depth : int or None
        How far up it is drawn; ``None`` where only the edges tell.
    """

    name: str
    site: str
    kind: str
    depth: int | None = None


@dataclass(frozen=True)
class Receiver:
    """A place at which a node receives what others send.

    Parameters
    ----------
    name : str
        ``a1.h0<k>`` for the keys of a head, else the name of the node.
    site : str
        Where what it receives can be read and set.
    nodes : tuple of str
        The nodes it belongs to: several where query heads share keys and values.
    is_response : bool
        ``True``: the site holds what the node sends on in response, rather than what comes in.
    """

    name: str
    site: str
    nodes: tuple[str, ...]
    is_response: bool


@dataclass(frozen=True)
class Wiring:
    """Nodes and receivers of a model.

    Parameters
    ----------
    nodes, receivers : tuple
        In order of execution. The output of the model receives too, and is not among them.
    pairs : frozenset of (str, str)
        Sender and receiver of the edges that the architecture has. Others are found when the model runs.
    frozen : tuple of str
        Sites that together hold the value of every node but the input.
    output : str
        Name of the output.
    stream : str, optional
        The last residual stream, to which every node is expected to add.
    """

    nodes: tuple[Node, ...]
    receivers: tuple[Receiver, ...]
    pairs: frozenset[tuple[str, str]]
    frozen: tuple[str, ...]
    output: str
    stream: str | None = None

    @property
    def input(self) -> Node | None:
        """The node that stands for the input."""
        return next((node for node in self.nodes if node.kind == "input"), None)

    def node(self, name: str) -> Node:
        """Return a node by name; raise `SiteError` where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise SiteError(f"no node {name!r}", expected="one of " + ", ".join(one.name for one in self.nodes))


def find_wiring(model: Adapter, clean: Any, nodes: Sequence[str] | Mapping[str, str] | None = None) -> Wiring:
    """Return the nodes of a model: those given, or those that its canonical sites name.

    Parameters
    ----------
    model : Adapter
        It has been run on ``clean`` before, so that its sites are proven.
    clean : inputs of the model
    nodes : sequence of str or mapping of str to str, optional
        Sites that are nodes, or names and their sites.

    Raises
    ------
    InputError, SiteError
        No nodes can be found, or those given overlap.
    """
    if nodes is not None:
        return given_wiring(nodes, _input_node(model, clean))
    table = model.sites()
    if _STREAM_IN in set(table):  # `in` on the table itself raises for a name that is withheld
        return transformer_wiring(table)
    states = [name for name in table if _STATES.fullmatch(name)]
    if states and "time" in model.capabilities:
        captured = model.capture(clean, states)
        assert isinstance(captured, Activations)
        steps = {name: captured[name].shape[captured.dims(name).index("time")] for name in states}
        return state_wiring(steps, _input_node(model, clean))
    raise InputError(
        f"which parts of {model!r} are nodes?",
        expected="blocks.* sites, or recurrent states, or nodes of your choice",
        got=", ".join(list(table)[:8]),
        fix='give nodes=["path.of.a.module", ...], from `model.sites()`',
    )


def transformer_wiring(table: SiteTable) -> Wiring:
    """Return heads and MLPs of every block as nodes; queries, keys and values of a head receive separately.

    Raises
    ------
    SiteError
        A block none of whose parts is proven.

    Examples
    --------
    >>> from neuros_mechint.core.sites import Site
    >>> parts = [f"blocks.0.{part}" for part in ("resid_pre", "attn_out", "mlp_out", "resid_post")]
    >>> sorted(transformer_wiring(SiteTable([Site(name, name) for name in parts])).pairs)  # in parallel: no resid_mid
    [('a0', 'logits'), ('input', 'a0'), ('input', 'logits'), ('input', 'm0'), ('m0', 'logits')]
    """
    drawing, names = _Drawing([Node(INPUT, _STREAM_IN, "input", 0)]), set(table)
    layers = sorted({int(match[1]) for name in names if (match := _OF_BLOCK.fullmatch(name))})
    for layer in layers:
        before = len(drawing.nodes)
        _add_attention(drawing, table, layer)
        if f"blocks.{layer}.mlp_out" in names:
            follows = f"blocks.{layer}.resid_mid" in names  # else both read the same stream
            senders = drawing.nodes if follows else drawing.nodes[:before]
            depth = 2 * layer + 2 if follows else 2 * layer + 1
            drawing.add_response(Node(f"m{layer}", f"blocks.{layer}.mlp_out", "mlp", depth), senders)
        if len(drawing.nodes) == before:
            reasons = [f"{name}: {why}" for name, why in table.withheld.items() if name.startswith(f"blocks.{layer}.")]
            raise SiteError(f"no part of block {layer} is proven, so it cannot be held fixed", got="; ".join(reasons))
    stream = f"blocks.{layers[-1]}.resid_post"
    return drawing.wiring("logits", stream if stream in names else None)


def state_wiring(steps: Mapping[str, int], first: Node | None) -> Wiring:
    """Return the states of a recurrent model, one node per state and time step.

    Examples
    --------
    >>> [node.name for node in state_wiring({"hidden": 2}, None).nodes]
    ['hidden[time=0]', 'hidden[time=1]']
    """
    drawing = _Drawing([first] if first else [])
    for time in range(max(steps.values())):
        for state, length in steps.items():
            if time < length:
                name = f"{state}[time={time}]"
                drawing.add_response(Node(name, name, "state"), ())
    return drawing.wiring("output")


def given_wiring(nodes: Sequence[str] | Mapping[str, str], first: Node | None) -> Wiring:
    """Return the sites that the user calls nodes.

    Raises
    ------
    InputError
        None, twice the same, or one that is part of another.

    Examples
    --------
    >>> given_wiring({"left": "branch.0", "right": "branch.1"}, None).frozen
    ('branch.0', 'branch.1')
    """
    if isinstance(nodes, str):
        nodes = [nodes]
    sites = dict(nodes) if isinstance(nodes, Mapping) else {str(site): str(site) for site in nodes}
    if not sites or len(sites) < len(nodes):
        raise InputError("nodes are needed, each once", expected="sites from `model.sites()`", got=list(nodes))
    if reserved := {INPUT, "output"} & set(sites):
        raise InputError(f"a node cannot be called {reserved.pop()!r}", fix="the input and the output are added anyway")
    references = [SiteReference.parse(site) for site in sites.values()]
    whole = [reference.name for reference in references if not reference.index]
    for reference in references:
        if whole.count(reference.name) > (not reference.index):
            raise InputError(f"node {reference} is part of another node", expected="nodes that do not overlap")
    drawing = _Drawing([first] if first else [])
    for name, site in sites.items():
        drawing.add_response(Node(name, site, "module"), ())
    return drawing.wiring("output")


@dataclass
class _Drawing:
    """A wiring while it grows."""

    nodes: list[Node]
    receivers: list[Receiver] = field(default_factory=list[Receiver])
    pairs: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    frozen: list[str] = field(default_factory=list[str])

    def add_response(self, node: Node, senders: Sequence[Node]) -> None:
        """Add a node that receives as a whole: what it receives shows in what it sends on."""
        self.add_receiver(Receiver(node.name, node.site, (node.name,), True), senders)
        self.nodes.append(node)
        self.frozen.append(node.site)

    def add_receiver(self, receiver: Receiver, senders: Sequence[Node]) -> None:
        self.receivers.append(receiver)
        self.pairs |= {(sender.name, receiver.name) for sender in senders}

    def wiring(self, output: str, stream: str | None = None) -> Wiring:
        # what the architecture has goes on to the output; of other models the run shows it
        to_output = {(node.name, output) for node in self.nodes} if stream is not None else set[tuple[str, str]]()
        return Wiring(
            tuple(self.nodes),
            tuple(self.receivers),
            frozenset(self.pairs | to_output),
            tuple(self.frozen),
            output,
            stream,
        )


def _add_attention(drawing: _Drawing, table: SiteTable, layer: int) -> None:
    """Add the attention of a block, as finely as its sites are proven."""
    site, depth, earlier, names = f"blocks.{layer}", 2 * layer + 1, list(drawing.nodes), set(table)
    n_heads = table[f"{site}.z"].heads if f"{site}.z" in names else None
    if n_heads:
        heads = [Node(f"a{layer}.h{head}", f"{site}.z[head={head}]", "head", depth) for head in range(n_heads)]
        if all(f"{site}.{channel}" in names for channel in "qkv"):
            for channel in "qkv":
                _add_channel(drawing, heads, table, layer, channel, earlier)
            drawing.nodes += heads
            drawing.frozen.append(f"{site}.z")  # all heads at once
        else:
            for head in heads:
                drawing.add_response(head, earlier)
    elif f"{site}.attn_out" in names:
        drawing.add_response(Node(f"a{layer}", f"{site}.attn_out", "attention", depth), earlier)
    elif f"{site}.mixer_out" in names:
        drawing.add_response(Node(f"x{layer}", f"{site}.mixer_out", "mixer", depth), earlier)


def _add_channel(
    drawing: _Drawing, heads: Sequence[Node], table: SiteTable, layer: int, channel: str, senders: Sequence[Node]
) -> None:
    """Add the queries, keys or values of a block: of each head, or of each group of heads that share them."""
    site = f"blocks.{layer}.{channel}"
    n_shared = table[site].heads or len(heads)
    group = len(heads) // n_shared
    for index in range(n_shared):
        owner = f"a{layer}.h{index}" if group == 1 else f"a{layer}.kv{index}"
        members = tuple(head.name for head in heads[index * group : (index + 1) * group])
        drawing.add_receiver(Receiver(f"{owner}<{channel}>", f"{site}[head={index}]", members, False), senders)


def _input_node(model: Adapter, clean: Any) -> Node | None:
    """Return the model's own input as a node, where it is one tensor of real numbers."""
    try:
        captured = model.capture(clean, MODEL_INPUT)
    except SiteError:  # several inputs by name, or an adapter whose models have no such place
        return None
    real = isinstance(captured, Activations) and captured[MODEL_INPUT].is_floating_point()
    return Node(INPUT, MODEL_INPUT, "input") if real else None
