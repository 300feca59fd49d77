"""One tiny model of every kind that `nm.adapt` takes, with inputs: for the conformance tests and the support matrix."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import neuros_mechint as nm
from tests.conformance.architectures import ARCHITECTURES

PLUG_IN = Path(__file__).parents[2] / "adapters" / "example_plugin"
SAMPLES, TIMES, FEATURES = 3, 5, 4


@dataclass(frozen=True)
class Case:
    """A kind of model: `build` returns the model and its inputs.

    `dead_ends` are sites from which nothing reaches the output.
    """

    name: str
    build: Callable[[], tuple[Any, Any]]
    needs_example: bool = False
    dead_ends: tuple[str, ...] = ()

    def make(self) -> tuple[Any, Any, Any]:
        """Return the adapter, the model and its inputs."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, inputs = self.build()
        options = {"example": inputs} if self.needs_example else {}
        return nm.adapt(model, **options), model, inputs


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def token_ids(vocabulary: int = 50, positions: int = 7) -> torch.Tensor:
    return torch.randint(3, vocabulary, (SAMPLES, positions), generator=torch.Generator().manual_seed(1))


def mlp() -> tuple[nn.Module, Any]:
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 2)), noise(
        SAMPLES, FEATURES
    )


def cnn() -> tuple[nn.Module, Any]:
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 3, 3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(12, 2),
    )
    return net.train(), noise(
        SAMPLES, 2, 6, 6
    )  # in train mode: adapters must run it in eval mode and leave it in train


def architecture(name: str, **more: torch.Tensor) -> Callable[[], tuple[nn.Module, Any]]:
    def build() -> tuple[nn.Module, Any]:
        model, inputs = ARCHITECTURES[name].build()
        return model, {**inputs, **more}

    return build


def hooked_transformer() -> tuple[Any, Any]:
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    config = HookedTransformerConfig(
        n_layers=2,
        d_model=16,
        n_ctx=64,
        d_head=4,
        n_heads=4,
        d_vocab=50,
        act_fn="gelu",
        normalization_type="LN",
        seed=0,
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return HookedTransformer(config), token_ids()


def transformer_bridge() -> tuple[Any, Any]:
    from transformer_lens.model_bridge.sources import build_bridge_config_from_hf, build_bridge_from_module
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=4, n_positions=32)).eval()
    config = build_bridge_config_from_hf(model.config, "GPT2LMHeadModel", "tiny", torch.float32)
    return build_bridge_from_module(
        model, architecture="GPT2LMHeadModel", tl_config=config, tokenizer=None
    ), token_ids()


def nnsight_module() -> tuple[Any, Any]:
    from nnsight import NNsight

    module, inputs = mlp()
    return NNsight(module), inputs


def nnsight_transformers() -> tuple[Any, Any]:
    from nnsight import TransformersModel
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    model, inputs = ARCHITECTURES["GPT2"].build()
    words = Tokenizer(WordLevel({"[PAD]": 0, "a": 1}, unk_token="[PAD]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[PAD]")
    return TransformersModel(model, tokenizer=tokenizer, task="text-generation"), inputs


def recurrent(kind: type[nn.RNNBase], n_layers: int, batch_first: bool) -> Callable[[], tuple[nn.Module, Any]]:
    def build() -> tuple[nn.Module, Any]:
        shape = (SAMPLES, TIMES) if batch_first else (TIMES, SAMPLES)
        return kind(FEATURES, 6, num_layers=n_layers, batch_first=batch_first), noise(*shape, FEATURES)

    return build


def cell(kind: type[nn.RNNCellBase]) -> Callable[[], tuple[nn.Module, Any]]:
    return lambda: (kind(FEATURES, 6), noise(SAMPLES, TIMES, FEATURES))


class LoopOverCell(nn.Module):
    """A recurrent network as researchers write it: a cell in a Python loop, and a readout of its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.readout = nn.GRUCell(FEATURES, 6), nn.Linear(6, 2)

    def forward(self, inputs):
        state = None
        for now in inputs.unbind(1):
            state = self.cell(now, state)
        return self.readout(state)


class RNNWithReadout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.readout = nn.RNN(FEATURES, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, inputs):
        states, _ = self.rnn(inputs)
        return {"outputs": self.readout(states), "states": states}


def recording() -> tuple[Any, Any]:
    counts = np.random.default_rng(0).poisson(3.0, (SAMPLES, TIMES, 6)).astype(np.float64)
    regions = ["V1", "V1", "V1", "V4", "V4", "IT"]
    return nm.Recording(counts, dims=("sample", "time", "unit"), region=regions), None


def brian2_rates() -> tuple[Any, Any]:
    """Rate units with recurrent weights: every site of theirs takes any number, as the kit's edits do."""
    import brian2

    cells = brian2.NeuronGroup(
        FEATURES,
        """dr/dt = (tanh(drive + recurrent) - r) / (0.2*ms) : 1
        drive : 1
        recurrent : 1
        gain : 1 (constant)""",
        method="euler",
        name="cells",
    )
    wiring = brian2.Synapses(cells, cells, "w : 1\nrecurrent_post = w * gain_pre * r_pre : 1 (summed)", name="wiring")
    target = brian2.prefs.codegen.target
    brian2.prefs.codegen.target = "numpy"  # or connecting compiles for half a minute
    wiring.connect(i=[0, 1, 2, 3, 0], j=[1, 2, 3, 0, 2])
    brian2.prefs.codegen.target = target
    wiring.w, cells.gain = noise(5).numpy(), noise(FEATURES).numpy()
    return nm.adapt(brian2.Network(cells, wiring), input="cells.drive"), noise(SAMPLES, TIMES, FEATURES).double()


def brian2_spikes() -> tuple[Any, Any]:
    """Noisy integrate-and-fire cells: sites of numbers, and spikes, which are there or not."""
    import brian2

    cells = brian2.NeuronGroup(
        FEATURES,
        "dv/dt = (drive - v) / (0.3*ms) + 0.2*xi*ms**-0.5 : 1 (unless refractory)\ndrive : 1",
        threshold="v > 0.5",
        reset="v = 0",
        refractory=0.2 * brian2.ms,
        method="euler",
        name="cells",
    )
    synapses = brian2.Synapses(cells, cells, "w : 1", on_pre="v_post += w", name="synapses")
    target = brian2.prefs.codegen.target
    brian2.prefs.codegen.target = "numpy"  # or connecting compiles for half a minute
    synapses.connect(i=[0, 1, 2, 3, 0], j=[1, 2, 3, 0, 2])
    brian2.prefs.codegen.target = target
    synapses.w = 0.6
    return nm.adapt(brian2.Network(cells, synapses), input="cells.drive"), 1 + noise(SAMPLES, TIMES, FEATURES)


def spiking() -> tuple[nn.Module, Any]:
    """Layers that act at once and later, in double precision, with graded spikes: their gradients are derivatives."""
    network = nm.SpikingNeuralNetwork(
        [FEATURES, 5, 3],
        synapse=nm.CurrentSynapse(3.0),
        recurrent=[True, False],
        delay=[0.0, 1.0],
        surrogate=nm.Arctan(graded=True),
        scale=3.0,
    )
    return network.double(), (noise(SAMPLES, TIMES, FEATURES) > 0).double()


def plug_in() -> tuple[Any, Any]:
    if find_spec("wilson_cowan") is None:  # not installed: then without its entry point, too
        sys.path.append(str(PLUG_IN))
    from wilson_cowan.adapter import WilsonCowanAdapter
    from wilson_cowan.network import WilsonCowanNetwork

    return WilsonCowanAdapter(WilsonCowanNetwork()), noise(SAMPLES, TIMES, 2).numpy()


_PADDING = torch.tensor([[1] * 7, [1] * 5 + [0] * 2, [1] * 6 + [0]])

_ALL = [
    Case("MLP", mlp),
    Case("CNN", cnn),
    Case("transformer in plain torch", architecture("nanoGPT-open"), needs_example=True),
    Case("HuggingFace GPT-2", architecture("GPT2")),
    Case("HuggingFace Llama", architecture("Llama")),
    Case("HuggingFace BERT", architecture("BERT", attention_mask=_PADDING)),
    Case("HuggingFace T5", architecture("T5")),
    Case("HuggingFace ViT", architecture("ViT")),
    Case("TransformerLens HookedTransformer", hooked_transformer),
    Case("TransformerLens TransformerBridge", transformer_bridge),
    Case("nnsight NNsight", nnsight_module),
    Case("nnsight TransformersModel", nnsight_transformers),
    Case("RNN", recurrent(nn.RNN, 1, batch_first=True)),
    Case("GRU, 2 layers", recurrent(nn.GRU, 2, batch_first=True)),
    Case("LSTM", recurrent(nn.LSTM, 1, batch_first=True)),
    Case("LSTM, 2 layers, time first", recurrent(nn.LSTM, 2, batch_first=False)),
    Case("RNNCell", cell(nn.RNNCell)),
    Case("GRUCell", cell(nn.GRUCell)),
    Case("LSTMCell", cell(nn.LSTMCell)),
    Case("GRUCell in a loop", lambda: (LoopOverCell(), noise(SAMPLES, TIMES, FEATURES))),
    Case("RNN with readout", lambda: (RNNWithReadout(), noise(SAMPLES, TIMES, FEATURES))),
    Case("Brian2 network", brian2_rates),
    Case("Brian2 network that spikes", brian2_spikes),
    Case("SpikingNeuralNetwork", spiking),
    Case("Recording", recording),
    Case("plug-in (numpy)", plug_in),
]

CASES = {case.name: case for case in _ALL}
