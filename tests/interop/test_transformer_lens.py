"""TransformerLens beside ours, on the same models: the same activations, edits, patching effects and continuations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, SiteError, SiteWithheldError
from neuros_mechint.core.site_names import transformer_lens_name
from tests.interop.lens_models import ALL, BLOCK_SITES, VOCABULARY, hook, make_bridge

pytestmark = [
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning"),
]


def cached(model: Any, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return TransformerLens's cache under canonical names, heads taken apart as ours are."""
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens)
        values = {name: cache[transformer_lens_name(name)] for name in nm.adapt(model).sites() if hook(model, name)}
        if hasattr(model, "ln_final"):
            values["ln_final"] = model.ln_final(cache[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"])
    return values | {"logits": logits}


def answer(logits: torch.Tensor) -> torch.Tensor:
    return (logits[:, -1, 5] - logits[:, -1, 9]).mean()


difference = nm.logit_difference(5, 9)


# -- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lens", ALL, indirect=True)
def test_every_site_holds_what_run_with_cache_holds(lens: Any, tokens: torch.Tensor) -> None:
    adapter = nm.adapt(lens)
    reference = cached(lens, tokens)
    activations = adapter.capture(tokens, list(adapter.sites()))
    assert set(activations) == set(reference)
    for name, value in activations.items():
        expected = reference[name].reshape(value.shape)
        assert (value - expected).abs().max() <= 1e-6, name
    assert adapter.capture(tokens, "blocks.1.z", batch_size=2)["blocks.1.z"].equal(activations["blocks.1.z"])


@pytest.mark.parametrize(
    ("lens", "missing"),
    [
        ("plain", set()),
        ("grouped queries", set()),
        ("GPT-2 bridge", set()),
        ("Llama bridge", set()),
        ("attention only", {"resid_mid", "pre", "post", "mlp_out"}),
        ("parallel", {"resid_mid"}),
    ],
    indirect=["lens"],
)
def test_what_a_model_lacks_is_withheld_with_a_reason(lens: Any, missing: set[str]) -> None:
    table = nm.adapt(lens).sites()
    for layer in range(2):
        offered = {name.rpartition(".")[2] for name in table if name.startswith(f"blocks.{layer}.")}
        assert offered == set(BLOCK_SITES) - missing
        assert all(table.withheld[f"blocks.{layer}.{name}"] for name in missing)
    for name in missing:
        with pytest.raises(SiteWithheldError, match=r"blocks\.0"):
            nm.adapt(lens).capture(torch.ones(1, 3, dtype=torch.long), f"blocks.0.{name}")


def test_heads_are_counted_as_the_model_has_them(models: dict[str, Any]) -> None:
    for name in ("grouped queries", "Llama bridge"):
        table = nm.adapt(models[name]).sites()
        assert table["blocks.0.q"].heads == table["blocks.0.z"].heads == 4
        assert table["blocks.0.k"].heads == table["blocks.0.v"].heads == 2
        assert table["blocks.0.k"].dims == ("sample", "position", "kv_head", "unit")


def test_transformer_lens_names_are_accepted(lens: Any, tokens: torch.Tensor) -> None:
    adapter = nm.adapt(lens)
    theirs = ["hook_embed", "blocks.0.hook_resid_pre", "blocks.1.attn.hook_z", "blocks.*.attn.hook_pattern"]
    ours = ["embed", "blocks.0.resid_pre", "blocks.1.z", "blocks.*.pattern"]
    named, canonical = adapter.capture(tokens, theirs), adapter.capture(tokens, ours)
    assert list(named) == list(canonical)
    assert all(named[name].equal(canonical[name]) for name in canonical)
    zeroed = adapter.run(tokens, edits=nm.Zero("blocks.0.attn.hook_z[head=1]")).output
    assert zeroed.equal(adapter.run(tokens, edits=nm.Zero("blocks.0.z[head=1]")).output)


def test_hook_points_without_a_canonical_name_are_reached_by_their_own(lens: Any, tokens: torch.Tensor) -> None:
    names = ["blocks.0.attn.hook_attn_scores", "blocks.1.ln2.hook_scale", "ln_final.hook_normalized"]
    activations = nm.adapt(lens).capture(tokens, names)
    _, cache = lens.run_with_cache(tokens)
    assert activations.dims("blocks.0.attn_scores") == ("sample", "head", "query", "key")
    for name, value in activations.items():
        assert value.equal(cache[transformer_lens_name(name)]), name


def test_a_bridges_hook_points_of_parts_are_not_those_of_the_block(
    models: dict[str, Any], tokens: torch.Tensor
) -> None:
    adapter = nm.adapt(models["GPT-2 bridge"])
    got = adapter.capture(
        tokens, ["blocks.0.attn.hook_out", "blocks.0.hook_out", "blocks.0.attn_out", "blocks.0.resid_post"]
    )
    assert got["blocks.0.attn.hook_out"].equal(got["blocks.0.attn_out"])
    assert got["blocks.0.hook_out"].equal(got["blocks.0.resid_post"])
    assert not got["blocks.0.attn.hook_out"].equal(got["blocks.0.hook_out"])


@pytest.mark.parametrize("lens", ["plain", "grouped queries"], indirect=True)
def test_activations_make_a_transformer_lens_cache(lens: Any, tokens: torch.Tensor) -> None:
    adapter = nm.adapt(lens)
    with torch.no_grad():
        _, reference = lens.run_with_cache(tokens)
        cache = adapter.capture(tokens, ["embed", "pos_embed", "blocks.*"]).to_transformer_lens(lens)
        assert cache["resid_pre", 0].equal(reference["resid_pre", 0])
        assert cache["pattern", 1, "attn"].equal(reference["pattern", 1, "attn"])
        assert cache.stack_activation("z").equal(reference.stack_activation("z"))
        assert cache.decompose_resid(layer=2).equal(reference.decompose_resid(layer=2))
    back = nm.Activations.from_transformer_lens(cache)
    for name, value in adapter.capture(tokens, ["embed", "pos_embed", "blocks.*"]).items():
        assert back[name].equal(value), name


@pytest.mark.parametrize("lens", ["plain", "GPT-2 bridge"], indirect=True)
def test_gradients_are_those_of_backward_hooks(lens: Any, tokens: torch.Tensor) -> None:
    names = ["blocks.0.resid_pre", "blocks.0.z", "blocks.1.attn_out", "blocks.1.mlp_out", "blocks.1.resid_post"]
    seen: dict[str, torch.Tensor] = {}

    def keep(gradient: torch.Tensor, hook: Any) -> None:
        seen[hook.name] = gradient.clone()

    points = {name: lens.hook_dict[transformer_lens_name(name)] for name in names}
    with lens.hooks(bwd_hooks=[(transformer_lens_name(name), keep) for name in names]):
        difference(lens(tokens)).sum().backward()
    lens.zero_grad(set_to_none=True)
    gradients = nm.adapt(lens).gradients(tokens, names, difference)
    for name, point in points.items():
        expected = seen[point.name].reshape(gradients[name].shape)
        assert expected.abs().max() > 1e-3
        assert (gradients[name] - expected).abs().max() <= 1e-6, name


# -- the caller's own hooks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lens", ["plain", "GPT-2 bridge"], indirect=True)
def test_the_callers_hooks_keep_running_and_stay(lens: Any, tokens: torch.Tensor, count_hooks: Any) -> None:
    calls: list[str] = []

    def silence(z: torch.Tensor, hook: Any) -> torch.Tensor:
        calls.append(hook.name)
        return torch.zeros_like(z)

    clean = nm.adapt(lens).capture(tokens, "blocks.1.resid_post")["blocks.1.resid_post"]
    lens.add_hook("blocks.0.attn.hook_z", silence)
    try:
        before = count_hooks(lens)
        adapter = nm.adapt(lens)
        activations = adapter.capture(tokens, ["blocks.0.z", "blocks.0.resid_mid", "blocks.1.resid_post"])
        _, cache = lens.run_with_cache(tokens)
        assert calls
        assert count_hooks(lens) == before
    finally:
        lens.reset_hooks()
    assert not activations["blocks.0.z"].any()
    assert (activations["blocks.0.resid_mid"] - cache["resid_mid", 0]).abs().max() <= 1e-6
    assert activations["blocks.1.resid_post"].equal(cache["resid_post", 1])
    assert not activations["blocks.1.resid_post"].equal(clean)


def test_sites_are_proven_on_the_model_and_not_on_the_callers_hooks(make_lens: Any, tokens: torch.Tensor) -> None:
    model = make_lens(d_mlp=40)
    model.add_hook("blocks.0.attn.hook_z", lambda z, hook: z + 1.0)
    assert "blocks.0.z" in nm.adapt(model).sites()


def test_a_callers_hook_on_resid_mid_is_seen(make_lens: Any, tokens: torch.Tensor) -> None:
    model = make_lens()
    model.add_hook("blocks.0.hook_resid_mid", lambda stream, hook: stream + 1.0)
    _, cache = model.run_with_cache(tokens)
    assert nm.adapt(model).capture(tokens, "blocks.0.resid_mid")["blocks.0.resid_mid"].equal(cache["resid_mid", 0])


@pytest.mark.parametrize("lens", ["plain", "Llama bridge"], indirect=True)
def test_nothing_is_left_behind_also_after_failures(lens: Any, tokens: torch.Tensor, count_hooks: Any) -> None:
    before, weights = count_hooks(lens), {name: value.clone() for name, value in lens.state_dict().items()}
    random_state = torch.get_rng_state()

    def fail(value: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError("the user's own mistake")

    adapter = nm.adapt(lens)
    adapter.run(tokens, edits=nm.Zero("blocks.0.resid_mid"), capture="blocks.*")
    adapter.gradients(tokens, "blocks.1.z", difference)
    adapter.generate(tokens, max_new_tokens=2)
    with pytest.raises(ZeroDivisionError, match="the user's own mistake"):
        adapter.run(tokens, edits=nm.Apply("blocks.1.mlp_out", fail))
    with pytest.raises(InputError, match=r"Replace\('blocks.0.z'\)"):
        adapter.run(tokens, edits=nm.Replace("blocks.0.z", torch.zeros(2, 2)))
    with pytest.raises(InputError):
        adapter.gradients(tokens, "blocks.1.z", lambda logits: logits.detach()[:, -1, 0])
    assert count_hooks(lens) == before
    assert all(parameter.grad is None for parameter in lens.parameters())
    assert all(value.equal(weights[name]) for name, value in lens.state_dict().items())
    assert torch.get_rng_state().equal(random_state)


# -- editing -------------------------------------------------------------------------------------------------------


def double(value: torch.Tensor, hook: Any) -> torch.Tensor:
    return 2 * value


def first_head_in_place(value: torch.Tensor, hook: Any) -> None:
    value[:, :, 0] = 0.0


def by_layer(value: torch.Tensor, hook: Any) -> torch.Tensor:
    assert hook.name.startswith(f"blocks.{hook.layer()}.")
    return value * (hook.layer() + 2)


@pytest.mark.parametrize("lens", ALL, indirect=True)
@pytest.mark.parametrize("function", [double, first_head_in_place, by_layer])
def test_transformer_lens_hook_functions_do_the_same_here(lens: Any, tokens: torch.Tensor, function: Any) -> None:
    adapter = nm.adapt(lens)
    with torch.no_grad():
        clean = lens(tokens)
        for name in ("blocks.0.z", "blocks.1.v", "blocks.0.attn_out", "blocks.1.pattern", "blocks.1.resid_pre"):
            if function is first_head_in_place and name.rpartition(".")[2] not in ("z", "v"):
                continue
            theirs = lens.run_with_hooks(tokens, fwd_hooks=[(transformer_lens_name(name), function)])
            ours = adapter.run(tokens, edits=nm.Apply(name, function)).output
            assert (ours - theirs).abs().max() <= 1e-6, name
            assert (ours - clean).abs().max() > 1e-3, name


def test_a_hook_function_sees_only_the_indexed_part(lens: Any, tokens: torch.Tensor) -> None:
    def theirs(z: torch.Tensor, hook: Any) -> torch.Tensor:
        z[:, -1, 2] = torch.relu(z[:, -1, 2])
        return z

    with torch.no_grad():
        expected = lens.run_with_hooks(tokens, fwd_hooks=[("blocks.1.attn.hook_z", theirs)])
    edit = nm.Apply("blocks.1.attn.hook_z[head=2, position=-1]", torch.relu)
    assert nm.adapt(lens).run(tokens, edits=edit).output.equal(expected)


@pytest.mark.parametrize("lens", ["plain", "grouped queries", "GPT-2 bridge"], indirect=True)
def test_ablations_equal_hooks_written_by_hand(lens: Any, tokens: torch.Tensor, corrupted: torch.Tensor) -> None:
    adapter = nm.adapt(lens)
    reference = adapter.capture(corrupted, "blocks.0.z")
    values = reference["blocks.0.z"]
    edits = {
        "zero": (nm.Zero("blocks.0.z[head=1]"), torch.zeros(())),
        "mean": (nm.Mean("blocks.0.z[head=1]", reference), values.mean((0, 1))[1]),
        "mean per position": (nm.Mean("blocks.0.z[head=1]", reference, over=("sample",)), values.mean(0)[:, 1]),
    }
    with torch.no_grad():
        for name, (edit, value) in edits.items():

            def ablate(z: torch.Tensor, hook: Any, value: torch.Tensor = value) -> torch.Tensor:
                z = z.reshape(*z.shape[:2], 4, 8).clone()
                z[:, :, 1] = value
                return z

            ours = adapter.run(tokens, edits=edit, batch_size=2).output
            theirs = lens.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn.hook_z", ablate)])
            assert (ours - theirs).abs().max() <= 1e-5, name
            assert (ours - lens(tokens)).abs().max() > 1e-3, name


def test_resample_ablation_is_a_hook_that_shuffles_the_samples(lens: Any, tokens: torch.Tensor) -> None:
    adapter = nm.adapt(lens)
    reference = adapter.capture(tokens, "blocks.0.z")
    run = adapter.run(tokens, edits=nm.Resample("blocks.0.z[head=1]", reference, seed=4), capture="blocks.0.z")
    given, taken = reference["blocks.0.z"][:, :, 1], run.activations["blocks.0.z"][:, :, 1]
    order = [next(row for row in range(len(given)) if given[row].equal(one)) for one in taken]
    assert sorted(order) == [0, 1, 2]
    assert all(row != source for row, source in enumerate(order))

    def shuffle(z: torch.Tensor, hook: Any) -> torch.Tensor:
        z[:, :, 1] = z[order][:, :, 1]
        return z

    with torch.no_grad():
        assert lens.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn.hook_z", shuffle)]).equal(run.output)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_an_edit_of_resid_mid_moves_the_skip_path_of_a_bridge_too(
    kind: str, make_hf: Callable[[str], Any], tokens: torch.Tensor
) -> None:
    architecture = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM"}[kind]
    bridge = make_bridge(make_hf(kind), architecture)
    adapter = nm.adapt(bridge)
    delta = torch.randn(32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        truth = make_hf(kind)
        block = truth.get_decoder().layers[0] if kind == "llama" else truth.transformer.h[0]
        attention = block.self_attn if kind == "llama" else block.attn
        attention.register_forward_hook(lambda module, args, output: (output[0] + delta, *output[1:]))
        expected = truth(tokens).logits
        naive = bridge.run_with_hooks(
            tokens, fwd_hooks=[("blocks.0.hook_resid_mid", lambda stream, hook: stream + delta)]
        )
    ours = adapter.run(tokens, edits=nm.Add("blocks.0.resid_mid", delta)).output
    assert (ours - expected).abs().max() <= 1e-5
    assert (ours - adapter.run(tokens, edits=nm.Add("blocks.0.attn_out", delta)).output).abs().max() <= 1e-5
    assert (naive - expected).abs().max() > 0.1  # the trap: if this fails, the bridge has been mended


# -- patching ------------------------------------------------------------------------------------------------------

SWEEPS = {
    "get_act_patch_resid_pre": ("resid_pre", ("position",)),
    "get_act_patch_resid_mid": ("resid_mid", ("position",)),
    "get_act_patch_attn_out": ("attn_out", ("position",)),
    "get_act_patch_mlp_out": ("mlp_out", ("position",)),
    "get_act_patch_attn_head_out_all_pos": ("z", ("head",)),
    "get_act_patch_attn_head_out_by_pos": ("z", ("position", "head")),
    "get_act_patch_attn_head_q_all_pos": ("q", ("head",)),
    "get_act_patch_attn_head_k_all_pos": ("k", ("head",)),
    "get_act_patch_attn_head_v_all_pos": ("v", ("head",)),
    "get_act_patch_attn_head_pattern_all_pos": ("pattern", ("head",)),
}


def missing(model: str, site: str) -> bool:
    lacking = {"attention only": ("mlp_out", "resid_mid"), "parallel": ("resid_mid",), "GPT-2 bridge": ("resid_mid",)}
    return site in lacking.get(model, ())  # the bridge has it, but edits it wrongly: see above


@pytest.mark.filterwarnings("ignore:.*in an MPS:UserWarning")
@pytest.mark.parametrize(
    ("lens", "function"),
    [(m, f) for m in ("plain", "grouped queries", "attention only", "parallel", "GPT-2 bridge") for f in SWEEPS
     if not missing(m, SWEEPS[f][0]) and (m == "plain" or len(SWEEPS[f][1]) == 1)],
    indirect=["lens"],
)  # fmt: skip
def test_sweeps_equal_the_patching_functions(
    lens: Any, function: str, tokens: torch.Tensor, corrupted: torch.Tensor
) -> None:
    from transformer_lens import patching

    site, by = SWEEPS[function]
    tokens, corrupted = tokens[:, :5], corrupted[:, :5]
    with torch.no_grad():
        _, cache = lens.run_with_cache(tokens)
        expected = getattr(patching, function)(lens, corrupted, cache, answer).numpy()
    patcher = nm.ActivationPatcher(nm.adapt(lens), difference)
    effects = patcher.sweep(tokens, corrupted, sites=f"blocks.*.{site}", by=by)
    np.testing.assert_allclose(effects.values.values, expected, atol=1e-5)
    assert np.ptp(expected) > 1e-3


def test_a_joint_patch_is_both_hooks_at_once(lens: Any, tokens: torch.Tensor, corrupted: torch.Tensor) -> None:
    with torch.no_grad():
        _, cache = lens.run_with_cache(tokens)

        def patch(z: torch.Tensor, hook: Any) -> torch.Tensor:
            z[:, :, 2] = cache[hook.name][:, :, 2]
            return z

        names = ["blocks.0.attn.hook_z", "blocks.1.attn.hook_z"]
        expected = answer(lens.run_with_hooks(corrupted, fwd_hooks=[(name, patch) for name in names]))
    patcher = nm.ActivationPatcher(nm.adapt(lens), difference)
    joint = patcher.joint(tokens, corrupted, sites=["blocks.0.z[head=2]", "blocks.1.z[head=2]"])
    assert joint.values.item() == pytest.approx(float(expected), abs=1e-5)


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lens", ["plain", "GPT-2 bridge"], indirect=True)
@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (torch.zeros(2, 5), "must be token ids"),
        (torch.full((2, 5), VOCABULARY), "outside the vocabulary"),
        (torch.full((2, 5), -1), "outside the vocabulary"),
        (torch.zeros(5, dtype=torch.long), "two axes"),
        (torch.zeros(0, 5, dtype=torch.long), "empty"),
    ],
)
def test_bad_token_ids_are_refused_before_the_model_sees_them(lens: Any, inputs: torch.Tensor, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        nm.adapt(lens).capture(inputs, "blocks.0.z")


def test_unknown_sites_suggest_near_ones(lens: Any, tokens: torch.Tensor) -> None:
    adapter = nm.adapt(lens)
    with pytest.raises(SiteError, match=r"did you mean.*blocks\.0\.resid_pre"):
        adapter.capture(tokens, "blocks.0.resid_prev")
    with pytest.raises(SiteError, match=r"no site 'blocks\.7\.z'"):
        adapter.run(tokens, edits=nm.Zero("blocks.7.attn.hook_z"))
    with pytest.raises(SiteError, match="head between -4 and 3"):
        adapter.run(tokens, edits=nm.Zero("blocks.0.z[head=4]"))
    with pytest.raises(SiteError, match="no axis 'heads'"):
        adapter.capture(tokens, "blocks.0.z[heads=1]")
