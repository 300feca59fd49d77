"""A dictionary spliced into a model changes nothing until a part is edited, and then exactly what algebra says."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.causal.interventions import measure
from neuros_mechint.core.errors import InputError, SiteError
from neuros_mechint.core.outputs import logits_of
from tests.conformance.architectures import ARCHITECTURES
from tests.conformance.test_hooks_left_behind import PlantedError, assert_unchanged, boom, snapshot
from tests.truth.spliced_dictionaries import HandMade, spliced

ROUNDING = 1e-5
SEEDS = range(3)


def logits(model, inputs, edits=()):
    return logits_of(model.run(inputs, edits=list(edits)).output)


@pytest.mark.parametrize("name", ["GPT2", "Llama", "GPTNeoX", "BERT", "BLOOM", "Mixtral"])
@pytest.mark.parametrize("seed", SEEDS)
def test_with_all_features_and_the_error_kept_the_logits_are_those_of_the_model(name, seed):
    plain, model, dictionary, inputs, site = spliced(name, seed=seed)
    expected = logits(plain, inputs)
    run = model.run(inputs, capture=[site, f"{site}.sae.*"])
    assert torch.equal(logits_of(run.output), expected)
    features = run.activations[f"{site}.sae.features"]
    torch.testing.assert_close(features, dictionary.encode(run.activations[site]).detach())
    for edit in (
        nm.Replace(f"{site}.sae.features", features),
        nm.Apply(f"{site}.sae.error", torch.clone),
        nm.Scale(f"{site}.sae.reconstruction", 1.0),
    ):
        assert float((logits(model, inputs, [edit]) - expected).abs().max()) <= ROUNDING * float(expected.abs().max())


@pytest.mark.parametrize("name", ["GPT2", "BERT"])
def test_without_the_error_the_site_holds_the_reconstruction(name):
    plain, model, dictionary, inputs, site = spliced(name)
    rebuilt = dictionary.decode(dictionary.encode(plain.capture(inputs, site)[site])).detach()
    run = model.run(inputs, edits=[nm.Zero(f"{site}.sae.error")], capture=[site])
    torch.testing.assert_close(run.activations[site], rebuilt)
    torch.testing.assert_close(logits_of(run.output), logits(plain, inputs, [nm.Replace(site, rebuilt)]))
    assert float((logits_of(run.output) - logits(plain, inputs)).abs().max()) > 0.01  # this error mattered


@pytest.mark.parametrize("feature", [0, 5, 11])
def test_an_edited_feature_moves_the_site_along_its_decoder_row_and_leaves_the_error(feature):
    _, model, dictionary, inputs, site = spliced("GPT2")
    before = model.capture(inputs, [site, f"{site}.sae.*"])
    name = f"{site}.sae.features[feature={feature}, position=2]"
    run = model.run(inputs, edits=[nm.Replace(name, 3.0)], capture=[site, f"{site}.sae.*"])
    moved = run.activations[site] - before[site]
    expected = torch.zeros_like(moved)
    own = before[f"{site}.sae.features"][:, 2, feature]
    expected[:, 2] = ((3.0 - own)[:, None] * dictionary.D[feature]).detach()
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(run.activations[f"{site}.sae.error"], before[f"{site}.sae.error"])
    after = run.activations[f"{site}.sae.features"]
    assert torch.equal(after[:, 2, feature], torch.full_like(own, 3.0))  # what was set, not encoded anew


def test_parts_edited_together_add_up_and_the_site_itself_is_edited_before_them():
    plain, model, dictionary, inputs, site = spliced("GPT2")
    x = plain.capture(inputs, site)[site] + 0.5
    features = dictionary.encode(x)
    expected = (dictionary.decode(2 * features) - 0.25 * (x - dictionary.decode(features))).detach()
    edits = [nm.Scale(f"{site}.sae.error", -0.25), nm.Scale(f"{site}.sae.features", 2.0), nm.Add(site, 0.5)]
    for order in (edits, edits[::-1]):  # whatever order they are named in
        found = model.run(inputs, edits=order, capture=site).activations[site]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_gradients_are_those_of_the_site_seen_through_the_decoder():
    plain, model, dictionary, inputs, site = spliced("GPT2")

    def metric(output):
        return logits_of(output)[:, -1, 3]

    host = plain.gradients(inputs, site, metric)[site]
    found = model.gradients(inputs, [f"{site}.sae.*", "blocks.0.resid_post"], metric)
    torch.testing.assert_close(found[f"{site}.sae.features"], (host @ dictionary.D.T).detach())
    torch.testing.assert_close(found[f"{site}.sae.error"], host)
    torch.testing.assert_close(
        found["blocks.0.resid_post"], plain.gradients(inputs, "blocks.0.resid_post", metric)["blocks.0.resid_post"]
    )


def test_the_gradient_at_a_feature_is_the_slope_of_its_edit():
    _, model, _, inputs, site = spliced("GPT2")

    def metric(output):
        return logits_of(output)[:, -1, 3]

    gradient = model.gradients(inputs, f"{site}.sae.features", metric)[f"{site}.sae.features"][:, -1, 4]
    name, step = f"{site}.sae.features[feature=4, position=-1]", 1e-2
    up, down = (metric(model.run(inputs, edits=[nm.Add(name, sign * step)]).output) for sign in (1, -1))
    torch.testing.assert_close((up - down) / (2 * step), gradient, rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["GPT2", "Llama", "BERT", "GPTNeoX"])
@pytest.mark.parametrize("site", ["blocks.1.resid_post", "blocks.0.mlp_out", "blocks.0.resid_pre", "blocks.0.z"])
def test_every_engine_gives_the_numbers_of_the_loop(name, site):
    _, model, _, inputs, site = spliced(name, site)
    donors = {key: value.flip(0) for key, value in inputs.items()} if isinstance(inputs, dict) else inputs.flip(0)
    donated = model.capture(donors, f"{site}.sae.*")
    features = f"{site}.sae.features"
    interventions = [
        [],
        *([nm.Replace(f"{features}[position={p}]", donated[features][:, p])] for p in (0, 2, -1)),
        *([nm.Zero(f"{features}[feature={feature}]")] for feature in (0, 3, 7)),
        [nm.Zero(f"{site}.sae.error")],
        [nm.Scale(f"{site}.sae.reconstruction[position=1:3]", 0.5)],
        [nm.Scale(features, 2.0), nm.Zero(f"{site}.sae.error[position=2]"), nm.Add(f"{site}[position=1]", 0.3)],
        [nm.Zero(features), nm.Scale("blocks.0.mlp_out", 1.5)],
    ]
    metric = nm.logit_difference(1, 2) if ARCHITECTURES[name].causal else lambda output: logits_of(output)[:, -1, 1]
    expected = measure(model, inputs, interventions, metric, engine="loop")
    acting = (expected.values - expected.baseline).abs().amax(1) > 1e-6
    assert int(acting.sum()) >= 5  # a feature may be silent, and an early position out of reach of the last block
    for engine in ("batched", "suffix"):
        found = measure(model, inputs, interventions, metric, engine=engine)
        assert found.engine == engine
        torch.testing.assert_close(found.values, expected.values, atol=1e-5, rtol=1e-5)


def test_a_sweep_takes_features_apart():
    _, model, _, inputs, site = spliced("GPT2")
    patcher = nm.ActivationPatcher(model, nm.logit_difference(1, 2))
    other = {key: value.flip(0) for key, value in inputs.items()} if isinstance(inputs, dict) else inputs.flip(0)
    effects = patcher.sweep(inputs, other, sites=f"{site}.sae.features", by=("feature",))
    assert effects.values.dims[:2] == ("site", "feature")
    donor, edited = model.capture(inputs, f"{site}.sae.features")[f"{site}.sae.features"], []
    for feature in (0, 6):
        edits = [nm.Replace(f"{site}.sae.features[feature={feature}]", donor[..., feature])]
        edited.append(float(nm.logit_difference(1, 2)(model.run(other, edits=edits).output).mean()))
    found = effects.values.isel(site=0, feature=[0, 6]).values
    torch.testing.assert_close(torch.as_tensor(found).float(), torch.tensor(edited), atol=1e-5, rtol=1e-5)


def test_an_attribution_to_features_adds_up():
    _, model, _, inputs, site = spliced("GPT2")
    found = nm.attribute(model, inputs, nm.logit_difference(1, 2), at=f"{site}.sae.features", n_steps=50)
    whole = nm.logit_difference(1, 2)(model.run(inputs).output)
    without = nm.logit_difference(1, 2)(model.run(inputs, edits=[nm.Zero(f"{site}.sae.features")]).output)
    total = torch.as_tensor(found.data["attribution"].sum(["position", "feature"]).values)
    torch.testing.assert_close(total.float(), (whole - without).float(), rtol=0.02, atol=1e-3)


def test_the_parts_are_those_of_saelens_on_the_same_transformer():
    from sae_lens import HookedSAETransformer, StandardSAE, StandardSAEConfig
    from transformer_lens import HookedTransformerConfig

    settings = {"n_layers": 2, "d_model": 16, "n_ctx": 8, "d_head": 4, "n_heads": 4, "d_vocab": 11, "act_fn": "gelu"}
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the class, in favour of one SAELens does not take
        torch.manual_seed(0)
        hooked = HookedSAETransformer(HookedTransformerConfig(**settings)).eval()
        tokens = torch.randint(0, 11, (3, 8))
        for native, site, width in (
            ("blocks.0.hook_resid_post", "blocks.0.resid_post", 16),
            ("blocks.1.attn.hook_z", "blocks.1.z", 16),
        ):
            sae = StandardSAE(StandardSAEConfig(d_in=width, d_sae=40, reshape_activations="none"))
            nn.init.normal_(sae.W_enc, std=0.3)
            sae.cfg.metadata.hook_name = native
            if native.endswith("hook_z"):
                sae.cfg.reshape_activations = "hook_z"
            theirs_sae = sae
            sae_for_us = StandardSAE(StandardSAEConfig(d_in=width, d_sae=40))
            sae_for_us.load_state_dict(sae.state_dict())
            if native.endswith("hook_z"):
                theirs_sae.turn_on_forward_pass_hook_z_reshaping()
            output, cache = hooked.run_with_cache_with_saes(tokens, saes=[theirs_sae], use_error_term=True)
            model = nm.adapt(hooked).with_sae(sae_for_us, native)
            ours = model.run(tokens, capture=[f"{native}.hook_sae_acts_post", f"{site}.sae.error"])
            torch.testing.assert_close(ours.output, output)
            torch.testing.assert_close(
                ours.activations[f"{site}.sae.features"], cache[f"{native}.hook_sae_acts_post"].detach()
            )


def test_states_of_a_recurrent_network_and_channels_of_a_convolution():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        recurrent, x = nm.adapt(nn.GRU(3, 6, batch_first=True).eval()), torch.randn(4, 5, 3)
        convolution, images = (
            nm.adapt(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten())),
            torch.randn(2, 3, 5, 5),
        )
    dictionary = HandMade(6, 10)
    model = recurrent.with_sae(dictionary, "hidden")
    states = model.capture(x, ["hidden", "hidden.sae.features"])
    assert states.dims("hidden.sae.features") == ("sample", "time", "feature")
    torch.testing.assert_close(states["hidden.sae.features"], dictionary.encode(states["hidden"]).detach())
    edited = model.run(x, edits=[nm.Zero("hidden.sae.features[feature=2, time=-1]")], capture="hidden").activations
    own = states["hidden.sae.features"][:, -1, 2]
    torch.testing.assert_close(
        edited["hidden"][:, -1], (states["hidden"][:, -1] - own[:, None] * dictionary.D[2]).detach()
    )
    assert torch.equal(edited["hidden"][:, :-1], states["hidden"][:, :-1])

    model = convolution.with_sae(dictionary, "0")
    found = model.capture(images, ["0", "0.sae.features", "0.sae.reconstruction"])
    assert found.dims("0.sae.features") == ("sample", "feature", "height", "width")
    pixels = found["0"].movedim(1, -1)
    torch.testing.assert_close(found["0.sae.features"].movedim(1, -1), dictionary.encode(pixels).detach())
    assert found.matrix("0.sae.features").shape == (2 * 3 * 3, 10)  # a dictionary sees one place at a time


def test_a_continuation_is_steered_by_features():
    plain, model, dictionary, inputs, site = spliced("GPT2")
    ids = inputs["input_ids"] if isinstance(inputs, dict) else inputs
    kept = model.generate(ids, edits=[nm.Scale(f"{site}.sae.features", 1.0)], max_new_tokens=4)
    assert torch.equal(kept, plain.generate(ids, max_new_tokens=4))
    steered = model.generate(ids, edits=[nm.Add(f"{site}.sae.features[feature=1]", 40.0)], max_new_tokens=4)
    along = plain.generate(ids, edits=[nm.Add(site, (40.0 * dictionary.D[1]).detach())], max_new_tokens=4)
    assert torch.equal(steered, along)
    assert not torch.equal(steered, kept)


def test_names_and_tables():
    plain, model, _, inputs, site = spliced("GPT2")
    table = model.sites("*.sae.*")
    assert list(table) == [f"{site}.sae.{part}" for part in ("features", "error", "reconstruction")]
    assert table[f"{site}.sae.features"].dims == ("sample", "position", "feature")
    assert not [name for name in plain.sites() if ".sae." in name]  # the adapter it came from stays as it was
    assert model.fingerprint().startswith(plain.fingerprint())
    other = plain.with_sae(HandMade(model.sites()[site].shape[-1], 4, seed=9), site)
    assert len({plain.fingerprint(), model.fingerprint(), other.fingerprint()}) == 3
    with pytest.raises(SiteError, match="did you mean"):
        model.capture(inputs, f"{site}.sae.feature")
    with pytest.raises(SiteError, match="sae"):
        plain.capture(inputs, f"{site}.sae.features")


def test_what_does_not_fit_is_refused():
    plain, model, dictionary, _, site = spliced("GPT2")
    width = plain.sites()[site].shape[-1]
    with pytest.raises(InputError, match=f"does not take activations of {width} units"):
        plain.with_sae(HandMade(width + 1, 8), site)
    with pytest.raises(InputError, match="no dictionary"):
        plain.with_sae(nn.Linear(width, width), site)
    with pytest.raises(InputError, match="has none yet"):
        model.with_sae(dictionary, site)
    with pytest.raises(InputError, match="whole site"):
        plain.with_sae(dictionary, f"{site}[position=1]")
    with pytest.raises(SiteError):
        plain.with_sae(dictionary, "blocks.9.resid_post")


def test_features_that_depend_on_other_rows_are_refused():
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig

    plain, _, _, _, site = spliced("GPT2")
    width = plain.sites()[site].shape[-1]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=width, d_sae=3 * width, k=4))
    with pytest.raises(InputError, match="depend on the other rows"):
        plain.with_sae(sae, site)


def test_a_dictionary_of_another_model_or_place_is_said():
    plain, _, _, _, site = spliced("GPT2")
    stranger = HandMade(plain.sites()[site].shape[-1], 8)
    stranger.model_fingerprint, stranger.site = "of another model", site
    with pytest.warns(UserWarning, match="another model"):
        plain.with_sae(stranger, site)
    stranger.model_fingerprint = plain.fingerprint()
    with pytest.warns(UserWarning, match=r"blocks\.1\.resid_post"):
        plain.with_sae(stranger, "blocks.0.resid_post")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain.with_sae(stranger, site)


def test_an_error_in_an_edit_of_features_leaves_nothing_behind():
    _, model, _, inputs, site = spliced("GPT2")
    before = snapshot(model.module)
    with pytest.raises(PlantedError):
        model.run(inputs, edits=[nm.Apply(f"{site}.sae.features", boom)])
    assert_unchanged(before, model.module)


def test_a_module_of_the_model_that_is_called_sae_keeps_its_name():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.sae = nn.Linear(3, 4), nn.ModuleDict({"features": nn.Linear(4, 4)})

        def forward(self, x):
            return self.sae["features"](self.first(x))

    model = nm.adapt(nn.Sequential(Named())).with_sae(HandMade(4, 6), "0.first")
    found = model.capture(torch.ones(2, 3), ["0.sae.features", "0.first.sae.features"])
    assert found["0.sae.features"].shape == (2, 4)
    assert found["0.first.sae.features"].shape == (2, 6)
