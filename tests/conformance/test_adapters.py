"""Every adapter against the conformance kit, and torch adapters against the same models run by hand."""

from __future__ import annotations

import copy
import re
from collections import namedtuple

import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.adapters.conformance import check_adapter
from neuros_mechint.core.errors import InputError, SiteError
from tests.conformance import by_hand
from tests.conformance.cases import CASES, FEATURES, SAMPLES, TIMES, noise

Pair = namedtuple("Pair", ["first", "second"])


def oracle_for(name, model, inputs):
    if name in ("MLP", "CNN"):
        return by_hand.module_oracle(model, inputs, by_hand.own_paths(model))
    if name == "HuggingFace GPT-2":
        return by_hand.module_oracle(model, inputs, by_hand.gpt2_places())
    if name == "HuggingFace Llama":
        return by_hand.module_oracle(model, inputs, by_hand.llama_places())
    if isinstance(model, nn.RNNBase):
        last = "hidden" if model.num_layers == 1 else f"layers.{model.num_layers - 1}.hidden"
        rows = inputs if model.batch_first else inputs.transpose(0, 1)
        return by_hand.recurrent_oracle(
            model, rows, lambda states: (states[last] if model.batch_first else states[last].transpose(0, 1),)
        )
    if isinstance(model, nn.RNNCellBase):
        return by_hand.recurrent_oracle(model, inputs, lambda states: states["hidden"])
    if name == "Brian2 network":
        return by_hand.brian2_oracle(model.network, inputs)
    if name == "GRUCell in a loop":
        return by_hand.recurrent_oracle(
            model.cell, inputs, lambda states: model.readout(states["hidden"][:, -1]).detach()
        )
    return None


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_model_conforms(name):
    adapter, model, inputs = CASES[name].make()
    oracle = oracle_for(name, model, inputs)
    report = check_adapter(adapter, inputs, oracle)
    report.assert_passed()
    outcomes = {outcome.check: outcome for outcome in report.outcomes}
    assert bool(outcomes["agrees with a run by hand"].passed) == (oracle is not None)
    if "intervene" in adapter.capabilities:
        arrived = outcomes["edits arrive"].detail
        moved, edited = map(int, re.findall(r"\d+", arrived)[:2])
        assert moved == edited, arrived


def test_an_adapter_given_to_adapt_comes_back_as_it_is():
    adapter, *_ = CASES["MLP"].make()
    assert nm.adapt(adapter) is adapter


# -- the kit itself finds what is wrong ------------------------------------------------------------------------------


def broken(**methods):
    """An adapter of the MLP with some methods replaced by faulty ones."""
    from neuros_mechint.adapters.torch_module import TorchAdapter

    model, inputs = CASES["MLP"].build()
    return type("Broken", (TorchAdapter,), methods)(model), inputs


def _ignore_edits(self, batch, edits, capture):
    return super(type(self), self)._execute(batch, {}, capture)


def _edit_only_what_is_captured(self, batch, edits, capture):
    output, tensors, dims = super(type(self), self)._execute(batch, {}, capture)
    for name, functions in edits.items():
        for edit in functions:
            if name in tensors:
                tensors = {**tensors, name: edit(tensors[name], dims[name], batch.window)}
    return output, tensors, dims


def _forget_the_window(self, batch, edits, capture):
    from dataclasses import replace

    return super(type(self), self)._execute(replace(batch, start=0, total=batch.n_samples), edits, capture)


def _wrong_gradient(self, batch, edits, sites, metric):
    tensors, dims = super(type(self), self)._differentiate(batch, edits, sites, metric)
    return {name: 1.1 * tensor for name, tensor in tensors.items()}, dims


def _new_fingerprint(self):
    self.count = getattr(self, "count", 0) + 1
    return str(self.count)


def _random_state(self, batch):
    torch.randn(1)
    return self.module(*batch.args)


def _swallow(self, batch, edits, capture):
    try:
        return super(type(self), self)._execute(batch, edits, capture)
    except Exception:
        return super(type(self), self)._execute(batch, {}, capture)


@pytest.mark.parametrize(
    ("methods", "check"),
    [
        ({"_execute": _ignore_edits}, "edits arrive"),
        ({"_execute": _edit_only_what_is_captured}, "edits arrive"),
        ({"_execute": _forget_the_window}, "edits do not depend on batch size"),
        ({"_execute": _swallow}, "an edit that raises leaves nothing"),
        ({"_differentiate": _wrong_gradient}, "gradients are derivatives"),
        ({"fingerprint": _new_fingerprint}, "fingerprint is stable"),
        ({"_call": _random_state}, "leaves no trace"),
        ({"capabilities": frozenset({"capture", "telepathy"})}, "satisfies the protocol"),
        (
            {"capabilities": frozenset({"capture"}), "_require": lambda self, capability: None},
            "refuses what it cannot do",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_kit_catches_a_broken_adapter(methods, check):
    adapter, inputs = broken(**methods)
    report = check_adapter(adapter, inputs)
    assert check in [outcome.check for outcome in report.failures], report
    assert not report.passed
    with pytest.raises(AssertionError, match="FAILED"):
        report.assert_passed()


def test_a_wrong_oracle_is_a_failure():
    adapter, model, inputs = CASES["MLP"].make()
    shifted = by_hand.module_oracle(model, inputs + 1, by_hand.own_paths(model))
    failures = check_adapter(adapter, inputs, shifted).failures
    assert [outcome.check for outcome in failures] == ["agrees with a run by hand"]


def test_the_report_is_a_table():
    adapter, _, inputs = CASES["Recording"].make()
    report = check_adapter(adapter, inputs)
    assert len(report.to_dataframe()) == len(report.outcomes)
    assert "checks passed" in repr(report)
    assert "<table>" in report._repr_html_()


# -- gradients -------------------------------------------------------------------------------------------------------


def first_tensor(output):
    if isinstance(output, torch.Tensor):
        return output
    return output["logits"] if "logits" in output else output[0]


def metric(output):
    return (first_tensor(output) ** 2).flatten(1).sum(1)


@pytest.mark.parametrize("name", ["MLP", "CNN", "HuggingFace GPT-2", "HuggingFace Llama"])
def test_gradients_equal_retain_grad(name):
    adapter, model, inputs = CASES[name].make()
    places = {"HuggingFace GPT-2": by_hand.gpt2_places, "HuggingFace Llama": by_hand.llama_places}
    chosen = places[name]() if name in places else by_hand.own_paths(model)
    got = adapter.gradients(inputs, list(chosen), metric, batch_size=2)
    for site, place in chosen.items():
        value, output = by_hand.edited(model, inputs, place, None)
        metric(output).sum().backward()
        torch.testing.assert_close(got[site], value.grad, rtol=1e-4, atol=1e-6, msg=lambda m, site=site: f"{site}: {m}")


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_gradients_equal_autograd_through_the_equations(kind):
    torch.manual_seed(0)
    part = kind(FEATURES, 6, batch_first=True)
    inputs = noise(SAMPLES, TIMES, FEATURES)
    kept = []

    def keep(whole):
        kept.append(torch.zeros_like(whole).requires_grad_())
        return whole + kept[-1]

    states = by_hand.recurrent_states(part, inputs, "hidden", keep)
    (states["hidden"] ** 2).sum().backward()
    expected = torch.stack([delta.grad[:, time] for time, delta in enumerate(kept)], dim=1)
    got = nm.adapt(part).gradients(inputs, "hidden", lambda output: (output[0] ** 2).sum((1, 2)))
    torch.testing.assert_close(got["hidden"], expected, rtol=1e-4, atol=1e-6)


def test_frozen_parameters_still_give_gradients():
    adapter, model, inputs = CASES["MLP"].make()
    before = adapter.gradients(inputs, "1", metric)["1"]
    model.requires_grad_(False)
    torch.testing.assert_close(adapter.gradients(inputs, "1", metric)["1"], before)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    "bad", [lambda output: output.detach().sum(1), lambda output: output.sum().item(), lambda output: output.sum(1) / 0]
)
def test_a_metric_without_a_gradient_is_refused(bad):
    adapter, _, inputs = CASES["MLP"].make()
    with pytest.raises(InputError, match="metric"):
        adapter.gradients(inputs, "1", bad)


# -- what modules take and return ------------------------------------------------------------------------------------


class Returns(nn.Module):
    """A part that returns what `shape` makes of two tensors, in a model that adds them up."""

    class Part(nn.Module):
        def __init__(self, shape):
            super().__init__()
            self.linear, self.shape = nn.Linear(FEATURES, 3), shape

        def forward(self, x):
            return self.shape(self.linear(x), 2 * self.linear(x))

    def __init__(self, shape, read):
        super().__init__()
        self.part, self.read = self.Part(shape), read

    def forward(self, x):
        return sum(self.read(self.part(x)))


SHAPES = {
    "tuple": (lambda a, b: (a, b), lambda out: out, "part[1]"),
    "list": (lambda a, b: [a, b], lambda out: out, "part[1]"),
    "dict": (lambda a, b: {"a": a, "b": b}, lambda out: out.values(), "part[b]"),
    "namedtuple": (Pair, lambda out: (out.first, out.second), "part[1]"),
    "nested": (lambda a, b: (a, {"deep": (b, None)}), lambda out: (out[0], out[1]["deep"][0]), None),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_structured_outputs_are_read_and_edited(kind):
    shape, read, second = SHAPES[kind]
    torch.manual_seed(0)
    model, x = Returns(shape, read), noise(SAMPLES, FEATURES)
    adapter, linear = nm.adapt(model), model.part.linear(x)
    torch.testing.assert_close(adapter.capture(x, "part")["part"], linear)
    torch.testing.assert_close(adapter.run(x, edits=nm.Zero("part")).output, 2 * linear)
    if second:
        torch.testing.assert_close(adapter.capture(x, second)[second], 2 * linear)
        torch.testing.assert_close(adapter.run(x, edits=nm.Zero(second)).output, linear)
    with pytest.raises(SiteError, match="no tensor"):
        adapter.capture(x, "part[nothing]" if kind == "dict" else "part[7]")


def test_arguments_are_sites_whether_positional_or_by_name():
    class Mixes(nn.Module):
        def forward(self, x, *, gain):
            return x * gain

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = Mixes()

        def forward(self, x, gain):
            return self.mix(x, gain=gain)

    adapter = nm.adapt(Outer())
    x, gain = noise(SAMPLES, FEATURES), noise(SAMPLES, FEATURES) + 3
    for inputs in ((x, gain), {"x": x, "gain": gain}):
        torch.testing.assert_close(adapter.capture(inputs, "mix:in[gain]", batch_size=2)["mix:in[gain]"], gain)
        torch.testing.assert_close(adapter.run(inputs, edits=nm.Replace("mix:in[gain]", 2.0)).output, 2 * x)
        torch.testing.assert_close(adapter.run(inputs, edits=nm.Zero("mix:in")).output, torch.zeros_like(x))


def test_in_place_operations_corrupt_neither_captures_nor_what_edits_hold_nor_inputs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Conv1d(2, 3, 1), nn.ReLU(inplace=True))
    adapter, x = nm.adapt(model), noise(SAMPLES, 2, 5)
    given = x.clone()
    captured = adapter.capture(x, ["0:in", "1"])
    assert torch.equal(x, given)
    assert (captured["0:in"] < 0).any()
    assert (captured["1"] < 0).any()
    held = -torch.ones(SAMPLES, 3, 5)
    output = adapter.run(x, edits=[nm.Replace("1", held), nm.Apply("1", lambda _: held)], capture="1")
    assert torch.equal(output.output, torch.zeros(SAMPLES, 3, 5))
    assert (held == -1).all()
    assert (output.activations["1"] == -1).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["MLP", "CNN", "GRU, 2 layers"])
def test_other_precisions_conform(name, dtype):
    model, inputs = CASES[name].build()
    model, inputs = model.to(dtype), inputs.to(dtype)
    adapter = nm.adapt(model)
    site = next(iter(adapter.sites()))
    value = adapter.capture(inputs, site)[site]
    assert value.dtype == dtype
    edited = adapter.run(inputs, edits=nm.Scale(site, 2.0), capture=site)
    first = edited.output[0] if isinstance(edited.output, tuple) else edited.output
    assert first.dtype == dtype
    reference = nm.adapt(copy.deepcopy(model).double()).run(inputs.double(), edits=nm.Scale(site, 2.0), capture=site)
    loose = {"rtol": 0.0, "atol": 8 * torch.finfo(dtype).eps * float(reference.activations[site].abs().max())}
    torch.testing.assert_close(edited.activations[site].double(), reference.activations[site], **loose)


# -- modules that run under several names, several times, or not at all ----------------------------------------------


class Repeats(nn.Module):
    """Runs one layer twice, knows it under a second name, and has a part it never runs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(FEATURES, FEATURES)
        self.tied = self.layer
        self.unused = nn.Linear(FEATURES, FEATURES)
        self.once = nn.Linear(FEATURES, FEATURES)
        self.once_too = self.once

    def forward(self, x):
        return self.once_too(torch.tanh(self.tied(torch.tanh(self.layer(x)))))


@pytest.fixture
def repeats():
    torch.manual_seed(0)
    model = Repeats()
    return model, nm.adapt(model), noise(SAMPLES, FEATURES)


@pytest.mark.parametrize("name", ["layer", "tied", "layer:in"])
def test_a_module_that_runs_twice_must_be_asked_for_by_call(repeats, name):
    _, adapter, x = repeats
    for attempt in (lambda: adapter.capture(x, name), lambda: adapter.run(x, edits=nm.Zero(name))):
        with pytest.raises(InputError, match="runs 2 times") as error:
            attempt()
        assert f"{name}#0" in str(error.value)


def test_each_call_is_a_site(repeats):
    model, adapter, x = repeats
    first = model.layer(x)
    second = model.layer(torch.tanh(first))
    captured = adapter.capture(x, ["layer#0", "tied#1", "layer#1"])
    torch.testing.assert_close(captured["layer#0"], first)
    torch.testing.assert_close(captured["tied#1"], second)
    torch.testing.assert_close(captured["layer#1"], second)
    torch.testing.assert_close(adapter.run(x, edits=nm.Zero("layer#1")).output, model.once(torch.zeros_like(x)))
    zeroed_first = model.once(torch.tanh(model.layer(torch.zeros_like(x))))
    torch.testing.assert_close(adapter.run(x, edits=nm.Zero("tied#0")).output, zeroed_first)
    with pytest.raises(SiteError, match="never reached"):
        adapter.capture(x, "layer#2")


def test_a_tied_module_is_one_place_under_both_names(repeats):
    model, adapter, x = repeats
    for name in ("once", "once_too"):
        torch.testing.assert_close(adapter.capture(x, name)[name], model(x))
        assert not adapter.run(x, edits=nm.Zero(name)).output.any()


def test_a_module_that_never_runs_is_refused(repeats):
    _, adapter, x = repeats
    for attempt in (
        lambda: adapter.capture(x, "unused"),
        lambda: adapter.run(x, edits=nm.Zero("unused")),
        lambda: adapter.gradients(x, "unused", metric),
    ):
        with pytest.raises(SiteError, match="never reached"):
            attempt()


# -- recurrent models ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_every_recurrent_layout_captures_the_states_of_its_equations(kind, n_layers, batch_first):
    torch.manual_seed(0)
    part, rows = kind(FEATURES, 6, num_layers=n_layers, batch_first=batch_first), noise(SAMPLES, TIMES, FEATURES)
    adapter, inputs = nm.adapt(part), rows if batch_first else rows.transpose(0, 1)
    expected = by_hand.recurrent_states(part, rows)
    captured = adapter.capture(inputs, "*")
    assert len(captured) == n_layers * (2 if kind is nn.LSTM else 1)
    for name, value in captured.items():
        torch.testing.assert_close(value, expected[name])
    name = f"layers.{n_layers - 1}.hidden" if n_layers > 1 else "hidden"
    run = adapter.run(inputs, edits=nm.Zero(f"{name}[time=2, unit=1:3]"), capture=name, batch_size=2)
    own_outputs, _ = part(inputs)
    own_outputs = own_outputs if batch_first else own_outputs.transpose(0, 1)
    torch.testing.assert_close(run.activations[name][:, :2], own_outputs[:, :2])
    assert not run.activations[name][:, 2, 1:3].any()
    assert not torch.allclose(run.activations[name][:, 3:], own_outputs[:, 3:])


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_bidirectional_states_are_withheld_with_the_reason(kind):
    adapter = nm.adapt(kind(FEATURES, 6, bidirectional=True, batch_first=True))
    with pytest.raises(SiteError, match="bidirectional"):
        adapter.capture(noise(SAMPLES, TIMES, FEATURES), "hidden")
    assert "step" not in adapter.capabilities


def test_an_edit_at_the_last_time_counts_from_the_end_in_a_loop():
    adapter, model, inputs = CASES["GRUCell in a loop"].make()
    output = adapter.run(inputs, edits=nm.Zero("hidden[time=-1]")).output
    torch.testing.assert_close(output, model.readout.bias.expand(SAMPLES, 2))


# -- generation ------------------------------------------------------------------------------------------------------

NEW_TOKENS = 5


def step_by_step(adapter, inputs, edits_at):
    """Generate without a cache: the whole sequence again for every token, under the edits for its length."""
    ids = inputs if isinstance(inputs, torch.Tensor) else inputs["input_ids"]
    for _ in range(NEW_TOKENS):
        given = ids if isinstance(inputs, torch.Tensor) else {"input_ids": ids}
        logits = first_tensor(adapter.run(given, edits=edits_at(ids.shape[1])).output)
        ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids


@pytest.fixture(
    scope="module",
    params=[
        "HuggingFace GPT-2",
        "HuggingFace Llama",
        "TransformerLens HookedTransformer",
        "TransformerLens TransformerBridge",
    ],
)
def generator(request):
    adapter, _, inputs = CASES[request.param].make()
    options = {"eos_token_id": None} if "HuggingFace" in request.param else {}
    return adapter, inputs, lambda edits: adapter.generate(inputs, edits=edits, max_new_tokens=NEW_TOKENS, **options)


def strong(adapter, inputs, site):
    value = adapter.capture(inputs, site)[site]
    direction = torch.randn(value.shape[-1], generator=torch.Generator().manual_seed(5))
    return 4 * value.std() * direction


@pytest.mark.parametrize(
    "site", ["embed", "blocks.0.v", "blocks.0.resid_mid", "blocks.1.attn_out", "blocks.1.resid_post", "logits"]
)
@pytest.mark.parametrize("where", ["everywhere", "end of prompt", "in prompt", "after prompt"])
def test_cached_generation_equals_full_passes(generator, site, where):
    adapter, inputs, generate = generator
    length = (inputs if isinstance(inputs, torch.Tensor) else inputs["input_ids"]).shape[1]
    vector = strong(adapter, inputs, site)
    given, counted = {
        "everywhere": ("", ""),
        "end of prompt": ("[position=-1]", f"[position={length - 1}]"),
        "in prompt": ("[position=2:4]", "[position=2:4]"),
        "after prompt": (f"[position={length + 1}]", f"[position={length + 1}]"),
    }[where]

    def edits_at(n_positions):
        return [] if where == "after prompt" and n_positions <= length + 1 else [nm.Add(site + counted, vector)]

    expected = step_by_step(adapter, inputs, edits_at)
    assert torch.equal(generate([nm.Add(site + given, vector)]), expected)
    if where == "everywhere":
        assert not torch.equal(expected, step_by_step(adapter, inputs, lambda _: []))


@pytest.mark.parametrize(
    "site", ["blocks.0.z[head=1]", "blocks.1.z[head=[0, 3]]", "blocks.1.pattern[head=2]", "blocks.0.q[head=0]"]
)
def test_cached_generation_with_head_edits_equals_full_passes(generator, site):
    adapter, inputs, generate = generator
    edit = nm.Scale(site, -8.0)
    assert torch.equal(generate([edit]), step_by_step(adapter, inputs, lambda _: [edit]))


def test_generation_samples_from_its_own_seed(generator):
    adapter, inputs, _ = generator
    state = torch.get_rng_state()
    runs = [adapter.generate(inputs, max_new_tokens=NEW_TOKENS, seed=seed, do_sample=True) for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_right_padded_prompts_are_not_continued():
    adapter, _, ids = CASES["TransformerLens HookedTransformer"].make()
    mask = torch.ones_like(ids)
    mask[1, -2:] = 0
    with pytest.raises(InputError, match="padded at the end"):
        adapter.generate({"input": ids, "attention_mask": mask})
