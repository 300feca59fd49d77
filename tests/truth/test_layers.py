"""Autoencoders of several sites from one pass: the same as one at a time, whoever trains them."""

from __future__ import annotations

import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError
from tests.conformance.architectures import ARCHITECTURES

SETTINGS = {"k": 3, "epochs": 2, "batch_size": 64}


@pytest.fixture(scope="module")
def model_and_inputs():
    module, inputs = ARCHITECTURES["GPT2"].build()
    ids = torch.randint(0, 20, (80, inputs["input_ids"].shape[1]), generator=torch.Generator().manual_seed(0))
    return nm.adapt(module), {"input_ids": ids}


def test_the_model_runs_once_per_batch_and_each_site_gets_its_own(model_and_inputs, tmp_path):
    model, inputs = model_and_inputs
    calls: list[int] = []
    handle = model.module.register_forward_hook(lambda *_: calls.append(1))
    model.sites()
    calls.clear()
    first = model.module.transformer.wte.register_forward_hook(lambda *_: calls.append(1))
    try:
        saes = nm.fit_layers(
            model, inputs, "blocks.*.resid_post", 32, tmp_path / "store", capture_batch_size=20, **SETTINGS
        )
    finally:
        handle.remove()
        first.remove()
    assert len(calls) == 4  # 80 samples, 20 at a time: no second pass for the second site
    assert list(saes) == list(model.sites("blocks.*.resid_post"))
    for site, sae in saes.items():
        assert sae.site == site
        assert sae.model_fingerprint == model.fingerprint()
        alone = nm.SparseAutoencoder(32, seed=sae.seed, progress=False, **SETTINGS)
        alone.fit(nm.ActivationStore.open(tmp_path / "store"), site)
        assert torch.equal(alone.decoder, sae.decoder)
        spliced = model.with_sae(sae, site)  # says nothing: it belongs there
        assert f"{site}.sae.features" in spliced.sites()


@pytest.mark.slow
def test_workers_change_nothing(model_and_inputs, tmp_path):
    model, inputs = model_and_inputs
    alone, together = (
        nm.fit_layers(model, inputs, "blocks.*.mlp_out", 16, tmp_path / f"{n}", n_jobs=n, seed=4, **SETTINGS)
        for n in (1, 2)
    )
    assert len({sae.seed for sae in alone.values()}) == len(alone)
    for site in alone:
        torch.testing.assert_close(alone[site].decoder, together[site].decoder)


def test_padding_is_not_trained_on(model_and_inputs, tmp_path):
    model, inputs = model_and_inputs
    mask = torch.ones_like(inputs["input_ids"])
    mask[:, -2:] = 0
    padded = {**inputs, "attention_mask": mask}
    other = {**padded, "input_ids": torch.where(mask.bool(), inputs["input_ids"], 1)}
    site = "blocks.0.resid_post"
    saes = [
        nm.fit_layers(model, one, site, 16, tmp_path / f"{rank}", **SETTINGS)[site]
        for rank, one in enumerate((padded, other))
    ]
    torch.testing.assert_close(saes[0].decoder, saes[1].decoder)


def test_widths_must_be_given_for_the_sites(model_and_inputs, tmp_path):
    model, inputs = model_and_inputs
    with pytest.raises(InputError, match="n_features is not given"):
        nm.fit_layers(model, inputs, "blocks.*.mlp_out", {"blocks.0.mlp_out": 16}, tmp_path / "store")
