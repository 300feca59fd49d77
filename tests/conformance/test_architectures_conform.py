"""Every architecture whose sites are inferred passes the same kit as every adapter."""

from __future__ import annotations

import pytest

import neuros_mechint as nm
from neuros_mechint.adapters.conformance import check_adapter
from tests.conformance.architectures import ARCHITECTURES
from tests.slow import slow_case

# one of each way to build a block; the others are like one of these, or a case of the tests of adapters
DEFAULT = ("Mixtral", "Gemma3", "GPTNeoX", "Falcon-40b", "OPT", "BLOOM", "Mamba", "ALBERT", "CLIP-vision", "Whisper")


def use_every_expert(module):
    """Take the choice of experts out: where it changes the output jumps, and has no derivative to check."""
    for part in module.modules():
        if hasattr(part, "top_k"):
            part.top_k = module.config.num_local_experts


@pytest.mark.parametrize("name", [name if name in DEFAULT else slow_case(name) for name in ARCHITECTURES])
def test_every_architecture_conforms(name):
    module, inputs = ARCHITECTURES[name].build()
    if name == "Mixtral":
        use_every_expert(module)
    check_adapter(nm.adapt(module), inputs).assert_passed()
