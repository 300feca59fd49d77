"""Sites inferred on 35 architectures against ground truths that use none of the inference's identities."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from neuros_mechint.adapters.hooks import run_hooked
from neuros_mechint.adapters.inference import SiteMap, infer_sites, probe_inputs
from neuros_mechint.adapters.taps import Tap
from tests.conformance.architectures import ARCHITECTURES, LAYERS, Architecture, Inputs, main_output

EQUAL = 2e-5
ATTENTION_NAMES = ("q", "k", "v", "pattern", "z", "attn_out")


@dataclass
class Case:
    architecture: Architecture
    model: nn.Module
    inputs: Inputs
    output: Any
    sites: SiteMap

    @property
    def taps(self) -> dict[str, Tap]:
        return self.sites.taps

    @property
    def y(self) -> torch.Tensor:
        return main_output(self.output)

    def run(self, capture=(), edits: Mapping[str, Any] | None = None, taps=None, **replaced):
        """Return the main output, and the captured tensors; edits are functions of the tensor alone."""
        functions = {name: [lambda x, _dims, _window, f=f: f(x)] for name, f in (edits or {}).items()}
        inputs = {**self.inputs, **replaced}
        run = run_hooked(
            self.model,
            lambda: self.model(**inputs),
            {**self.taps, **(taps or {})},
            functions,
            capture,
            n_samples=len(next(iter(inputs.values()))),
        )
        return main_output(run.output), run.tensors

    def names(self, *last: str) -> list[str]:
        return [name for name in self.taps if name.rpartition(".")[2] in last]


def build_case(architecture: Architecture, **options: Any) -> Case:
    model, inputs = architecture.build(**options)
    sites = infer_sites(model, (), inputs)
    with torch.no_grad():
        return Case(architecture, model, inputs, model(**inputs), sites)


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def case(request) -> Case:
    return build_case(ARCHITECTURES[request.param])


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return ((a - b).abs().max() / (1 + b.abs().max())).item()


def stacks(case: Case) -> list[str]:
    return ["encoder.", "decoder."] if "encoder.blocks.0.resid_pre" in case.taps else [""]


def expected_block_names(case: Case, stack: str) -> set[str]:
    names = {
        "resid_pre",
        "resid_mid",
        "resid_post",
        "attn_out",
        "mlp_out",
        "q",
        "k",
        "v",
        "z",
        "pattern",
        "pre",
        "post",
    }
    if stack == "decoder.":
        names |= {
            "cross_q",
            "cross_k",
            "cross_v",
            "cross_z",
            "cross_pattern",
            "cross_attn_out",
            "resid_mid_cross",
        }
    if case.architecture.name == "Mamba":
        names |= {"mixer_out"}
    return names - set(case.architecture.missing)


def test_exactly_the_expected_names_are_offered(case):
    expected = {"logits"} - set(case.architecture.missing)
    for stack in stacks(case):
        blocks = expected_block_names(case, stack)
        expected |= {f"{stack}blocks.{layer}.{name}" for layer in range(LAYERS) for name in blocks}
        ends = {f"{stack}embed", f"{stack}ln_final"}
        expected |= {end for end in ends if not {end, end.removeprefix(stack)} & set(case.architecture.missing)}
    assert set(case.taps) == expected
    for name in case.architecture.missing:
        withheld = [key for key in case.sites.withheld if key == name or key.endswith(f".{name}")]
        assert withheld, f"{name} is missing without a reason"


def test_streams_are_the_models_own_hidden_states(case):
    if not case.architecture.is_huggingface:
        pytest.skip("only HuggingFace models return their hidden states")
    with torch.no_grad():
        output = case.model(**case.inputs, output_hidden_states=True)
    _, got = case.run(case.names("resid_pre", "resid_post", "ln_final"))
    for stack in stacks(case):
        states = output[f"{stack}hidden_states".replace(".", "_")]
        pre, post = (
            [got[f"{stack}blocks.{layer}.{name}"] for layer in range(LAYERS)] for name in ("resid_pre", "resid_post")
        )
        if case.architecture.name == "Mamba":  # stores the states after each block
            assert all(distance(post[layer], states[layer]) < EQUAL for layer in range(LAYERS))
            continue
        assert all(distance(pre[layer], states[layer]) < EQUAL for layer in range(LAYERS))
        assert all(distance(post[layer], states[layer + 1]) < EQUAL for layer in range(LAYERS - 1))
        if case.architecture.name != "OPT-350m":  # projects its last state
            ends = [post[-1], *(got[name] for name in got if name == f"{stack}ln_final")]
            assert min(distance(end, states[-1]) for end in ends) < EQUAL


def test_patterns_are_the_attentions_of_the_open_implementation(case):
    patterns = case.names("pattern", "cross_pattern")
    if not patterns:
        pytest.skip("no attention")
    _, got = case.run(patterns)
    for pattern in got.values():
        torch.testing.assert_close(pattern.sum(-1), torch.ones(pattern.shape[:-1]))
    # Falcon-rw's own two implementations differ from each other
    if not case.architecture.is_huggingface or case.architecture.name == "Falcon-rw":
        return
    eager, inputs = case.architecture.build(attention="eager")
    with torch.no_grad():
        output = eager(**inputs, output_attentions=True)
    for name, pattern in got.items():
        stack, _, rest = name.rpartition("blocks.")
        field = "cross_attentions" if "cross" in rest else f"{stack}attentions".replace(".", "_")
        assert distance(pattern, output[field][int(rest[0])]) < EQUAL


def output_weights(projection: nn.Module) -> torch.Tensor:
    """The projection's matrix as (in, out): GPT-2's is stored so, all others transposed."""
    return projection.weight if type(projection).__name__ == "Conv1D" else projection.weight.T


def test_heads_times_their_output_weights_are_the_projections_output(case):
    for name in case.names("z", "cross_z"):
        tap = case.taps[name]
        projection = case.model.get_submodule(tap.path)
        native = {"projected": Tap(tap.path, "out", 0, tap.call, dims=("sample", "position", "unit"))}
        _, got = case.run([name, "projected"], taps=native)
        z = got[name]
        weights = output_weights(projection).view(*z.shape[2:], -1)
        expected = torch.einsum("bqhd,hdm->bqm", z, weights)
        if getattr(projection, "bias", None) is not None:
            expected = expected + projection.bias
        assert distance(expected.detach(), got["projected"]) < EQUAL


def test_zeroing_a_head_is_zeroing_its_output_weights(case):
    for name in case.names("z", "cross_z"):
        tap = case.taps[name]
        if sum(other.path == tap.path and other.side == "in" for other in case.taps.values()) > 1:
            continue  # ALBERT's layers share these weights: surgery hits them all
        operated = copy.deepcopy(case.model)
        width = tap.view.width
        with torch.no_grad():
            output_weights(operated.get_submodule(tap.path))[width : 2 * width] = 0
            expected = main_output(operated(**case.inputs))

        def zero_head(z):
            z = z.clone()
            z[:, :, 1] = 0
            return z

        ablated, _ = case.run(edits={name: zero_head})
        assert distance(ablated, expected) < EQUAL
        assert distance(ablated, case.y) > 1e-4


SAME_EDIT = {
    "attn_out": "resid_mid",
    "cross_attn_out": "resid_mid_cross",
    "mlp_out": "resid_post",
    "mixer_out": "resid_post",
}


def equivalent_pairs(case: Case) -> Iterator[tuple[str, str]]:
    """Pairs of sites at which adding the same vector must do the same."""
    for name, tap in case.taps.items():
        block, _, last = name.rpartition(".")
        partner = f"{block}.{SAME_EDIT.get(last, '')}"
        if last == "resid_post":
            stack, _, layer = block.rpartition(".")
            partner = f"{stack}.{int(layer) + 1}.resid_pre"
        if partner in case.taps and not (last == "mlp_out" and "norm" in tap.check):
            yield name, partner


def test_what_is_added_to_a_branch_is_added_to_the_stream(case):
    pairs = list(equivalent_pairs(case))
    assert pairs
    shapes = {name: tensor.shape for name, tensor in case.run(list(case.taps))[1].items()}
    for name, partner in pairs:
        delta = torch.randn(shapes[name], generator=torch.Generator().manual_seed(0))
        first, _ = case.run(edits={name: lambda x, d=delta: x + d})
        second, _ = case.run(edits={partner: lambda x, d=delta: x + d})
        assert distance(first, second) < EQUAL, (name, partner)
        assert distance(first, case.y) > 1e-3, name


def test_identity_edits_leave_and_other_edits_change_the_output(case):
    for name in case.taps:
        same, _ = case.run(edits={name: lambda x: x.clone()})
        assert distance(same, case.y) < EQUAL, name
        changed, _ = case.run(edits={name: lambda x: x * (0.5 + torch.linspace(0, 1, x.shape[-1]))})
        assert (changed - case.y).abs().max() > 1e-6, name


def test_padding_is_never_attended_to(case):
    if "input_ids" not in case.inputs or not case.names("pattern"):
        pytest.skip("no padding")
    mask = torch.ones_like(case.inputs["input_ids"])
    left = case.architecture.causal and stacks(case) == [""]
    padded = slice(None, 2) if left else slice(-2, None)
    mask[0, padded] = 0
    real = mask[0].bool()
    name = f"{stacks(case)[0]}blocks.0.pattern"
    logits, got = case.run([name], attention_mask=mask)
    assert got[name][0][:, real][:, :, ~real].abs().max() < 1e-6
    with torch.no_grad():
        expected = main_output(case.model(**{**case.inputs, "attention_mask": mask}))
    rows = real if stacks(case) == [""] else slice(None)
    assert distance(logits[0, rows], expected[0, rows]) < EQUAL


@pytest.fixture(scope="module")
def attention_arguments() -> Iterator[list[tuple[torch.Tensor, ...]]]:
    """What HuggingFace's attention interface is called with, under the name "noted"."""
    from transformers import modeling_utils
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask

    seen: list[tuple[torch.Tensor, ...]] = []

    def noted(module, query, key, value, mask, *args, **kwargs):
        seen.append((query.clone(), key.clone(), value.clone()))
        groups = query.shape[1] // key.shape[1]
        scores = query @ key.repeat_interleave(groups, 1).transpose(-1, -2)
        scores = scores if mask is None else scores + mask[..., : scores.shape[-1]]
        return (scores.softmax(-1) @ value.repeat_interleave(groups, 1)).transpose(1, 2).contiguous(), None

    modeling_utils.ALL_ATTENTION_FUNCTIONS.register("noted", noted)
    ALL_MASK_ATTENTION_FUNCTIONS.register("noted", eager_mask)
    yield seen
    for registry in (modeling_utils.ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
        type(registry)._global_mapping.pop("noted", None)


OWN_ATTENTION_CODE = (
    "BLOOM",
    "Falcon-7b",
    "Falcon-40b",
    "Falcon-rw",
    "GPT-J",
    "Mamba",
    "nanoGPT-fused",
    "nanoGPT-open",
)


def test_an_edit_of_one_head_reaches_exactly_that_head_of_the_attention_call(case, attention_arguments):
    if case.architecture.name in OWN_ATTENTION_CODE:
        pytest.skip("does not use the attention interface")
    noting, _ = case.architecture.build(attention="noted")
    case = Case(case.architecture, noting, case.inputs, case.output, case.sites)

    def arguments(edits=None):
        attention_arguments.clear()
        case.run(edits=edits)
        return list(attention_arguments)

    before = arguments()
    # the encoder runs first; within a decoder block self-attention runs before cross-attention
    order = [name.removesuffix("z") for name in case.names("z", "cross_z")]
    assert len(order) == len(before)
    for call, prefix in enumerate(order):
        for part, letter in enumerate("qkv"):
            for head in range(case.taps[prefix + letter].view.heads):
                after = arguments({prefix + letter: lambda x, h=head: negated_head(x, h)})[call]
                changed = [
                    [(a - b)[:, index].abs().max() > 1e-6 for index in range(a.shape[1])]
                    for a, b in zip(after, before[call], strict=True)
                ]
                copies = len(changed[part]) // case.taps[prefix + letter].view.heads
                expected = [[False] * len(heads) for heads in changed]
                expected[part] = [index // copies == head for index in range(len(changed[part]))]
                assert changed == expected, f"{prefix}{letter}[head={head}]"


def negated_head(x: torch.Tensor, head: int) -> torch.Tensor:
    x = x.clone()
    x[:, :, head] = x[:, :, head] * -1.7
    return x


@pytest.mark.parametrize("name", ["BLOOM", "Falcon-7b", "Falcon-40b", "Falcon-rw"])
def test_fused_projections_are_split_as_the_model_splits_them(name):
    case = build_case(ARCHITECTURES[name])
    attention = next(module for module in case.model.modules() if type(module).__name__.endswith("Attention"))
    split = getattr(attention, "_split_heads", None) or attention._reshape
    projection = {"fused": Tap(case.taps["blocks.0.v"].path, dims=("sample", "position", "unit"))}
    _, got = case.run(["blocks.0.q", "blocks.0.k", "blocks.0.v", "fused"], taps=projection)
    for letter, own in zip("qkv", split(got["fused"]), strict=True):
        own = own.transpose(1, 2) if name == "BLOOM" else own
        ours = got[f"blocks.0.{letter}"]
        assert torch.equal(ours, own[:, :, :: own.shape[2] // ours.shape[2]])  # Falcon repeats its keys and values


def hooks_of(model: nn.Module) -> list[list[int]]:
    return [[*module._forward_hooks, *module._forward_pre_hooks] for module in model.modules()]


def test_inference_leaves_nothing_behind(case):
    model = case.model
    weights = {name: parameter.clone() for name, parameter in model.named_parameters()}
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    state = torch.random.get_rng_state()
    implementation = getattr(getattr(model, "config", None), "_attn_implementation", None)
    hooks = hooks_of(model)  # not none: HuggingFace leaves its own where hidden states were asked for
    infer_sites(model, (), case.inputs)
    assert hooks_of(model) == hooks
    assert torch.equal(torch.random.get_rng_state(), state)
    assert getattr(getattr(model, "config", None), "_attn_implementation", None) == implementation
    assert not any("forward" in module.__dict__ for module in model.modules())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, weights[name])
        assert parameter.grad is None
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == trained
    with torch.no_grad():
        assert torch.equal(main_output(model(**case.inputs)), case.y)


@pytest.mark.parametrize("seed", [1, 2])
def test_freshly_initialised_weights_give_the_same_names(case, seed):
    model, inputs = case.architecture.build(seed=seed, noise=0)
    assert infer_sites(model, (), inputs).taps == case.taps


def test_frozen_parameters_and_inference_mode_give_the_same_names(case):
    model, _ = case.architecture.build()
    model.requires_grad_(requires_grad=False)
    with torch.inference_mode():
        inputs = {name: tensor.clone() for name, tensor in case.inputs.items()}
        assert infer_sites(model, (), inputs).taps == case.taps
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_probe_inputs_give_the_same_names(case):
    if not case.architecture.is_huggingface:
        pytest.skip("nothing tells what a plain module takes")
    probe = probe_inputs(case.model)
    assert probe is not None
    assert infer_sites(case.model, (), probe).taps == case.taps


@pytest.mark.parametrize("name", ["GPT2", "Llama", "GPTNeoX", "Gemma2", "BERT", "ViT", "T5", "nanoGPT-fused"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_give_the_same_names(name, dtype):
    model, inputs = ARCHITECTURES[name].build()
    expected = set(infer_sites(model, (), inputs).taps)
    model = model.to(dtype)
    inputs = {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}
    assert set(infer_sites(model, (), inputs).taps) == expected


@pytest.mark.parametrize("name", ["GPT2", "Llama", "T5", "BERT"])
def test_eager_and_fused_attention_give_the_same_names_and_patterns(name):
    fused = build_case(ARCHITECTURES[name], attention="sdpa")
    eager = build_case(ARCHITECTURES[name], attention="eager")
    assert fused.taps == eager.taps
    _, first = fused.run(fused.names("pattern"))
    _, second = eager.run(eager.names("pattern"))
    for site in first:
        torch.testing.assert_close(first[site], second[site])
