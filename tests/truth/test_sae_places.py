"""Autoencoders of SAELens at the places they were trained for, and of maps, heads and paths."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError
from tests.truth.spliced_dictionaries import HandMade, spliced


def sae_lens_autoencoder(architecture="standard", width=8, site=None, **settings):
    from sae_lens.registry import SAE_CLASS_REGISTRY
    from sae_lens.saes.sae import SAEMetadata

    sae_class, config = SAE_CLASS_REGISTRY[architecture]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sae = sae_class(config(d_in=width, d_sae=2 * width, metadata=SAEMetadata(hook_name=site), **settings))
        for name in ("W_enc", "W_dec"):
            getattr(sae, name).data = torch.randn_like(getattr(sae, name)) / width**0.5
    return sae.eval()


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated"])
@pytest.mark.parametrize("normalization", ["layer_norm", "constant_norm_rescale"])
def test_a_decoder_that_remembers_what_was_encoded_is_refused(architecture, normalization):
    plain, _, _, _, site = spliced("GPT2")
    sae = sae_lens_autoencoder(architecture, 32, normalize_activations=normalization)
    before = set(vars(sae))
    with pytest.raises(InputError, match="encoded last"):
        plain.with_sae(sae, site)
    assert set(vars(sae)) == before


def test_an_autoencoder_of_heads_takes_them_in_the_shape_of_the_site():
    plain, _, _, inputs, _ = spliced("GPT2")
    z = plain.capture(inputs, "blocks.0.z")["blocks.0.z"]
    sae, alone = (
        sae_lens_autoencoder("standard", z.shape[2:].numel(), "blocks.0.attn.hook_z", reshape_activations="hook_z")
        for _ in range(2)
    )
    model = plain.with_sae(sae, "blocks.0.z")
    found = model.capture(inputs, "blocks.0.z.sae.features")["blocks.0.z.sae.features"]
    torch.testing.assert_close(found, alone.encode(z).detach())
    torch.testing.assert_close(sae(z), alone(z))  # the caller's own still takes heads


def test_the_place_that_saelens_wrote_down_is_known():
    plain, _, _, inputs, site = spliced("GPT2")
    sae = sae_lens_autoencoder("standard", 32, "blocks.0.hook_resid_post")
    with pytest.warns(UserWarning, match="trained at 'blocks.0.resid_post'"):
        plain.with_sae(sae, site)
    effects = nm.feature_effects(plain, sae, inputs, nm.log_probability(3))
    assert effects.data["site"].values.tolist() == ["blocks.0.resid_post"]


def test_a_transcoder_is_no_autoencoder_though_its_widths_agree():
    plain, _, _, _, site = spliced("GPT2")
    with pytest.raises(InputError, match="transcoder"):
        plain.with_sae(sae_lens_autoencoder("transcoder", 32, d_out=32, apply_b_dec_to_input=False), site)


def test_features_of_a_map_are_the_columns_and_places_the_rows():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    x = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    net(x)
    dictionary = HandMade(4, 6)
    model = nm.adapt(net).with_sae(dictionary, "0")
    rows = model.capture(x, "0.sae.features").matrix("0.sae.features")
    expected = dictionary.encode(net[0](x).movedim(1, -1).flatten(0, -2))
    torch.testing.assert_close(rows, expected)
    effects = nm.feature_effects(nm.adapt(net), dictionary, x, lambda output: output[:, 0], site="0", features=range(6))
    torch.testing.assert_close(torch.as_tensor(effects.data["activity"].values).float(), expected.mean(0))


def test_a_pattern_after_a_name_still_stands_for_all():
    model = nm.adapt(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    assert list(model.capture(torch.ones(2, 3), ["0", "*"])) == ["0", "1", "2"]


def test_doses_of_a_feature_are_doses_of_its_direction():
    plain, model, dictionary, inputs, site = spliced("GPT2")
    features, metric, doses = f"{site}.sae.features", nm.logit_difference(3, 5), [0.0, 1.5, 4.0]
    at_feature = nm.dose_response(model, inputs, lambda dose: nm.Add(f"{features}[feature=7]", dose), doses, metric)
    one_hot = torch.nn.functional.one_hot(torch.tensor(7), dictionary.D.shape[0]).float()
    steered = nm.steer(model, inputs, features, one_hot, doses, metric)
    along_direction = nm.steer(plain, inputs, site, dictionary.D[7].detach(), doses, metric)
    by_hand = [
        float(metric(plain.run(inputs, edits=[nm.Add(site, dictionary.D[7].detach(), scale=dose)]).output).mean())
        for dose in doses
    ]
    for curve in (at_feature, steered, along_direction):
        torch.testing.assert_close(
            torch.as_tensor(curve.values.values).flatten(), torch.tensor(by_hand).double(), rtol=1e-4, atol=1e-5
        )


def test_a_path_through_the_features_is_the_run_with_their_other_values():
    _, model, _, inputs, site = spliced("GPT2")
    corrupted = {**inputs, "input_ids": inputs["input_ids"].flip(1)}
    metric, features = nm.logit_difference(3, 5), f"{site}.sae.features"
    edges = nm.PathAnalyzer(model, metric).edges(inputs, corrupted, nodes=["blocks.0.resid_post", features, "ln_final"])
    found = edges.to_dataframe().set_index("edge")["effect"]
    other = model.capture(corrupted, features)[features]
    replaced = metric(model.run(inputs, edits=[nm.Replace(features, other)]).output)
    expected = float((metric(model.run(inputs).output) - replaced).mean())
    assert abs(expected) > 1e-3
    # all that the features know of the tokens comes through the stream before
    for edge in (f"blocks.0.resid_post->{features}", f"{features}->ln_final"):
        assert found[edge] == pytest.approx(expected, rel=1e-4)
    past_them = found["blocks.0.resid_post->ln_final"]
    kept = model.capture(inputs, features)[features]
    error_alone = metric(model.run(corrupted, edits=[nm.Replace(features, kept)]).output)
    assert past_them == pytest.approx(float((metric(model.run(inputs).output) - error_alone).mean()), rel=1e-4)


@pytest.mark.parametrize("answer", [lambda x: (x, x), lambda x: x.numpy(), lambda x: x.sum(0)])
def test_codes_that_are_no_rows_of_numbers_are_refused(answer):
    class Wrong:
        def encode(self, x):
            return answer(x)

        def decode(self, codes):
            return torch.zeros(16, 32)

    plain, _, _, _, site = spliced("GPT2")
    with pytest.raises(InputError, match="encode does not give one row for each row"):
        plain.with_sae(Wrong(), site)
