"""Engines take no shortcut that does not hold, whatever the model or the metric does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.causal.engines.reading import find_reading
from neuros_mechint.causal.interventions import measure
from tests.truth.engines_compared import assert_engines_agree

# -- shortcuts that do not hold are not taken ------------------------------------------------------------------------


def gpt2(kind="GPT2LMHeadModel", **settings):
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=3,
        n_head=4,
        n_embd=32,
        vocab_size=50,
        n_positions=16,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        **settings,
    )
    module = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return module


IDS = torch.randint(1, 50, (3, 8), generator=torch.Generator().manual_seed(5))


def every_head_and_position():
    heads = [[nm.Zero(f"blocks.{layer}.z[head={head}]")] for layer in (0, 2) for head in range(4)]
    return heads + [[nm.Zero(f"blocks.0.resid_post[position={position}]")] for position in range(8)]


@pytest.fixture
def by_itself(monkeypatch):
    """Let every place run from its own position, which tiny models otherwise never do."""
    monkeypatch.setattr("neuros_mechint.causal.engines.cost._OPERATIONS_PER_CALL", 0.0)
    monkeypatch.setattr("neuros_mechint.causal.engines.cost._WASTE", 0.0)


@pytest.mark.parametrize(
    ("kind", "inputs", "metric"),
    [
        ("GPT2ForSequenceClassification", {}, lambda output: output.logits[:, 0]),
        ("GPT2LMHeadModel", {"output_hidden_states": True}, lambda output: output.hidden_states[1][:, -1, 0]),
        ("GPT2LMHeadModel", {"labels": IDS}, lambda output: output.loss),
    ],
    ids=["reads the inputs again", "reads an earlier block", "one loss for all samples"],
)
def test_outputs_that_depend_on_more_than_the_last_stream(kind, inputs, metric, by_itself):
    model = nm.adapt(gpt2(kind))
    assert_engines_agree(model, {"input_ids": IDS, **inputs}, every_head_and_position(), metric)


def test_hooks_of_the_user_act_once(by_itself):
    module = gpt2()
    module.transformer.h[-1].register_forward_hook(lambda *parts: parts[2] + 0.3 * torch.arange(32.0))
    assert_engines_agree(nm.adapt(module), IDS, every_head_and_position(), nm.log_probability(5))


def test_what_changes_between_sweeps_is_proven_again(by_itself):
    module = gpt2()
    model = nm.adapt(module)
    assert_engines_agree(model, IDS, every_head_and_position(), nm.log_probability(5))

    def mix(_module, _args, output):
        return output + 0.5 * output.mean(1, keepdim=True)

    handle = module.transformer.h[1].register_forward_hook(mix)
    assert_engines_agree(model, IDS, every_head_and_position(), nm.log_probability(5))
    handle.remove()
    found = assert_engines_agree(model, IDS, every_head_and_position(), nm.log_probability(5))
    assert found["auto"].notes == ()


class Swish(nn.Module):
    """An activation function with a setting."""

    def __init__(self):
        super().__init__()
        self.beta = 1.0

    def forward(self, x):
        return x * torch.sigmoid(self.beta * x)


def test_an_activation_function_whose_setting_changes_is_looked_at_again(by_itself):
    module = gpt2()
    swishes = [Swish() for _ in module.transformer.h]
    for block, swish in zip(module.transformer.h, swishes, strict=True):
        block.mlp.act = swish
    model = nm.adapt(module)
    assert_engines_agree(model, IDS, every_head_and_position(), nm.log_probability(5))
    for swish in swishes:
        swish.beta = 3.0
    assert_engines_agree(model, IDS, every_head_and_position(), nm.log_probability(5))


@pytest.mark.parametrize("seen", [slice(0, 8), slice(0, 3), slice(5, 7)], ids=["all", "first", "late"])
def test_masks_that_let_positions_see_later_ones(seen, by_itself):
    mask = torch.full((3, 1, 8, 8), torch.finfo(torch.float32).min).triu(1)
    model = nm.adapt(gpt2())
    causal = assert_engines_agree(
        model, {"input_ids": IDS, "attention_mask": mask}, every_head_and_position(), nm.log_probability(5)
    )
    assert causal["auto"].notes == ()
    both_ways = mask.clone()
    both_ways[:, :, seen, seen] = 0
    inputs = {"input_ids": IDS, "attention_mask": both_ways}
    found = assert_engines_agree(model, inputs, every_head_and_position(), nm.log_probability(5))
    assert found["auto"].notes  # and only this one has to give something up


def test_metrics_that_compare_with_other_positions_get_everything():
    output = gpt2()(IDS)
    highest = output.logits[:, 1, 7].max()

    def metric(output):
        return output.logits[:, -1, 5] + 10 * (output.logits[:, 1, 7] > highest + 0.01).float()

    assert find_reading(metric, output, 3).positions is None


class Normalizes(nn.Module):
    """Divides by the largest value of the batch: copies without edits do not show it."""

    def __init__(self):
        super().__init__()
        self.a = nn.Identity()

    def forward(self, x):
        hidden = self.a(x)
        return hidden / (1e-3 + hidden.abs().amax(0))


def test_coupling_that_only_edits_bring_about_is_found():
    model = nm.adapt(Normalizes())
    inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    interventions = [[nm.Scale("a", 0.5)], [nm.Scale("a", 0.1)], [nm.Add("a[unit=0]", 1e4)]]

    def metric(output):
        return output.sum(1)

    found = measure(model, inputs, interventions, metric)
    assert found.engine == "loop"
    assert torch.equal(found.values, measure(model, inputs, interventions, metric, engine="loop").values)


def test_one_tensor_under_two_names_keeps_the_order_of_its_edits():
    model = nm.adapt(gpt2())
    value, whole = nm.Apply("blocks.0.v", torch.tanh), nm.Add("transformer.h.0.attn.c_attn", 1.0)
    interventions = [[value, whole], [whole, value], [whole]]
    expected = measure(model, IDS, interventions, nm.log_probability(5), engine="loop")
    found = measure(model, IDS, interventions, nm.log_probability(5))
    assert torch.equal(found.values, expected.values)
    assert any("under two names" in note for note in found.notes)


def test_fractions_are_not_put_into_token_ids():
    model = nm.adapt(gpt2())
    for edit in (
        nm.Add("transformer.wte:in", 0.5),
        nm.Scale("transformer.wte:in", 0.5),
        nm.Replace("transformer.wte:in", 0.7),
    ):
        with pytest.raises(nm.errors.InputError, match="whole numbers"):
            model.run(IDS, edits=edit)
    assert model.run(IDS, edits=nm.Replace("transformer.wte:in", 7)).output.logits.shape == (3, 8, 50)


def test_each_run_asks_for_the_proofs_of_its_own_circumstances(monkeypatch):
    """Two recorded runs of one model may be in use at once: what was proven on the one says nothing of the other."""
    from neuros_mechint.adapters.replay import proof

    model, site = nm.adapt(gpt2()), "blocks.1.mlp_out"
    runs = [model.replay(model.prepared(ids, ())[0], [site]) for ids in (IDS, IDS[:2, :5])]
    proven = []
    monkeypatch.setattr(proof, "prove_entry", lambda replay, *_: proven.append(replay) or True)
    for replay, _ in runs:
        model.proofs.shortcuts(replay)
    for replay, recorded in (*runs, *runs):
        model.proofs.entry(replay, 1, site, recorded.tensors[site], True)
    assert proven == [replay for replay, _ in runs]
