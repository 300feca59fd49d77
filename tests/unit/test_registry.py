from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.adapters import registry
from neuros_mechint.adapters.recurrent import RecurrentAdapter
from neuros_mechint.adapters.registry import AdapterEntry, adapt, adapter_entries
from neuros_mechint.adapters.torch_module import TorchAdapter
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.errors import InputError, OptionError, UnknownModelError


class Gadget:
    """A kind of model only a plug-in knows."""


class Point:
    def __init__(self, loaded):
        self.loaded = loaded

        self.value = "gadgets:entry"

    def load(self):
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


@pytest.fixture
def installed(monkeypatch):
    """Pretend that a package with these entry points is installed."""

    def install(*loaded):
        monkeypatch.setattr(
            registry,
            "entry_points",
            lambda group: [Point(one) for one in loaded] if group == "neuros_mechint.adapters" else [],
        )
        registry._plug_ins.cache_clear()

    yield install
    registry._plug_ins.cache_clear()


def test_the_general_kinds_come_last():
    names = [entry.name for entry in adapter_entries()]
    assert names[-1] == "torch"
    assert names.index("recurrent") < names.index("torch")
    assert {"recording", "nnsight", "transformer_lens", "huggingface"} < set(names)


@pytest.mark.parametrize(
    ("model", "adapter"),
    [
        (nn.Linear(2, 2), TorchAdapter),
        (nn.GRU(2, 2), RecurrentAdapter),
        (nn.Sequential(nn.LSTMCell(2, 2)), RecurrentAdapter),
    ],
)
def test_the_most_special_adapter_is_taken(model, adapter):
    assert type(adapt(model)) is adapter


@pytest.mark.parametrize("model", [3, "gpt2", None, [nn.Linear(1, 1)], nn.Linear, torch.zeros(3)])
def test_an_unknown_kind_says_what_is_known(model):
    with pytest.raises(UnknownModelError, match=r"any torch\.nn\.Module"):
        adapt(model)


def test_a_name_is_not_a_model():
    with pytest.raises(UnknownModelError, match="load the model"):
        adapt("gpt2")


def test_an_option_the_adapter_lacks_is_refused():
    with pytest.raises(OptionError, match="did you mean 'example'"):
        adapt(nn.Linear(2, 2), exampel=torch.zeros(1, 2))
    with pytest.raises(OptionError, match="tokenizer"):
        adapt(nn.GRU(2, 2), tokenizer=str.split)


def test_a_plug_in_is_found_and_comes_first(installed):
    made = []

    class GadgetAdapter(TorchAdapter):
        def __init__(self, gadget):
            made.append(gadget)
            super().__init__(nn.Linear(1, 1))

    installed(
        AdapterEntry("gadget", lambda obj: isinstance(obj, (Gadget, nn.Linear)), lambda: GadgetAdapter, "a Gadget")
    )
    gadget = Gadget()
    assert isinstance(adapt(gadget), GadgetAdapter)
    assert made == [gadget]
    assert isinstance(adapt(nn.Linear(2, 2)), GadgetAdapter)
    assert adapter_entries()[0].describes == "a Gadget"


def test_a_plug_in_that_registers_something_else_is_named(installed):
    installed(object())
    with pytest.raises(InputError, match="no AdapterEntry"):
        adapt(nn.Linear(1, 1))


def test_a_plug_in_that_cannot_be_loaded_is_named_and_bars_no_other_model(installed):
    installed(ImportError("no gadgets"))
    with pytest.warns(UserWarning, match=r"gadgets:entry cannot be loaded.*no gadgets"):
        assert isinstance(adapt(nn.Linear(1, 1)), TorchAdapter)
    adapt(nn.Linear(1, 1))  # said once


def test_an_adapter_satisfies_the_protocol_and_comes_back():
    adapter = nm.adapt(nn.Linear(2, 2))
    assert isinstance(adapter, Adapter)
    assert nm.adapt(adapter) is adapter


def test_telling_kinds_apart_imports_no_model_library():
    code = (
        "import sys, torch, neuros_mechint as nm\n"
        "nm.adapt(torch.nn.GRU(2, 2)); nm.adapt(torch.nn.Linear(2, 2))\n"
        "print([m for m in ('transformers', 'transformer_lens', 'nnsight', 'sae_lens', 'brian2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
