"""Whatever happens in a run, the caller's model and torch itself are afterwards exactly as they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import neuros_mechint as nm
from neuros_mechint.adapters.conformance.probe import tensors_in
from neuros_mechint.core.errors import CapabilityError, InputError, SiteError
from tests.conformance.cases import CASES, FEATURES, SAMPLES, TIMES, noise

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_hooks",
    "_backward_pre_hooks",
)


class PlantedError(Exception):
    """Raised on purpose inside a model or an edit."""


def boom(*_: Any) -> None:
    raise PlantedError


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything about a model, and about torch, that a run could leave changed."""
    state: dict[str, Any] = {f"value of {name}": tensor.clone() for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        state[f"gradient of {name}"] = None if parameter.grad is None else parameter.grad.clone()
        state[f"requires_grad of {name}"] = parameter.requires_grad
        state[f"identity of {name}"] = id(parameter)
    for path, module in model.named_modules():
        state[f"training of {path!r}"] = module.training
        state[f"own attributes of {path!r}"] = frozenset(module.__dict__)
        for hooks in HOOKS:
            state[f"{hooks} of {path!r}"] = tuple(getattr(module, hooks))
    state["attention implementation"] = getattr(getattr(model, "config", None), "_attn_implementation", None)
    state["torch random state"] = torch.get_rng_state()
    state["gradients on"] = torch.is_grad_enabled()
    state["function modes"] = torch._C._len_torch_function_stack()
    return state


def assert_unchanged(before: dict[str, Any], model: nn.Module) -> None:
    after = snapshot(model)
    assert before.keys() == after.keys()
    for what, value in before.items():
        same = torch.equal(value, after[what]) if isinstance(value, torch.Tensor) else value == after[what]
        assert same, f"{what} changed"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda model: model[0].register_forward_hook(boom), "_forward_hooks"),
        (lambda model: model[1].__dict__.update(forward=boom), "own attributes"),
        (lambda model: model[2].train(False), "training"),
        (lambda model: model[1].running_mean.add_(1), "value of 1.running_mean"),
        (lambda model: setattr(model[0].weight, "grad", torch.ones_like(model[0].weight)), "gradient"),
        (lambda model: model[0].bias.requires_grad_(False), "requires_grad"),
        (lambda _: torch.randn(1), "random state"),
    ],
)
def test_the_comparison_sees_every_kind_of_change(change, what):
    _, model, _ = CASES["CNN"].make()
    before = snapshot(model)
    change(model)
    with pytest.raises(AssertionError, match=what):
        assert_unchanged(before, model)


def prepared(name: str) -> tuple[Any, nn.Module, Any]:
    """A model as a caller may have it: in train mode, with gradients, a frozen parameter, and a hook of its own."""
    adapter, model, inputs = CASES[name].make()
    adapter.capture(inputs, "*")  # libraries set some attributes lazily in the very first pass
    model.train()
    parameters = list(model.parameters())
    for parameter in parameters[::2]:
        parameter.grad = torch.ones_like(parameter)
    parameters[-1].requires_grad_(False)
    next(m for path, m in model.named_modules() if path or not list(model.children())).register_forward_hook(
        lambda *_: None
    )
    return adapter, model, inputs


def logits_of(output: Any) -> torch.Tensor:
    return next(tensor for _, tensor in tensors_in(output, detach=False) if tensor.is_floating_point())


MODELS = [
    "MLP",
    "CNN",
    "transformer in plain torch",
    "HuggingFace GPT-2",
    "HuggingFace BERT",
    "TransformerLens HookedTransformer",
    "LSTM, 2 layers, time first",
    "GRUCell in a loop",
    "RNN with readout",
]


@pytest.fixture(scope="module", params=MODELS)
def caller(request):
    return prepared(request.param)


def test_what_succeeds_leaves_the_model_as_it_was(caller):
    adapter, model, inputs = caller
    sites = list(adapter.sites())
    given_inputs = [tensor.clone() for _, tensor in tensors_in(inputs)]
    before = snapshot(model)
    adapter.capture(inputs, "*", batch_size=2)
    adapter.run(inputs, edits=[nm.Zero(sites[0]), nm.Scale(sites[-1], 2.0)], capture=sites[-1])
    adapter.gradients(inputs, sites[0], lambda output: logits_of(output).sum())
    assert_unchanged(before, model)
    assert all(torch.equal(a, b) for a, (_, b) in zip(given_inputs, tensors_in(inputs), strict=True))


def test_what_raises_leaves_the_model_as_it_was(caller):
    adapter, model, inputs = caller
    site = list(adapter.sites())[-1]
    before = snapshot(model)
    for call, error in [
        (lambda: adapter.run(inputs, edits=nm.Apply(site, boom), capture="*"), PlantedError),
        (lambda: adapter.run(inputs, edits=nm.Replace(site, torch.zeros(11, 13))), InputError),
        (lambda: adapter.run(inputs, edits=nm.Zero(f"{site}[nowhere=1]")), SiteError),
        (lambda: adapter.capture(inputs, "no.such.site"), SiteError),
        (lambda: adapter.gradients(inputs, site, boom), PlantedError),
        (lambda: adapter.gradients(inputs, site, lambda output: logits_of(output).detach().sum()), InputError),
    ]:
        with pytest.raises(error):
            call()
        assert_unchanged(before, model)


def test_a_forward_that_raises_midway_leaves_the_model_as_it_was(caller):
    adapter, model, inputs = caller
    site = next(iter(adapter.sites()))
    last = [module for module in model.modules() if not list(module.children())][-1]
    handle = last.register_forward_hook(boom)  # of the caller's own: it must survive, and keep raising
    try:
        before = snapshot(model)
        for call in (
            lambda: adapter.run(inputs, capture=site),  # `capture` leaves the pass before it comes there
            lambda: adapter.run(inputs, edits=nm.Zero(site), capture=site),
            lambda: adapter.gradients(inputs, site, lambda output: logits_of(output).sum()),
        ):
            with pytest.raises(PlantedError):
                call()
            assert_unchanged(before, model)
    finally:
        handle.remove()


def test_train_mode_with_dropout_and_batch_norm_gives_the_results_of_eval_mode():
    adapter, model, inputs = CASES["CNN"].make()
    assert model.training
    trained = adapter.run(inputs, capture="*")
    model.eval()
    evaluated = adapter.run(inputs, capture="*")
    assert torch.equal(trained.output, evaluated.output)
    assert torch.equal(trained.output, model(inputs))
    assert all(torch.equal(trained.activations[site], evaluated.activations[site]) for site in evaluated.activations)


@pytest.mark.parametrize(
    "name",
    ["HuggingFace GPT-2", "HuggingFace T5", "TransformerLens HookedTransformer", "TransformerLens TransformerBridge"],
)
def test_generation_leaves_the_model_as_it_was(name):
    adapter, model, inputs = prepared(name)
    adapter.generate(inputs, max_new_tokens=1)
    site = next(site for site in adapter.sites() if site.endswith("blocks.0.v"))
    before = snapshot(model)
    adapter.generate(inputs, edits=nm.Scale(site, 2.0), max_new_tokens=2, do_sample=True)
    with pytest.raises(PlantedError):
        adapter.generate(inputs, edits=nm.Apply(site, boom), max_new_tokens=2)
    assert_unchanged(before, model)


def test_inference_and_gradient_modes_of_the_caller_are_respected():
    adapter, _, inputs = CASES["MLP"].make()
    expected = adapter.gradients(inputs, "1", lambda output: output.sum(1))["1"]
    with torch.no_grad():
        assert torch.equal(adapter.gradients(inputs, "1", lambda output: output.sum(1))["1"], expected)
        assert not torch.is_grad_enabled()
    assert not adapter.run(inputs).output.requires_grad
    with torch.inference_mode():
        for given_inputs in (inputs, inputs.clone()):
            assert torch.equal(adapter.gradients(given_inputs, "1", lambda output: output.sum(1))["1"], expected)


def test_what_a_model_cannot_do_leaves_it_as_it_was():
    adapter, model, inputs = CASES["MLP"].make()
    before = snapshot(model)
    with pytest.raises(CapabilityError):
        adapter.generate(inputs)
    assert_unchanged(before, model)


# -- any site, any edit, any point of failure ------------------------------------------------------------------------


class Fuse(nn.Module):
    """Passes its input on, and raises at the call it is set to."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.blows_at = 0, -1

    def forward(self, x):
        self.calls += 1
        if self.calls == self.blows_at:
            raise PlantedError
        return x


class Fragile(nn.Module):
    """A bit of everything: batch norm, dropout, in-place operations, recurrent parts, and fuses between them."""

    def __init__(self) -> None:
        super().__init__()
        self.fuse = Fuse()
        self.encoder = nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.norm = nn.BatchNorm1d(6)
        self.memory = nn.LSTM(6, 5, batch_first=True)
        self.cell = nn.GRUCell(5, 5)
        self.readout = nn.Linear(5, 2)

    def forward(self, x):
        x = self.fuse(self.encoder(x))
        x = self.fuse(self.norm(x.transpose(1, 2)).transpose(1, 2))
        x, _ = self.memory(x)
        state = torch.zeros(x.shape[0], 5)
        for now in self.fuse(x).unbind(1):
            state = self.fuse(self.cell(now, state))
        return {"output": self.readout(state), "state": state}


torch_state = torch.get_rng_state()
torch.manual_seed(0)
FRAGILE = Fragile().train()
torch.set_rng_state(torch_state)
FRAGILE_ADAPTER = nm.adapt(FRAGILE)
INPUTS = noise(SAMPLES, TIMES, FEATURES)
UNTOUCHED = FRAGILE_ADAPTER.run(INPUTS).output
FUSES = 3 + TIMES

sites = st.sampled_from(
    [
        "memory.hidden",
        "memory.cell",
        "cell.hidden",
        "encoder",
        "encoder.0",
        "norm",
        "norm:in",
        "readout:in",
        "memory",
        "cell#2",
    ]
)
indices = st.sampled_from(["", "[sample=-1]", "[sample=0:2]", "[sample=9]"])
edits = st.builds(
    lambda site, index, make: make(site + index),
    sites,
    indices,
    st.sampled_from(
        [
            nm.Zero,
            lambda site: nm.Scale(site, 3.0),
            lambda site: nm.Add(site, 0.5),
            lambda site: nm.Clamp(site, maximum=0.1),
            lambda site: nm.Replace(site, torch.ones(7, 7, 7)),
            lambda site: nm.Apply(site, torch.tanh),
            lambda site: nm.Apply(site, boom),
        ]
    ),
)


@settings(max_examples=60)
@given(
    edits=st.lists(edits, max_size=3),
    capture=st.lists(sites, min_size=1, max_size=3),
    blows_at=st.integers(-1, 2 * FUSES),
    batch_size=st.sampled_from([None, 1, 2]),
    gradient=st.booleans(),
)
def test_any_run_leaves_the_model_as_it_was(edits, capture, blows_at, batch_size, gradient):
    before = snapshot(FRAGILE)
    FRAGILE.fuse.calls, FRAGILE.fuse.blows_at = 0, blows_at
    try:
        FRAGILE_ADAPTER.run(INPUTS, edits, capture, batch_size)
        if gradient:
            FRAGILE_ADAPTER.gradients(INPUTS, capture, lambda output: output["output"].sum(1), batch_size)
    except (PlantedError, InputError, SiteError):
        pass
    finally:
        FRAGILE.fuse.blows_at = -1
    assert_unchanged(before, FRAGILE)
    after = FRAGILE_ADAPTER.run(INPUTS).output
    assert all(torch.equal(after[key], UNTOUCHED[key]) for key in UNTOUCHED)
