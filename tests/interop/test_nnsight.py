"""nnsight's own tracing as the oracle: the same values and edits, and each leaves the other working."""

from __future__ import annotations

import copyreg
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.adapters.nnsight import NNsightTraceAdapter, adapt_nnsight
from neuros_mechint.core.errors import CapabilityError, InputError, SiteError, SiteWithheldError

difference = nm.logit_difference(5, 9)


class Perceptron(nn.Module):
    """Has what commonly goes wrong: an in-place activation, a module named like nnsight's own ``output``."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.output = nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.act(self.first(x)))


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def perceptron(shaken: Any) -> Any:
    import nnsight

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = shaken(Perceptron())
    with pytest.warns(UserWarning, match="has a submodule named 'output'"):
        return nnsight.NNsight(module)


@pytest.fixture(scope="module")
def gpt2(make_hf: Any, make_tokenizer: Any) -> Any:
    import nnsight

    return nnsight.TransformersModel(make_hf("gpt2"), tokenizer=make_tokenizer(), task="text-generation")


@pytest.fixture(scope="module")
def remote(gpt2: Any) -> NNsightTraceAdapter:
    adapter = adapt_nnsight(gpt2, remote="local")
    assert isinstance(adapter, NNsightTraceAdapter)
    return adapter


def forwards(module: nn.Module) -> dict[str, Any]:
    """Return the ``forward`` that nnsight has left on each instance."""
    return {path: part.__dict__.get("forward") for path, part in module.named_modules()}


# -- local: our hooks on the module inside -------------------------------------------------------------------------


def test_models_of_nnsight_are_recognised(perceptron: Any, gpt2: Any) -> None:
    assert repr(nm.adapt(perceptron)) == "TorchAdapter(Perceptron)"
    assert repr(nm.adapt(gpt2)) == "HuggingFaceAdapter(GPT2LMHeadModel)"
    assert repr(nm.adapt(gpt2, remote="local")) == "NNsightTraceAdapter(GPT2LMHeadModel)"


def test_values_edits_and_gradients_agree_with_a_trace_of_a_plain_module(perceptron: Any, x: torch.Tensor) -> None:
    with torch.no_grad(), perceptron.trace(x):
        first = perceptron.first.output.clone().save()
        act = perceptron.act.output.clone().save()
        perceptron.act.output = perceptron.act.output * torch.tensor([0.0, 1, 2, 3, 4, 5])
        edited = perceptron.E_output.output.save()
    with perceptron.trace(x):
        hidden = perceptron.act.output
        hidden.retain_grad()
        total = perceptron.E_output.output[:, 1].sum()
        total.backward()
        gradient = hidden.grad.save()
    for parameter in perceptron._module.parameters():
        parameter.grad = None

    adapter = adapt_nnsight(perceptron)
    activations = adapter.capture(x, ["first", "act"])
    assert activations["first"].equal(first)
    assert activations["act"].equal(act)
    assert first.min() < 0
    scaled = adapter.run(x, edits=nm.Scale("act", [0.0, 1, 2, 3, 4, 5]))
    assert scaled.output.equal(edited)
    assert not edited.equal(adapter.run(x).output)
    assert adapter.gradients(x, "act", lambda output: output[:, 1])["act"].equal(gradient)


def test_values_agree_with_a_trace_of_a_language_model(gpt2: Any, tokens: torch.Tensor) -> None:
    block = gpt2.transformer.h[1]
    with torch.no_grad(), gpt2.trace(tokens) as tracer:
        resid_pre = block.input.clone().save()
        z = block.attn.c_proj.input.clone().save()
        attn_out = block.attn.output[0].clone().save()
        mlp_out = block.mlp.output.clone().save()
        resid_post = block.output.clone().save()
        logits = tracer.result.logits.save()
    activations = adapt_nnsight(gpt2).capture(tokens, ["blocks.1.*", "logits"])
    traced = {
        "blocks.1.resid_pre": resid_pre,
        "blocks.1.z": z.unflatten(2, (4, 8)),
        "blocks.1.attn_out": attn_out,
        "blocks.1.mlp_out": mlp_out,
        "blocks.1.resid_post": resid_post,
        "logits": logits,
    }
    for name, value in traced.items():  # not bit for bit: to show the pattern, attention is computed in the open
        assert (activations[name] - value).abs().max() <= 1e-5, name


def test_a_patched_output_agrees_with_a_trace(gpt2: Any, tokens: torch.Tensor, corrupted: torch.Tensor) -> None:
    adapter = adapt_nnsight(gpt2)
    clean = adapter.capture(tokens, ["blocks.0.z[head=1]", "blocks.0.attn_out[position=4]"])
    block = gpt2.transformer.h[0]
    with torch.no_grad(), gpt2.trace(corrupted) as tracer:
        z = block.attn.c_proj.input.clone()
        z[:, :, 8:16] = clean["blocks.0.z[head=1]"]
        block.attn.c_proj.input = z
        attention, *rest = block.attn.output
        attention = attention.clone()
        attention[:, 4] = clean["blocks.0.attn_out[position=4]"]
        block.attn.output = (attention, *rest)
        expected = tracer.result.logits.save()
    ours = adapter.run(corrupted, edits=[nm.Replace(site, value) for site, value in clean.items()])
    assert ours.output.logits.equal(expected)
    assert (expected - adapter.run(corrupted).output.logits).abs().max() > 1e-3


def test_each_leaves_the_other_working(gpt2: Any, tokens: torch.Tensor, count_hooks: Any) -> None:
    module = gpt2._module
    before, patched = count_hooks(module), forwards(module)
    adapter = adapt_nnsight(gpt2)
    logits = []
    for _ in range(2):
        logits.append(adapter.run(tokens, capture="blocks.*.z").output.logits)
        with torch.no_grad(), gpt2.trace(tokens) as tracer:
            traced = tracer.result.logits.save()
        logits.append(traced)
        with pytest.raises(InputError):
            adapter.run(tokens, edits=nm.Replace("blocks.0.z", torch.zeros(2, 2)))
    assert all(one.equal(logits[0]) for one in logits)
    assert count_hooks(module) == before
    after = forwards(module)
    assert {path for path, forward in patched.items() if forward is not None} <= set(after)
    assert all(after[path] is forward for path, forward in patched.items() if forward is not None)


def test_a_recurrent_module_is_unrolled_and_given_back(x: torch.Tensor) -> None:
    import nnsight

    module = nn.GRU(4, 3, batch_first=True)
    model = nnsight.NNsight(module)
    series = x[None].expand(2, -1, -1)
    with torch.no_grad(), model.trace(series):
        expected = model.output[0].save()
    patched = module.__dict__.get("forward")
    adapter = adapt_nnsight(model)
    assert (adapter.capture(series, "hidden")["hidden"] - expected).abs().max() <= 1e-6
    silenced = adapter.run(series, edits=nm.Zero("hidden[time=-1]")).output[0]
    assert not silenced[:, -1].any()
    assert module.__dict__.get("forward") is patched
    with torch.no_grad(), model.trace(series):
        again = model.output[0].save()
    assert again.equal(expected)


def test_strings_go_through_the_models_own_tokenizer(gpt2: Any, remote: NNsightTraceAdapter) -> None:
    ids = gpt2.tokenizer("w1 w2 w3", return_tensors="pt")["input_ids"]
    expected = adapt_nnsight(gpt2).run(ids).output.logits
    assert adapt_nnsight(gpt2).run("w1 w2 w3").output.logits.equal(expected)
    assert remote.run("w1 w2 w3").output.logits.equal(expected)


def test_edits_that_only_nnsight_would_apply_are_refused(x: torch.Tensor) -> None:
    import nnsight

    model = nnsight.NNsight(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)))
    with model.edit(inplace=True):
        model[0].output = model[0].output * 0
    with pytest.raises(InputError, match="carries edits"):
        adapt_nnsight(model)
    model.clear_edits()
    assert adapt_nnsight(model).run(x).output.any()


# -- remote: nnsight's tracing, simulated here ---------------------------------------------------------------------


def test_every_traced_site_agrees_with_the_hooks(gpt2: Any, remote: NNsightTraceAdapter, tokens: torch.Tensor) -> None:
    local, names = adapt_nnsight(gpt2), list(remote.sites())
    expected = local.capture(tokens, names)
    assert set(local.sites()) - set(names) == {"blocks.0.pattern", "blocks.1.pattern"}
    for batch_size in (None, 2):
        activations = remote.capture(tokens, names, batch_size=batch_size)
        assert list(activations) == names
        for name in names:
            assert activations[name].equal(expected[name]), name
            assert activations.dims(name) == expected.dims(name)


@pytest.fixture(scope="module")
def edits(gpt2: Any, corrupted: torch.Tensor) -> dict[str, Any]:
    reference = adapt_nnsight(gpt2).capture(corrupted, "blocks.*")
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    return {
        "zero a head": nm.Zero("blocks.0.z[head=1]"),
        "zero a module path": nm.Zero("transformer.h.1.mlp.c_proj:in"),
        "replace": nm.Replace("blocks.1.resid_pre[position=2]", reference["blocks.1.resid_pre"][:, 2]),
        "add on the skip path": nm.Add("blocks.0.resid_mid", direction),
        "scale": nm.Scale("blocks.1.k[head=1]", 3.0),
        "mean": nm.Mean("blocks.1.attn_out", reference),
        "resample": nm.Resample("blocks.0.resid_mid", reference),
        "project": nm.Project("blocks.0.resid_post", direction),
        "clamp": nm.Clamp("blocks.1.post", maximum=0.05),
        "function": nm.Apply("blocks.0.v", torch.sin),
        "hook function": nm.Apply("blocks.0.mlp_out", lambda value, hook: value * (hook.layer() + 2)),
        "logits": nm.Scale("logits[position=-1]", 0.5),
        "several on one tensor": [
            nm.Add("blocks.0.attn_out", 1.0), nm.Scale("blocks.0.resid_mid", 2.0), nm.Zero("blocks.1.pre[position=-1]"),
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["zero a head", "zero a module path", "replace", "add on the skip path", "scale", "mean", "resample", "project",
     "clamp", "function", "hook function", "logits", "several on one tensor"],
)  # fmt: skip
def test_traced_edits_agree_with_the_hooks(
    name: str, edits: dict[str, Any], gpt2: Any, remote: NNsightTraceAdapter, tokens: torch.Tensor
) -> None:
    sites = ["blocks.0.attn_out", "blocks.0.resid_mid", "blocks.1.pre", "blocks.1.resid_post", "logits"]
    clean = adapt_nnsight(gpt2).run(tokens).output.logits
    expected = adapt_nnsight(gpt2).run(tokens, edits=edits[name], capture=sites)
    for batch_size in (None, 2):
        run = remote.run(tokens, edits=edits[name], capture=sites, batch_size=batch_size)
        assert run.output.logits.equal(expected.output.logits)
        assert not run.output.logits.requires_grad
        for site in sites:
            assert run.activations[site].equal(expected.activations[site]), site
    assert (expected.output.logits - clean).abs().max() > 1e-3


def test_traced_gradients_agree_with_the_hooks(gpt2: Any, remote: NNsightTraceAdapter, tokens: torch.Tensor) -> None:
    names = list(remote.sites())
    expected = adapt_nnsight(gpt2).gradients(tokens, names, difference)
    gradients = remote.gradients(tokens, names, difference, batch_size=2)
    for name in names:
        assert (gradients[name] - expected[name]).abs().max() <= 1e-6, name
    assert expected["blocks.0.resid_mid"].abs().max() > 1e-3
    assert all(parameter.grad is None for parameter in gpt2._module.parameters())
    with pytest.raises(InputError, match="cannot be differentiated"):
        remote.gradients(tokens, names, lambda output: output.logits.detach()[:, 0, 0])


def test_a_sweep_through_traces_equals_one_through_hooks(
    gpt2: Any, remote: NNsightTraceAdapter, tokens: torch.Tensor, corrupted: torch.Tensor
) -> None:
    ours, traced = (
        nm.ActivationPatcher(model, difference).sweep(tokens, corrupted, "blocks.*.z", by=("head",), engine="loop")
        for model in (adapt_nnsight(gpt2), remote)
    )
    assert (ours.values - traced.values).max() == 0


def test_tracing_leaves_nothing_behind(
    gpt2: Any, remote: NNsightTraceAdapter, tokens: torch.Tensor, count_hooks: Any
) -> None:
    from cloudpickle import list_registry_pickle_by_value

    module = gpt2._module
    before, weights = count_hooks(module), {name: value.clone() for name, value in module.state_dict().items()}
    registry, random_state = set(list_registry_pickle_by_value()), torch.get_rng_state()

    def fail(value: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError("the user's own mistake")

    remote.run(tokens, edits=nm.Zero("blocks.0.z"), capture="blocks.1.z")
    with pytest.raises(ZeroDivisionError, match="the user's own mistake"):
        remote.run(tokens, edits=nm.Apply("blocks.0.z", fail))
    with pytest.raises(InputError, match=r"Replace\('blocks.0.z'\)"):
        remote.run(tokens, edits=nm.Replace("blocks.0.z", torch.zeros(2, 2)))
    assert count_hooks(module) == before
    assert all(value.equal(weights[name]) for name, value in module.state_dict().items())
    assert set(list_registry_pickle_by_value()) - registry <= {"tests", "conftest"}  # nnsight's own, once
    assert cached_property not in copyreg.dispatch_table
    assert torch.get_rng_state().equal(random_state)
    assert remote.run(tokens).output.logits.equal(adapt_nnsight(gpt2).run(tokens).output.logits)


def test_a_server_without_this_package_gives_the_same(
    edits: dict[str, Any],
    gpt2: Any,
    remote: NNsightTraceAdapter,
    tokens: torch.Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from nnsight.schema.request import RequestModel

    serialize = RequestModel.serialize

    def keep(tracer: Any, compress: bool = False) -> bytes:
        request = serialize(tracer, compress=compress)
        (tmp_path / "request").write_bytes(request)
        return request

    monkeypatch.setattr(RequestModel, "serialize", keep)
    several = [edit for name, edit in edits.items() if not isinstance(edit, list) and name != "logits"]
    sites = ["blocks.0.z", "blocks.0.resid_mid", "blocks.1.resid_post"]
    expected = remote.run(tokens, edits=several, capture=sites)
    gpt2._module.save_pretrained(tmp_path)
    gpt2.tokenizer.save_pretrained(tmp_path)

    script = Path(__file__).with_name("nnsight_server.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    response = torch.load(tmp_path / "response", weights_only=True)
    assert (response["logits"] - expected.output.logits).abs().max() <= 1e-6
    assert (response["seen"]["blocks.1.resid_post"] - expected.activations["blocks.1.resid_post"]).abs().max() <= 1e-6
    assert (expected.output.logits - adapt_nnsight(gpt2).run(tokens).output.logits).abs().max() > 0.1


# -- remote: weights that are not here -----------------------------------------------------------------------------


@pytest.fixture
def send_away(make_tokenizer: Any, tmp_path: Path) -> Any:
    """Return a function that saves a module and gives the nnsight model that has not loaded it."""

    def send(module: Any) -> Any:
        import nnsight

        module.save_pretrained(tmp_path)
        return nnsight.TransformersModel(str(tmp_path), tokenizer=make_tokenizer(), task="text-generation")

    return send


@pytest.fixture
def elsewhere(gpt2: Any, send_away: Any) -> Any:
    return send_away(gpt2._module)


def test_a_model_whose_weights_are_elsewhere_is_read_by_module_paths(
    elsewhere: Any, gpt2: Any, tokens: torch.Tensor
) -> None:
    adapter = adapt_nnsight(elsewhere, remote="local")
    table = adapter.sites()
    assert "transformer.h.1.mlp" in table
    assert "the weights are not here" in table.withheld["blocks.*"]
    with pytest.raises(SiteWithheldError, match="the weights are not here"):
        adapter.capture(tokens, "blocks.0.z")
    with pytest.raises(InputError, match="outside the vocabulary"):
        adapter.capture(tokens + 20, "transformer.h.1.mlp")
    assert not elsewhere.dispatched
    # given in the wrong order: nnsight itself would refuse it
    names = ["lm_head", "transformer.h.1.mlp", "transformer.h.0.attn.c_proj:in", "transformer.h.0:in"]
    expected = adapt_nnsight(gpt2).capture(tokens, names)
    activations = adapter.capture(tokens, names)
    for name in names:
        assert activations[name].equal(expected[name]), name
    edit = nm.Zero("transformer.h.0.mlp")
    ours = adapter.run(tokens, edits=edit).output.logits
    assert ours.equal(adapt_nnsight(gpt2).run(tokens, edits=edit).output.logits)


def test_weights_that_are_elsewhere_are_not_run_here(elsewhere: Any) -> None:
    with pytest.raises(InputError, match=r"not loaded\n.*dispatch"):
        adapt_nnsight(elsewhere)


def test_the_order_of_execution_is_measured_and_not_read_off_the_code(send_away: Any, tokens: torch.Tensor) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=24, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        intermediate_size=20, bos_token_id=1, eos_token_id=2, pad_token_id=3,
    )  # fmt: skip
    module = Gemma2ForCausalLM(config).eval()
    written = [path for path, _ in module.named_modules()]
    mlp, norm = "model.layers.0.mlp", "model.layers.0.input_layernorm"
    assert written.index(norm) > written.index(mlp)  # the trap
    expected = adapt_nnsight(send_away(module), remote="local").capture(tokens, [mlp, norm])
    assert list(expected) == [mlp, norm]
    for name, value in nm.adapt(module).capture(tokens, [mlp, norm]).items():
        assert expected[name].equal(value), name


# -- bad input -----------------------------------------------------------------------------------------------------


def test_what_tracing_cannot_do_is_refused(gpt2: Any, perceptron: Any, remote: Any, tokens: torch.Tensor) -> None:
    with pytest.raises(SiteWithheldError, match="not what they compute inside"):
        remote.capture(tokens, "blocks.0.pattern")
    with pytest.raises(SiteError, match="more than once"):
        remote.capture(tokens, "transformer.h.0#1")
    with pytest.raises(SiteError, match=r"did you mean.*blocks\.0\.z"):
        remote.run(tokens, edits=nm.Zero("blocks.0.zz"))
    with pytest.raises(CapabilityError, match="'generate'"):
        remote.generate(tokens)
    with pytest.raises(CapabilityError, match="cannot run a NNsight remotely"):
        adapt_nnsight(perceptron, remote=True)
    with pytest.raises(InputError, match="must be token ids"):
        remote.capture(tokens.float(), "logits")
    assert remote.capabilities == {"capture", "intervene", "gradient"}
