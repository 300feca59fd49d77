"""What neuros-mechint finds through the entry point. It is read on every start, so it imports as little as it can."""

from __future__ import annotations

from typing import Any

from neuros_mechint.adapters.registry import AdapterEntry


def _recognises(obj: Any) -> bool:
    return type(obj).__module__ == "wilson_cowan.network" and type(obj).__name__ == "WilsonCowanNetwork"


def _load() -> Any:
    from wilson_cowan.adapter import WilsonCowanAdapter

    return WilsonCowanAdapter


ENTRY = AdapterEntry("wilson_cowan", _recognises, _load, "a WilsonCowanNetwork (example plug-in)")
