"""A short identity of a network: what tells it, in its present state, from others."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from neuros_mechint.adapters.brian2.places import BrianObject, is_monitor
from neuros_mechint.core.fingerprint import fingerprint_array

if TYPE_CHECKING:
    from brian2 import Network


def fingerprint_network(network: Network, namespace: Mapping[str, Any], *options: Any) -> str:
    """Return a hash of equations, code, state and constants of a network, and of further options."""
    digest = hashlib.sha256(repr(options).encode())
    for line in _description(network, namespace):
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()[:32]


def _description(network: Network, namespace: Mapping[str, Any]) -> Iterator[str]:
    yield f"{network.t_} {network.schedule}"
    everything = ""
    for one in sorted(network, key=lambda one: one.name):
        if is_monitor(one):
            continue
        code = _code_of(one)
        everything += f" {code}"
        clock = getattr(one.clock, "dt_", "")  # from Brian2 2.10 on some clocks have none
        yield f"{one.name}|{type(one).__name__}|{one.when}|{one.order}|{one.active}|{clock}|{code}"
        state = one._full_state() if hasattr(one, "_full_state") else {}
        for name, value in sorted(state.items()):
            array = isinstance(value, tuple) and isinstance(value[0], np.ndarray)
            yield f"{name}={fingerprint_array(value[0]) if array else repr(value)}"
    for name in sorted(set(re.findall(r"\w+", everything)) & namespace.keys()):
        value = namespace[name]
        yield f"{name}={fingerprint_array(value.values) if hasattr(value, 'values') else repr(value)}"


def _code_of(one: BrianObject) -> str:
    """Return the equations and code that a user gave to an object, which runs do not change."""
    parts = [str(getattr(one, part, "")) for part in ("equations", "events", "event_codes", "code", "_refractory")]
    if type(one).__name__ in ("CodeRunner", "PoissonInput"):
        parts.append(re.sub(r"binomial_?\d*", "binomial", one.abstract_code))  # Brian2 counts these functions
    function = getattr(getattr(one, "function", None), "__code__", None)
    parts += [function.co_code.hex(), repr(function.co_consts)] if function is not None else []
    return " ".join(parts)
