"""Ablation studies against answers known from algebra, and their statistics against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import neuros_mechint as nm
from neuros_mechint.causal.ablation.results import AblationCurve, AblationEffects
from neuros_mechint.core.statistics.certainty import with_statistics

WEIGHTS = torch.tensor([2.0, -1.0, 0.5, 0.0])


class Weighted(nn.Module):
    """``y = w . x``: what a part contributes is known."""

    def __init__(self):
        super().__init__()
        self.parts = nn.Identity()

    def forward(self, x):
        return self.parts(x) @ WEIGHTS


@pytest.fixture(scope="module")
def inputs():
    return torch.randn(12, 4, generator=torch.Generator().manual_seed(0)) + 1


@pytest.fixture(scope="module")
def model():
    return nm.adapt(Weighted())


def study(model, method="zero", **options):
    return nm.AblationStudy(model, lambda output: output, method=method, **options)


def test_zeroing_takes_away_what_a_part_contributes(model, inputs):
    effects = study(model).leave_one_out(inputs, "parts", by=("unit",))
    expected = -(inputs * WEIGHTS)
    got = effects.data["per_sample"].sel(site="parts").transpose("sample", "unit")
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(effects.values.sel(site="parts"), expected.mean(0), atol=1e-6)
    assert effects.ranked()["unit"].tolist()[0] == 0  # the weightiest part comes first


def test_the_mean_leaves_the_mean_output_alone_and_takes_the_variation(model, inputs):
    effects = study(model, "mean").leave_one_out(inputs, "parts", by=("unit",))
    expected = (inputs.mean(0) - inputs) * WEIGHTS
    np.testing.assert_allclose(
        effects.data["per_sample"].sel(site="parts").transpose("sample", "unit"), expected, atol=1e-5
    )
    np.testing.assert_allclose(effects.values, 0, atol=1e-6)


def test_means_come_from_the_reference(model, inputs):
    reference = torch.full((3, 4), 5.0)
    effects = study(model, "mean").leave_one_out(inputs, "parts", by=("unit",), reference=reference)
    expected = ((5 - inputs) * WEIGHTS).mean(0)
    np.testing.assert_allclose(effects.values.sel(site="parts"), expected, atol=1e-5)


class Sequence(nn.Module):
    """``y = sum over positions of (position + 1) x``."""

    def __init__(self):
        super().__init__()
        self.parts = nn.Identity()

    def forward(self, x):
        return (self.parts(x)[..., 0] * torch.arange(1.0, 4.0)).sum(1)


def test_a_mean_per_position_keeps_what_differs_between_positions():
    model = nm.adapt(Sequence())
    x = torch.tensor([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])[..., None]
    per_position = study(model, "position_mean").leave_one_out(x, "parts")
    overall = study(model, "mean").leave_one_out(x, "parts")
    np.testing.assert_allclose(per_position.data["per_sample"][0], [6, -6], atol=1e-5)  # to 2, 3, 4
    np.testing.assert_allclose(overall.data["per_sample"][0], [18 - 14, 18 - 26], atol=1e-5)  # to 3, 3, 3


def test_resampling_gives_every_sample_another_ones_part(inputs):
    model = nm.adapt(Weighted())
    effects = study(model, "resample", n_draws=4).leave_one_out(inputs, "parts[unit=0]")
    one_draw = study(model, "resample", n_draws=1).leave_one_out(inputs, "parts[unit=0]")
    np.testing.assert_allclose(one_draw.values, 0, atol=1e-5)  # a permutation keeps the mean
    own = inputs[:, 0].double().numpy()
    swapped = own + one_draw.data["per_sample"].values[0] / 2
    np.testing.assert_allclose(np.sort(swapped), np.sort(own), atol=1e-5)
    assert np.abs(swapped - own).min() > 1e-4
    assert effects.data["per_sample"].std() < one_draw.data["per_sample"].std()  # draws are averaged


def test_a_part_that_nobody_reads_has_exactly_no_effect(model, inputs):
    effects = study(model).leave_one_out(inputs, "parts", by=("unit",))
    idle = effects.data.sel(site="parts", unit=3)
    assert (idle["effect"].item(), idle["low"].item(), idle["high"].item()) == (0, 0, 0)
    assert idle["p"].item() == idle["p_adjusted"].item() == 1


def test_parts_that_stand_in_for_each_other_show_up_in_groups_only():
    class Maximum(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Identity(), nn.Identity()

        def forward(self, x):
            return torch.maximum(self.left(x), self.right(x))[:, 0]

    redundant, x = study(nm.adapt(Maximum())), torch.ones(3, 1)
    np.testing.assert_array_equal(redundant.leave_one_out(x, ["left", "right"]).values, [0, 0])
    groups = {"left alone": "left", "both": ["left", "right"]}
    np.testing.assert_array_equal(redundant.group(x, groups).values, [0, -1])


def test_the_curve_of_a_linear_model_is_a_running_sum(model, inputs):
    effects = study(model).leave_one_out(inputs, "parts", by=("unit",))
    curve = study(model).cumulative(inputs, effects, n_null=3)
    order = effects.ranked()["unit"].tolist()
    steps = torch.cat([torch.zeros(1), -(inputs * WEIGHTS).mean(0)[order].cumsum(0)])
    baseline = (inputs @ WEIGHTS).mean()
    np.testing.assert_allclose(curve.main, baseline + steps, atol=1e-5)
    assert curve.data["part"].values.tolist() == ["", *(f"parts[unit={unit}]" for unit in order)]
    np.testing.assert_allclose(curve.data["random"][:, -1], 0, atol=1e-5)  # whatever the order, nothing is left
    np.testing.assert_allclose(curve.data["random"][:, 0], baseline, atol=1e-5)


def test_intervals_hold_the_mean_and_p_values_follow_the_corrections(model, inputs):
    by_correction = {
        name: study(model, correction=name).leave_one_out(inputs, "parts", by=("unit",)).data
        for name in ("none", "holm", "fdr")
    }
    none, holm, fdr = (by_correction[name]["p_adjusted"].values[0] for name in ("none", "holm", "fdr"))
    p = by_correction["none"]["p"].values[0]
    np.testing.assert_array_equal(none, p)
    order = np.argsort(p)
    np.testing.assert_allclose(holm[order], np.minimum(np.maximum.accumulate(p[order] * [4, 3, 2, 1]), 1))
    assert (none <= fdr + 1e-12).all()
    assert (fdr <= holm + 1e-12).all()
    data = by_correction["holm"]
    assert (data["low"] <= data["effect"]).all()
    assert (data["effect"] <= data["high"]).all()


def test_heads_of_a_transformer_equal_ablating_them_by_hand():
    model = nm.adapt(nm.load_model("induction"))
    tokens = torch.randint(1, 64, (4, 12), generator=torch.Generator().manual_seed(3))
    metric = nm.log_probability(7)
    effects = nm.AblationStudy(model, metric, "position_mean").leave_one_out(tokens, "blocks.*.z", by=("head",))
    reference = model.capture(tokens, "blocks.*.z")
    for site in reference:
        for head in range(4):
            edit = nm.Replace(f"{site}[head={head}]", reference[site][:, :, head].mean(0))
            by_hand = metric(model.run(tokens, edits=edit).output) - metric(model.run(tokens).output)
            got = effects.data["per_sample"].sel(site=site, head=head)
            np.testing.assert_allclose(got, by_hand, atol=1e-5)


def test_results_are_kept_whole_and_drawn(model, inputs, tmp_path):
    from matplotlib.figure import Figure

    effects = study(model).leave_one_out(inputs, "parts", by=("unit",))
    curve = study(model).cumulative(inputs, effects, n_null=2)
    for result, kind in ((effects, AblationEffects), (curve, AblationCurve)):
        loaded = nm.load_result(result.save(tmp_path / f"{kind.__name__}.nc"))
        assert loaded == result
        assert type(loaded) is kind
        assert result.plot(Figure().subplots()).get_xlabel()
    assert "unit 0: -" in effects.summary()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, x: study(m, "zeros"), nm.errors.OptionError, "did you mean 'zero'"),
        (lambda m, x: study(m, correction="bonferoni"), nm.errors.OptionError, "unknown correction"),
        (lambda m, x: study(m, n_draws=0), nm.errors.OptionError, "n_draws is out of range"),
        (lambda m, x: study(m).leave_one_out(x, []), nm.errors.InputError, "no sites"),
        (lambda m, x: study(m).leave_one_out(x, "prats"), nm.errors.SiteError, "did you mean 'parts'"),
        (lambda m, x: study(m).leave_one_out(x, "parts", by="head"), nm.errors.SiteError, "cannot be taken apart"),
        (lambda m, x: study(m).group(x, {}), nm.errors.InputError, "no groups"),
        (lambda m, x: study(m).group(x, {"a": []}), nm.errors.InputError, "has no sites"),
        (lambda m, x: study(m).cumulative(x, ["parts"], n_steps=2), nm.errors.OptionError, "n_steps out of range"),
        (lambda m, x: study(m).cumulative(x, []), nm.errors.InputError, "no parts"),
    ],
)
def test_bad_input_is_refused(model, inputs, call, error, message):
    with pytest.raises(error, match=message):
        call(model, inputs)


def test_one_value_has_no_interval(model, inputs):
    effects = study(model).leave_one_out(inputs[:1], "parts", by=("unit",))
    assert np.isnan(effects.data["low"]).all()
    assert any("no interval" in text for text in effects.warnings)
    scalar = nm.AblationStudy(model, lambda output: output.mean()).leave_one_out(inputs, "parts", by=("unit",))
    np.testing.assert_allclose(scalar.values.sel(site="parts"), -(inputs * WEIGHTS).mean(0), atol=1e-6)


def test_what_is_only_rounding_is_no_effect_however_consistent():
    per_sample = xr.DataArray(np.full((2, 40), [[1e-8], [1e-3]]), dims=("site", "sample"))
    found, _ = with_statistics(per_sample, np.ones(40), "none", seed=0)
    assert found["p"].values[0] == 1
    assert found["p"].values[1] < 0.01
    assert found["effect"].values[0] == 1e-8  # told as it is
