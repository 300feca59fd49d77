"""Every kind of bad input the package foresees: a typed error that says what was expected and what to do."""

from __future__ import annotations

import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint import errors


@pytest.fixture(scope="module")
def transformer():
    return nm.adapt(nm.load_model("induction"))


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(1, 64, (3, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("obj", ["gpt2", {"weights": 1}, 3.0, np.zeros(3), None])
def test_an_unknown_kind_of_model(obj):
    with pytest.raises(errors.UnknownModelError, match=r"expected: .*HuggingFace"):
        nm.adapt(obj)


def test_a_name_is_no_model_and_the_error_says_so():
    with pytest.raises(errors.UnknownModelError, match="load the model and pass the object"):
        nm.adapt("gpt2")


def test_an_unknown_option_of_an_adapter():
    with pytest.raises(errors.OptionError, match="did you mean 'example'"):
        nm.adapt(torch.nn.Linear(2, 2), exampel=torch.zeros(1, 2))


def test_an_unknown_site_names_near_ones(transformer, tokens):
    with pytest.raises(errors.SiteError, match=r"did you mean 'blocks\.1\.resid_post'"):
        transformer.capture(tokens, "blocks.1.resid_pst")


def test_a_pattern_that_matches_nothing(transformer, tokens):
    with pytest.raises(errors.SiteError, match="no site"):
        transformer.capture(tokens, "layers.*.output")


def test_a_withheld_site_gives_its_reason(transformer, tokens):
    with pytest.raises(errors.SiteWithheldError, match="no MLP"):
        transformer.capture(tokens, "blocks.0.mlp_out")


@pytest.mark.parametrize(
    ("site", "message"),
    [
        ("blocks.0.z[haed=1]", "did you mean 'head'"),
        ("blocks.0.z[time=1]", "no axis 'time'"),
        ("blocks.0.z[head=4]", "between -4 and 3"),
        ("blocks.0.z[position=-10]", "between -9 and 8"),
        ("blocks.0.z[head=1.5]", "cannot read the index"),
        ("blocks.0.z[head=1", "not closed"),
        ("blocks.0.z[position=5:5]", "selects nothing"),
    ],
)
def test_a_wrong_index(transformer, tokens, site, message):
    with pytest.raises(errors.SiteError, match=message):
        transformer.capture(tokens, site)
    with pytest.raises(errors.SiteError, match=message):
        transformer.run(tokens, edits=nm.Zero(site))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(3, 9), "could not run on these inputs"),
        (torch.full((3, 9), 64), "could not run on these inputs"),
        (torch.zeros(0, 9, dtype=torch.int64), "empty"),
        ("strings", "need a tokenizer"),
        (5, "cannot be given"),
        ((), "no array"),
    ],
)
def test_inputs_of_the_wrong_kind(transformer, inputs, message):
    with pytest.raises(errors.InputError, match=message):
        transformer.run(inputs)


def test_inputs_of_the_wrong_shape_name_the_shape():
    model = nm.adapt(torch.nn.Linear(3, 2))
    with pytest.raises(errors.InputError, match=r"float32 \(4, 5\)"):
        model.run(torch.zeros(4, 5))


def test_inputs_that_are_not_finite():
    model = nm.adapt(torch.nn.Linear(3, 2))
    with pytest.raises(errors.InputError, match="NaN or infinity"):
        model.run(torch.tensor([[1.0, float("nan"), 0.0]]))


@pytest.mark.parametrize(
    "edit",
    [
        nm.Replace("blocks.0.z", torch.zeros(3, 9, 4, 15)),
        nm.Replace("blocks.0.z[head=1]", torch.zeros(3, 9, 4, 16)),
        nm.Add("blocks.0.resid_pre", torch.zeros(63)),
        nm.Project("blocks.0.resid_pre", torch.zeros(2, 63) + torch.eye(2, 63)),
        nm.Apply("blocks.0.resid_pre", lambda x: x[..., :5]),
        nm.Mean("blocks.0.resid_pre", torch.zeros(3, 64)),
    ],
    ids=lambda edit: type(edit).__name__,
)
def test_an_edit_of_the_wrong_shape(transformer, tokens, edit):
    with pytest.raises(errors.InputError, match="expected"):
        transformer.run(tokens, edits=edit)


def test_something_that_is_no_edit(transformer, tokens):
    with pytest.raises(errors.InputError, match=r"nm\.Zero"):
        transformer.run(tokens, edits=[("blocks.0.z", 0)])


def test_sites_and_edits_that_are_no_list(transformer, tokens):
    with pytest.raises(errors.InputError, match="sites are no list"):
        transformer.capture(tokens, None)
    with pytest.raises(errors.InputError, match="edits are no list"):
        transformer.run(tokens, edits=None)


def test_inputs_with_a_mask():
    model = nm.adapt(torch.nn.Linear(3, 2))
    with pytest.raises(errors.InputError, match="has a mask"):
        model.run(np.ma.masked_array(np.ones((2, 3)), [[0, 1, 0], [0, 0, 0]]))


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True])
def test_a_bad_batch_size(transformer, tokens, batch_size):
    with pytest.raises(errors.InputError, match="batch_size"):
        transformer.run(tokens, batch_size=batch_size)


def test_a_disk_that_is_too_small(transformer, tokens, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12, 1000))
    with pytest.raises(errors.StorageError, match="free"):
        transformer.capture(tokens, "blocks.*.resid_post", to=tmp_path / "store")


def test_a_store_that_was_left_half_written(transformer, tokens, tmp_path):
    class StoppedError(Exception):
        pass

    calls = []

    def stop(values):
        calls.append(1)
        if len(calls) > 2:
            raise StoppedError
        return values

    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model = nm.adapt(network)
    inputs = torch.arange(10.0).reshape(5, 2)
    handle = network[1].register_forward_hook(lambda module, args, output: stop(output))
    with pytest.raises(StoppedError):
        model.capture(inputs, "0", batch_size=1, to=tmp_path / "store")
    handle.remove()
    with pytest.raises(errors.StorageError, match="2"):
        nm.ActivationStore.open(tmp_path / "store")
    resumed = model.capture(inputs, "0", batch_size=1, to=tmp_path / "store")
    torch.testing.assert_close(resumed["0"], network[0](inputs).detach())


def test_a_store_is_not_continued_with_other_sites(transformer, tokens, tmp_path):
    transformer.capture(tokens, "embed", to=tmp_path / "store")
    with pytest.raises(errors.StorageError):
        transformer.capture(tokens, "blocks.0.resid_pre", to=tmp_path / "store")


def test_a_capture_that_only_missed_its_last_word_is_finished(transformer, tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(nm.ActivationStore, "finish", lambda store: store.close())
    with pytest.raises(errors.StorageError, match="resume"):
        transformer.capture(tokens, "embed", to=tmp_path / "store")
    monkeypatch.undo()
    store = transformer.capture(tokens, "embed", to=tmp_path / "store")
    assert store.complete
    torch.testing.assert_close(store["embed"], transformer.capture(tokens, "embed")["embed"])


def test_an_edit_on_a_recording():
    recording = nm.Recording(np.zeros((4, 3)), dims=("stimulus", "unit"))
    with pytest.raises(errors.CapabilityError, match="can be read"):
        nm.adapt(recording).run(None, edits=nm.Zero("data"))


def test_a_metric_without_gradient(transformer, tokens):
    with pytest.raises(errors.InputError, match="does not depend"):
        transformer.gradients(tokens, "embed", lambda output: output.detach()[:, -1, 0])


@pytest.mark.parametrize("metric", [lambda output: output.sum(-1), lambda output: output[:, -1, 0] / 0])
def test_a_metric_of_the_wrong_shape_or_not_finite(transformer, tokens, metric):
    with pytest.raises(errors.InputError, match=r"axes|finite"):
        nm.ActivationPatcher(transformer, metric).sweep(tokens, tokens.flip(1), "blocks.0.resid_pre")


def test_clean_and_corrupted_that_are_no_partners(transformer, tokens):
    patcher = nm.ActivationPatcher(transformer, nm.log_probability(3))
    with pytest.raises(errors.InputError, match="not partners"):
        patcher.sweep(tokens, tokens[:, :7], "blocks.0.resid_pre")


def test_effects_are_not_normalized_by_nothing(transformer, tokens):
    effects = nm.ActivationPatcher(transformer, nm.log_probability(3)).sweep(tokens, tokens, "blocks.0.resid_pre")
    with pytest.raises(errors.InputError, match="hardly differ"):
        effects.normalized()
