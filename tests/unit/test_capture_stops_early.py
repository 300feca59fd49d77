"""A capture leaves the pass once all it asks for has been read, and only where that is safe."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError
from tests.conformance.architectures import ARCHITECTURES
from tests.conformance.test_hooks_left_behind import assert_unchanged, snapshot


def ran(module, paths, call):
    """Return which of these submodules ran."""
    seen: list[str] = []
    handles = [
        module.get_submodule(path).register_forward_pre_hook(lambda *_, path=path: seen.append(path)) for path in paths
    ]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return seen


@pytest.mark.parametrize("name", ["GPT2", "Llama", "BERT", "T5"])
def test_later_blocks_do_not_run_and_the_numbers_are_those_of_a_whole_run(name):
    module, inputs = ARCHITECTURES[name].build()
    model = nm.adapt(module)
    prefix = "encoder." if name == "T5" else ""
    sites = [f"{prefix}blocks.0.resid_post", f"{prefix}blocks.0.z"]
    model.sites()  # proves them
    blocks = [site.native.partition(":")[0] for site in model.sites(f"{prefix}blocks.*.resid_pre").values()]
    before = snapshot(module)
    assert ran(module, blocks, lambda: model.capture(inputs, sites)) == blocks[:1]
    assert_unchanged(before, module)
    found, whole = model.capture(inputs, sites), model.run(inputs, capture=sites).activations
    for site in sites:
        assert torch.equal(found[site], whole[site])
    assert model.run(inputs).output is not None


def test_a_module_that_runs_twice_is_still_asked_about():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.last = nn.Linear(2, 2), nn.Linear(2, 1)

        def forward(self, x):
            return self.last(self.inner(self.inner(x)))

    model = nm.adapt(Twice())
    with pytest.raises(InputError, match="runs 2 times"):
        model.capture(torch.ones(3, 2), "inner")
    assert ran(model.module, ["last"], lambda: model.capture(torch.ones(3, 2), "inner#0")) == ["last"]


def test_a_dictionary_is_read_before_the_pass_is_left():
    from tests.truth.spliced_dictionaries import spliced

    _, model, dictionary, inputs, site = spliced("GPT2", "blocks.0.resid_post")
    found = model.capture(inputs, [f"{site}.sae.features", f"{site}.sae.error"])
    host = model.capture(inputs, site)[site]
    torch.testing.assert_close(found[f"{site}.sae.features"], dictionary.encode(host).detach())
    rebuilt = dictionary.decode(dictionary.encode(host)).detach()
    torch.testing.assert_close(found[f"{site}.sae.error"], host - rebuilt)
