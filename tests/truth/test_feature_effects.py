"""A feature matters where its removal moves the metric: not where it is merely active."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError
from tests.truth.spliced_dictionaries import HandMade, spliced

SEEDS = range(3)
WIDTH, N_FEATURES, CAUSAL, DECOY = 12, 12, 3, 7


class Planted(nn.Module):
    """An orthonormal dictionary, of which the network behind it reads one feature."""

    def __init__(self, seed):
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.directions = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=random))[0].T
        self.random = random

    def encode(self, x):
        return torch.relu(x @ self.directions.T)

    def decode(self, feature_acts):
        return feature_acts @ self.directions

    def network(self):
        """Return ``y = 2 relu(c . x) + small``, with the decoy out of what it reads."""
        network = nn.Sequential(nn.Identity(), nn.Linear(WIDTH, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
        others = torch.randn(N_FEATURES, generator=self.random) * 0.05
        others[[CAUSAL, DECOY]] = 0
        network[1].weight.data = torch.stack([self.directions[CAUSAL], others @ self.directions])
        network[1].bias.data.zero_()
        network[3].weight.data = torch.tensor([[2.0, 1.0]])
        return network

    def inputs(self, n_samples=40):
        """Return sums of sparse features, the decoy the largest by far, with noise the dictionary does not hold."""
        codes = torch.rand(n_samples, N_FEATURES, generator=self.random)
        codes *= torch.rand(n_samples, N_FEATURES, generator=self.random) < 0.4
        codes[:, DECOY] *= 10
        return codes @ self.directions, codes


def output(values):
    return values[:, 0]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_planted_feature_is_first_and_an_active_decoy_is_not(seed):
    planted = Planted(seed)
    x, codes = planted.inputs()
    effects = nm.feature_effects(nm.adapt(planted.network()), planted, x, output, site="0")
    table = effects.ranked()
    assert table["feature"][0] == CAUSAL
    assert int(effects.data["activity"].values.argmax()) == list(effects.data["feature"]).index(DECOY)
    found = effects.data.sel(site="0", feature=CAUSAL)
    np.testing.assert_allclose(found["effect"], -2 * codes[:, CAUSAL].mean(), rtol=1e-5)
    assert found["p_adjusted"] < 0.01
    assert found["p_matched"] == pytest.approx(1 / len(table))  # no feature of like size does as much
    decoy = effects.data.sel(site="0", feature=DECOY)
    assert abs(float(decoy["effect"])) < 1e-6
    assert decoy["p_adjusted"] > 0.5
    np.testing.assert_allclose(effects.data["magnitude"].sel(feature=DECOY), codes[:, DECOY].mean(), rtol=1e-5)


@pytest.mark.parametrize("factor", [0.0, 2.0, -1.0])
def test_effects_are_those_of_one_run_per_feature_with_the_error_kept(factor):
    plain, _, dictionary, inputs, site = spliced("GPT2")
    metric = nm.logit_difference(1, 2)
    effects = nm.feature_effects(plain, dictionary, inputs, metric, site=site, factor=factor)
    x = plain.capture(inputs, site)[site]
    codes, clean = dictionary.encode(x).detach(), metric(plain.run(inputs).output)
    for feature in effects.ranked()["feature"][:4]:
        change = (factor - 1) * codes[..., feature, None] * dictionary.D[feature].detach()
        by_hand = metric(plain.run(inputs, edits=[nm.Add(site, change)]).output) - clean
        found = effects.data["per_sample"].sel(site=site, feature=feature)
        torch.testing.assert_close(torch.as_tensor(found.values).float(), by_hand, atol=1e-5, rtol=1e-3)
    if factor == 0:
        error = x - dictionary.decode(codes).detach() + dictionary.c.detach()
        alone = metric(plain.run(inputs, edits=[nm.Replace(site, error)]).output)
        torch.testing.assert_close(torch.as_tensor(effects.data["error_only"].values).float(), alone)


def test_where_nothing_reads_the_site_nothing_is_found():
    planted = Planted(0)
    network = planted.network()
    network[3].weight.data.zero_()
    x, _ = planted.inputs()
    effects = nm.feature_effects(nm.adapt(network), planted, x, output, site="0")
    assert (effects.values == 0).all()
    assert (effects.data["p"] == 1).all()
    assert effects.data["share"].isnull().all()
    assert any("does not move the metric" in warning for warning in effects.warnings)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_dictionary_explains_little_and_says_so(seed):
    planted, stranger = Planted(seed), HandMade(WIDTH, 2, seed)
    x, _ = planted.inputs()
    effects = nm.feature_effects(nm.adapt(planted.network()), stranger, x, output, site="0")
    clean, without = float(effects.data["baseline"].mean()), float(effects.data["without_error"].mean())
    assert abs(without - clean) > 0.1 * abs(clean)  # the error carries what the model uses
    assert "without the error" in effects.summary()


def test_silent_features_are_counted_and_need_no_run():
    planted = Planted(0)
    x, codes = planted.inputs()
    x = x - codes[:, :1] * planted.directions[0]
    effects = nm.feature_effects(nm.adapt(planted.network()), planted, x, output, site="0", features=[1, CAUSAL])
    assert list(effects.data["feature"].values) == [1, CAUSAL]
    assert "silent" in effects.summary()


def test_steering_along_a_feature_is_its_dose():
    plain, model, dictionary, inputs, site = spliced("GPT2")
    metric = nm.logit_difference(1, 2)
    steered = model.run(inputs, edits=[nm.Add(f"{site}.sae.features[feature=2]", 3.0)]).output
    along = plain.run(inputs, edits=[nm.Add(site, (3.0 * dictionary.D[2]).detach())]).output
    torch.testing.assert_close(metric(steered), metric(along), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"features": [0, 0]}, InputError, "no features"),
        ({"features": [99]}, InputError, "from 0 to 11"),
        ({"features": []}, InputError, "at least one"),
        ({"factor": 1.0}, OptionError, "changes nothing"),
        ({"site": None}, InputError, "where does this dictionary belong"),
        ({"correction": "bonferoni"}, OptionError, "correction"),
    ],
)
def test_what_makes_no_sense_is_refused(change, error, match):
    planted = Planted(0)
    x, _ = planted.inputs()
    with pytest.raises(error, match=match):
        nm.feature_effects(nm.adapt(planted.network()), planted, x, output, **{"site": "0", **change})


def test_inputs_on_which_every_feature_is_silent_are_refused():
    planted = Planted(0)
    with pytest.raises(InputError, match="no feature is active"):
        nm.feature_effects(nm.adapt(planted.network()), planted, torch.zeros(3, WIDTH), output, site="0")


def test_a_recording_cannot_be_spliced():
    recording = nm.adapt(nm.Recording(np.random.default_rng(0).normal(size=(4, 3)), dims=("stimulus", "unit")))
    with pytest.raises(CapabilityError):
        nm.feature_effects(recording, Planted(0), torch.zeros(3, WIDTH), output, site="0")
