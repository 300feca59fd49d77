"""A change that travels along one chain of nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from neuros_mechint.causal.paths.direct import DirectRuns, Received
from neuros_mechint.causal.paths.wiring import Node, Receiver, Wiring
from neuros_mechint.core.edits import Edit, Replace
from neuros_mechint.core.errors import InputError

_LINK = re.compile(r"(?P<node>[^<>]+)(?:<(?P<channel>\w+)>)?")


def along_chain(
    runs: DirectRuns, alternatives: Mapping[str, Edit], chain: Sequence[str]
) -> tuple[Received, Received, bool]:
    """Let a change travel along ``chain``.

    Returns
    -------
    untouched, received : Received
        What arrives at the output without the change, and with it.
    reached : bool
        Whether it changed what every link receives.

    Raises
    ------
    InputError, SiteError
        A chain without nodes, or with links that do not exist.
    """
    links = [] if isinstance(chain, str) else list(chain)
    if links and links[-1] == runs.wiring.output:
        links.pop()
    if not links:
        raise InputError("a chain of nodes is needed", expected='for example ["a0.h0", "a1.h0<k>"]', got=repr(chain))
    first, *others = [_parsed(link, runs.wiring, starts=at == 0) for at, link in enumerate(links)]
    if links[0] != first[0].name:
        raise InputError(
            f"a chain starts with what a node sends, not with {links[0]!r}", fix=f"begin with {first[0].name!r}"
        )
    untouched = runs.receive([])
    change, reached = alternatives[first[0].name], True
    for node, receivers in others:
        received = runs.receive([change])
        reached &= any(bool((received.values[r.name] != untouched.values[r.name]).any()) for r in receivers)
        change = _passed_on(runs, node, receivers, received)
    return untouched, runs.receive([change]), reached


def _passed_on(runs: DirectRuns, node: Node, receivers: Sequence[Receiver], received: Received) -> Edit:
    """Return what ``node`` sends once it has received the change."""
    if receivers[0].is_response:
        return Replace(node.site, received.values[receivers[0].name])
    entered = [Replace(receiver.site, received.values[receiver.name]) for receiver in receivers]
    answer = runs.receive(entered, respond=[node])
    return Replace(node.site, answer.values[node.name])


def _parsed(link: str, wiring: Wiring, starts: bool) -> tuple[Node, list[Receiver]]:
    """Return the node a link names, and where the change enters it."""
    match = _LINK.fullmatch(link)
    node = wiring.node(match["node"] if match else link)
    channel = match["channel"] if match else None
    receivers = [
        receiver
        for receiver in wiring.receivers
        if node.name in receiver.nodes and (channel is None or receiver.name.endswith(f"<{channel}>"))
    ]
    if not receivers and not starts:
        known = [receiver.name for receiver in wiring.receivers if node.name in receiver.nodes]
        raise InputError(f"nothing is received at {link!r}", expected=", ".join(known) or "a node that receives")
    return node, receivers
