"""Causal alignment in models where one part alone carries what the planted region encodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from torch import nn

import neuros_mechint as nm
from neuros_mechint.causal.alignment.results import CausalAlignment
from neuros_mechint.causal.alignment.scoring import jackknife_interval

N_STIMULI, N_HEADS, WIDTH = 60, 6, 4
CARRIER = 2
METHODS = {
    "ridge": nm.RidgeEncoding(alphas=(0.1, 10.0, 1000.0), inner_cv=2),
    "cka": nm.CKA(),
    "rsa": nm.RSA(rdm="euclidean"),
}


class Heads(nn.Module):
    """Each part passes on stimulus variables of its own; the readout holds them side by side, ``later`` comes after."""

    def __init__(self) -> None:
        super().__init__()
        self.parts, self.readout, self.later = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x):
        return self.later(self.readout(self.parts(x)) * 2)


def unit_names(head: int, site: str = "parts") -> str:
    return f"{site}[unit={list(range(head * WIDTH, (head + 1) * WIDTH))}]"


def planted(seed: int, noise: float = 0.3):
    """Inputs, a region that encodes the variables of the carrier, and one of noise."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(N_STIMULI, N_HEADS * WIDTH))
    own = x[:, CARRIER * WIDTH : (CARRIER + 1) * WIDTH]
    region = own @ random.normal(size=(WIDTH, 15)) + noise * random.normal(size=(N_STIMULI, 15))
    return torch.as_tensor(x, dtype=torch.float32), region, random.normal(size=(N_STIMULI, 15))


@pytest.fixture(scope="module")
def model():
    return nm.adapt(Heads().eval())


PARTS = [unit_names(head) for head in range(N_HEADS)]


@pytest.mark.parametrize("name", METHODS)
def test_the_part_that_carries_the_region_is_found_and_the_others_are_not(model, name):
    for seed in range(3):
        x, region, _ = planted(seed)
        found = nm.causal_alignment(
            model, x, region, site="readout", ablate=PARTS, method=METHODS[name], seed=seed, n_controls=9
        )
        effect, p = found.values.values[:, 0], found.data["p_adjusted"].values[:, 0]
        others = np.delete(np.arange(N_HEADS), CARRIER)
        assert effect[CARRIER] == effect.min()
        assert p[CARRIER] < 0.01
        assert found.data["p_controls"].values[CARRIER, 0] == 1 / 10  # beyond all 9 random parts
        left = found.data["alignment"].values[CARRIER, 0]
        assert abs(left) < 0.35 * float(found.data["baseline"][0]) or left < 0
        # irrelevant parts are noise in the readout: without them it can only be as well aligned, or better
        assert (effect[others] > 0.2 * effect[CARRIER]).all()


def test_the_alignment_left_is_that_of_the_other_parts(model):
    x, region, _ = planted(0)
    found = nm.causal_alignment(model, x, region, site="readout", ablate=PARTS, method=nm.CKA(), n_controls=0)
    values = x.double().numpy()
    for head, left in enumerate(found.data["alignment"].values[:, 0]):
        without = np.delete(values, range(head * WIDTH, (head + 1) * WIDTH), axis=1)
        assert left == pytest.approx(nm.CKA().score(without, region), abs=1e-6)
    assert float(found.data["baseline"][0]) == pytest.approx(nm.CKA().score(values, region), abs=1e-12)


def test_what_comes_after_the_readout_changes_nothing_at_all(model):
    x, region, _ = planted(0)
    later = ["later", unit_names(CARRIER, "later")]
    found = nm.causal_alignment(model, x, region, site="readout", ablate=later, ablation="zero", method=nm.CKA()).data
    for name in ("effect", "low", "high"):
        np.testing.assert_array_equal(found[name], 0)
    np.testing.assert_array_equal(found["p"], 1)


def test_a_region_of_noise_finds_nothing(model):
    false, tests = 0, 0
    for seed in range(12):
        x, _, noise = planted(seed)
        found = nm.causal_alignment(
            model, x, noise, site="readout", ablate=PARTS, method=nm.CKA(), n_controls=0, seed=seed, correction="none"
        )
        false, tests = false + int((found.data["p"] < 0.05).sum()), tests + found.values.size
        assert any("not surely aligned" in text for text in found.warnings) or float(found.data["baseline"][0]) > 0
    assert false <= 0.125 * tests  # 72 tests: 3.6 expected, more than 9 in 1 of 200 such runs


def test_patching_from_other_inputs_moves_the_part_to_their_values(model):
    x, region, _ = planted(0)
    source = torch.as_tensor(np.random.default_rng(9).normal(size=x.shape), dtype=torch.float32)
    found = nm.causal_alignment(
        model, x, region, site="readout", ablate=PARTS[CARRIER], ablation="patch", source=source, method=nm.CKA()
    )
    swapped = x.clone()
    own = slice(CARRIER * WIDTH, (CARRIER + 1) * WIDTH)
    swapped[:, own] = source[:, own]
    assert found.data["alignment"].item() == pytest.approx(nm.CKA().score(swapped, region), abs=1e-6)
    same = nm.causal_alignment(
        model, x, region, site="readout", ablate=PARTS, ablation="patch", source=x, method=nm.CKA(), n_controls=0
    )
    np.testing.assert_array_equal(same.values, 0)


def test_resampling_destroys_the_alignment_too(model):
    x, region, _ = planted(1)
    found = nm.causal_alignment(
        model, x, region, site="readout", ablate=PARTS, ablation="resample", method=nm.CKA(), n_controls=3
    )
    assert found.ranked()["component"][0] == PARTS[CARRIER]
    assert found.values.values.min() < -0.3


def test_heads_of_a_transformer_equal_editing_and_scoring_by_hand():
    model = nm.adapt(nm.load_model("induction"))
    tokens = torch.randint(1, 64, (16, 10), generator=torch.Generator().manual_seed(0))
    site, parts = "blocks.1.resid_post[position=-1]", [f"blocks.0.z[head={head}]" for head in range(4)]
    region = np.random.default_rng(0).normal(size=(16, 8))
    found = nm.causal_alignment(
        model, tokens, region, site=site, ablate=parts, ablation="zero", method=nm.CKA(), batch_size=8
    )
    for part, left in zip(parts, found.data["alignment"].values[:, 0], strict=True):
        readout = model.run(tokens, edits=nm.Zero(part), capture=site).activations[site]
        assert left == pytest.approx(nm.CKA().score(readout, region), abs=1e-5)
    controls = found.data["control"].values[0, 0]  # the three other heads
    np.testing.assert_allclose(controls, found.values.values[1:, 0], atol=1e-12)
    assert any("only 3 random parts" in text for text in found.warnings)


class Signs(nn.Module):
    """A dictionary whose features are how far each unit is above zero and below; the last never is active."""

    def encode(self, x):
        return torch.cat([torch.relu(x), torch.relu(-x), 0 * x[..., :1]], -1)

    def decode(self, features):
        width = features.shape[-1] // 2
        return features[..., :width] - features[..., width : 2 * width]


def test_features_of_a_dictionary_are_parts_and_silent_ones_no_controls(model):
    random = np.random.default_rng(0)
    x = torch.as_tensor(random.normal(size=(N_STIMULI, N_HEADS * WIDTH)), dtype=torch.float32)
    region = torch.relu(x[:, :1]).double().numpy() + 0.1 * random.normal(size=(N_STIMULI, 1))
    spliced = model.with_sae(Signs(), "parts")
    names = [f"parts.sae.features[feature={number}]" for number in (0, N_HEADS * WIDTH, 5)]
    found = nm.causal_alignment(
        spliced, x, region, site="readout", ablate=names, ablation="zero", method=METHODS["ridge"], n_controls=60
    )
    effect, p = found.values.values[:, 0], found.data["p_adjusted"].values[:, 0]
    # the region holds the positive half of the unit: it is lost with its feature, and stands alone without the other
    assert effect[0] < -0.3
    assert effect[1] > 0.1
    assert abs(effect[2]) < 0.1 * abs(effect[0])
    assert p[0] < 0.001
    # 48 features are active, of which the part itself is one
    assert np.isfinite(found.data["control"].values[0, 0]).sum() == 2 * N_HEADS * WIDTH - 1


def test_stimuli_are_joined_by_label(model):
    x, region, _ = planted(0)
    labels = [f"image {number}" for number in range(N_STIMULI)]
    order = np.random.default_rng(3).permutation(N_STIMULI)
    recording = nm.Recording(
        xr.DataArray(region[order], dims=("stimulus", "unit"), coords={"stimulus": [labels[i] for i in order]})
    )
    options = {"site": "readout", "ablate": PARTS[:3], "method": nm.CKA(), "n_controls": 0}
    by_label = nm.causal_alignment(model, x, recording, stimuli=labels, **options)
    by_position = nm.causal_alignment(model, x, region, **options)
    np.testing.assert_allclose(by_label.values, by_position.values, atol=1e-12)
    with pytest.raises(nm.errors.InputError, match="has labels"):
        nm.causal_alignment(model, x, recording, **options)
    with pytest.raises(nm.errors.InputError, match="do not hold the same"):
        nm.causal_alignment(model, x, recording, stimuli=[*labels[1:], "other"], **options)


def test_regions_are_scored_side_by_side_or_chosen(model):
    x, region, noise = planted(0)
    options = {"site": "readout", "ablate": PARTS, "method": nm.CKA(), "n_controls": 3}
    both = nm.causal_alignment(model, x, {"planted": region, "noise": noise}, **options)
    one = nm.causal_alignment(model, x, {"planted": region, "noise": noise}, region="planted", **options)
    np.testing.assert_array_equal(both.values.sel(region="planted"), one.values.sel(region="planted"))
    assert both.plot(Figure().subplots()).get_xlabel()


def test_a_readout_that_is_taken_out_whole_is_not_aligned(model):
    x, region, _ = planted(0)
    found = nm.causal_alignment(model, x, region, site="readout", ablate="parts", ablation="zero", method=nm.CKA())
    assert found.data["alignment"].item() == 0
    assert any("does not vary" in text for text in found.warnings)
    assert any("no random parts" in text for text in found.warnings)


def test_the_jackknife_of_a_mean_is_its_t_interval():
    from scipy import stats

    values = np.random.default_rng(0).normal(0.4, 1, 15)
    without = np.array([np.delete(values, row).mean() for row in range(15)])
    low, high, p = jackknife_interval(values.mean(), without)
    expected = stats.t.interval(0.95, 14, values.mean(), stats.sem(values))
    np.testing.assert_allclose([low, high, p], [*expected, stats.ttest_1samp(values, 0).pvalue])


def test_the_model_is_left_as_it_was_also_after_an_error(model):
    class Fails:
        def score(self, X, Y):
            if calls.append(1) or len(calls) > 1:
                raise RuntimeError("no score")
            return 1.0

    calls: list[int] = []
    x, region, _ = planted(0)
    before = model.module(x)
    with pytest.raises(RuntimeError, match="no score"):
        nm.causal_alignment(model, x, region, site="readout", ablate=PARTS, method=Fails())
    with pytest.raises(nm.errors.SiteError):
        nm.causal_alignment(model, x, region, site="readout", ablate="parts[unit=99]", method=nm.CKA())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.module.modules())
    assert torch.equal(model.module(x), before)


def test_results_are_repeated_kept_and_drawn(model, tmp_path):
    x, region, _ = planted(0)
    options = {"site": "readout", "ablate": PARTS, "method": nm.CKA(), "n_controls": 5, "ablation": "resample"}
    first, second = (nm.causal_alignment(model, x, region, seed=4, **options) for _ in range(2))
    xr.testing.assert_identical(first.data, second.data)
    loaded = nm.load_result(first.save(tmp_path / "found.nc"))
    assert loaded == first
    assert type(loaded) is CausalAlignment
    assert "against random components" in first.summary()
    assert "change in alignment" in first.plot(Figure().subplots()).get_xlabel()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"ablation": "zeros"}, nm.errors.OptionError, "did you mean 'zero'"),
        ({"correction": "holms"}, nm.errors.OptionError, "unknown correction"),
        ({"n_controls": -1}, nm.errors.OptionError, "n_controls"),
        ({"ablation": "patch"}, nm.errors.InputError, "nothing to patch from"),
        ({"ablate": []}, nm.errors.InputError, "no parts"),
        ({"ablate": ["parts", "parts"]}, nm.errors.InputError, "named twice"),
        ({"ablate": "prats"}, nm.errors.SiteError, "did you mean 'parts'"),
        ({"site": "redout"}, nm.errors.SiteError, "readout"),
        ({"region": "V1"}, nm.errors.InputError, "no such region"),
        ({"method": "cka"}, nm.errors.InputError, "no method of alignment"),
    ],
)
def test_bad_input_is_refused(model, options, error, message):
    x, region, _ = planted(0)
    given = {"site": "readout", "ablate": PARTS, "method": nm.CKA(), **options}
    with pytest.raises(error, match=message):
        nm.causal_alignment(model, x, region, **given)


def test_bad_recordings_are_refused(model):
    x, region, _ = planted(0)
    options = {"site": "readout", "ablate": PARTS, "method": nm.CKA()}
    with pytest.raises(nm.errors.InputError, match="different numbers of samples"):
        nm.causal_alignment(model, x, region[1:], **options)
    with pytest.raises(nm.errors.InputError, match="too few stimuli"):
        nm.causal_alignment(model, x[:5], region[:5], **options)
    region[3, 2] = np.nan
    with pytest.raises(nm.errors.InputError, match="finite"):
        nm.causal_alignment(model, x, region, **options)
    with pytest.raises(nm.errors.InputError, match="no adapter"):
        nm.causal_alignment(model.module, x, region, **options)
