"""Padded positions are no observations: matrices, stores and shuffled batches leave them out."""

from __future__ import annotations

import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.labels import rows_kept
from neuros_mechint.core.stores.store import ActivationStore
from tests.conformance.architectures import ARCHITECTURES

SITES = ["blocks.*.resid_post", "blocks.0.z", "blocks.0.pattern", "blocks.0.z[position=2:5]"]


@pytest.fixture(scope="module")
def padded():
    module, inputs = ARCHITECTURES["GPT2"].build()
    ids = inputs["input_ids"].repeat(3, 1)
    mask = torch.ones_like(ids)
    mask[0, -2:] = 0
    mask[5, 2:] = 0
    return nm.adapt(module), {"input_ids": ids, "attention_mask": mask}


def test_rows_of_a_matrix_are_the_tokens_in_order(padded):
    model, inputs = padded
    found, mask = model.capture(inputs, SITES), inputs["attention_mask"].bool()
    torch.testing.assert_close(found.matrix("blocks.1.resid_post"), found["blocks.1.resid_post"][mask])
    torch.testing.assert_close(found.matrix("blocks.0.z"), found["blocks.0.z"][mask].flatten(1))
    pattern = found["blocks.0.pattern"].movedim(2, 1)[mask].flatten(1)
    torch.testing.assert_close(found.matrix("blocks.0.pattern"), pattern)
    part = "blocks.0.z[position=2:5]"
    torch.testing.assert_close(found.matrix(part), found[part][mask[:, 2:5]].flatten(1))
    assert "positions are padding" in repr(found)
    assert torch.equal(found.select("blocks.0.*").attention_mask, mask)


def test_what_a_padding_token_holds_changes_no_row(padded):
    model, inputs = padded
    other = {**inputs, "input_ids": torch.where(inputs["attention_mask"].bool(), inputs["input_ids"], 1)}
    site = "blocks.1.resid_post"
    assert not torch.equal(model.capture(inputs, site)[site], model.capture(other, site)[site])
    torch.testing.assert_close(model.capture(inputs, site).matrix(site), model.capture(other, site).matrix(site))


@pytest.mark.parametrize("batch_size", [None, 1, 2, 4])
def test_a_store_keeps_the_mask_whichever_batches_hold_padding(padded, tmp_path, batch_size):
    model, inputs = padded
    found = model.capture(inputs, SITES[:2])
    store = model.capture(inputs, SITES[:2], batch_size=batch_size, to=tmp_path / "store")
    store = ActivationStore.open(tmp_path / "store") if store is None else store
    assert list(store) == list(found)
    assert torch.equal(store.attention_mask, inputs["attention_mask"].bool())
    for site in store:
        torch.testing.assert_close(store.matrix(site), found.matrix(site))
    site = "blocks.1.resid_post"
    in_order = torch.cat(list(store.batches(site, 5, shuffle=False)))
    torch.testing.assert_close(in_order, found.matrix(site))
    shuffled = torch.cat(list(store.batches(site, 5, seed=1)))
    torch.testing.assert_close(shuffled.sort(0).values, found.matrix(site).sort(0).values)


def test_without_padding_nothing_is_left_out(padded):
    model, inputs = padded
    whole = {**inputs, "attention_mask": torch.ones_like(inputs["attention_mask"])}
    found = model.capture(whole, "blocks.1.resid_post")
    assert found.attention_mask is None
    assert len(found.matrix("blocks.1.resid_post")) == inputs["input_ids"].numel()


def test_the_mask_of_a_source_text_says_nothing_of_a_decoder():
    mask = torch.tensor([[True, False]])
    assert rows_kept("decoder.blocks.0.resid_post", ("sample", "position", "unit"), (1, 2, 3), mask) is None
    assert rows_kept("blocks.0.resid_post", ("sample", "position", "unit"), (1, 7, 3), mask) is None
    assert rows_kept("blocks.0.resid_post", ("sample", "unit"), (1, 3), mask) is None
    time_first = rows_kept("h", ("position", "sample", "unit"), (2, 1, 3), mask)
    assert time_first.tolist() == [True, False]


SWEEP = {"sites": "blocks.*.z", "by": ("head",)}
READS_A_POSITION = {
    "patching": lambda model, inputs, metric: nm.ActivationPatcher(model, metric).sweep(
        inputs, swapped(inputs), **SWEEP
    ),
    "ablation": lambda model, inputs, metric: nm.AblationStudy(model, metric).leave_one_out(inputs, **SWEEP),
    "attribution": lambda model, inputs, metric: nm.attribute(
        model, inputs, metric, at="blocks.0.resid_post", n_steps=2
    ),
    "edges": lambda model, inputs, metric: nm.PathAnalyzer(model, metric).edges(inputs, swapped(inputs)),
    "lens": nm.logit_lens,
    "direct": nm.direct_logit_attribution,
    "features": lambda model, inputs, metric: nm.feature_effects(
        model, BothSigns(), inputs, metric, site="blocks.0.resid_post", features=[0, 1]
    ),
}


class BothSigns:
    def encode(self, x):
        return torch.relu(torch.cat([x, -x], -1))

    def decode(self, features):
        positive, negative = features.chunk(2, -1)
        return positive - negative


def swapped(inputs):
    return {**inputs, "input_ids": inputs["input_ids"].flip(1)}


@pytest.mark.parametrize("name", READS_A_POSITION)
def test_a_metric_that_reads_padding_is_refused(padded, name):
    model, inputs = padded
    with pytest.raises(nm.errors.InputError, match="reads padding in 2 of 9 samples"):
        READS_A_POSITION[name](model, inputs, nm.logit_difference(3, 5))
    last = inputs["attention_mask"].sum(1) - 1
    READS_A_POSITION[name](model, inputs, nm.logit_difference(3, 5, position=last))


def test_the_mean_activity_of_a_feature_is_that_on_tokens(padded):
    model, inputs = padded
    mask = inputs["attention_mask"]
    metric = nm.log_probability(3, position=mask.sum(1) - 1)
    effects = nm.feature_effects(model, BothSigns(), inputs, metric, site="blocks.0.resid_post", features=[0, 1])
    tokens = model.capture(inputs, "blocks.0.resid_post")["blocks.0.resid_post"][mask.bool()]
    torch.testing.assert_close(torch.as_tensor(effects.data["activity"].values).float(), tokens[:, :2].relu().mean(0))


def read_at_last_token(inputs):
    return nm.log_probability(3, position=inputs["attention_mask"].sum(1) - 1)


@pytest.mark.parametrize("method", ["mean", "position_mean"])
def test_what_a_padding_token_holds_changes_no_mean_ablation(padded, method):
    model, inputs = padded
    other = {**inputs, "input_ids": torch.where(inputs["attention_mask"].bool(), inputs["input_ids"], 1)}
    found = [
        nm.AblationStudy(model, read_at_last_token(one), method=method).leave_one_out(one, "blocks.*.z", by=("head",))
        for one in (inputs, other)
    ]
    torch.testing.assert_close(*(torch.tensor(one.values.values) for one in found), atol=1e-6, rtol=0)
    assert abs(found[0].values).max() > 1e-4


def test_the_mean_of_an_ablation_is_that_of_tokens(padded):
    model, inputs = padded
    acts, mask = model.capture(inputs, "blocks.0.z"), inputs["attention_mask"].bool()
    edit = nm.Mean("blocks.0.z", acts)
    run = model.run(inputs, edits=[edit], capture="blocks.0.z").activations["blocks.0.z"]
    torch.testing.assert_close(run[0, 0], acts["blocks.0.z"][mask].mean(0))
    per_position = nm.Mean("blocks.0.z[head=1]", acts, over=("sample",))
    run = model.run(inputs, edits=[per_position], capture="blocks.0.z").activations["blocks.0.z"]
    torch.testing.assert_close(run[0, -1, 1], acts["blocks.0.z"][mask[:, -1], -1, 1].mean(0))


def test_where_everything_is_padding_the_plain_mean_is_put(padded):
    model, inputs = padded
    mask = inputs["attention_mask"].clone()
    mask[:, -1] = 0
    acts = model.capture({**inputs, "attention_mask": mask}, "blocks.0.z")
    edit = nm.Mean("blocks.0.z", acts, over=("sample",))
    run = model.run(inputs, edits=[edit], capture="blocks.0.z").activations["blocks.0.z"]
    torch.testing.assert_close(run[0, -1], acts["blocks.0.z"][:, -1].mean(0))
