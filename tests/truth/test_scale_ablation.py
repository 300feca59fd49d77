"""Ablation of time scales, against models whose output depends on one band alone, and against algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.causal.counterfactuals.one_site import SitePlace
from neuros_mechint.causal.timescales.ablation import _part, _without
from neuros_mechint.causal.timescales.bands import Band, checked_bands, octaves, part_in_band
from neuros_mechint.causal.timescales.controls import part_of_energy
from neuros_mechint.neuro.fractals.probes.sequences import SiteSequences

SEEDS = range(5)
FAST, SLOW = (2, 8), (8, math.inf)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def wave(k, n_steps):
    return torch.cos(2 * torch.pi * k * torch.arange(n_steps) / n_steps)


class ReadsOneScale(nn.Module):
    """Amplitude of one frequency of the input, ``k`` periods in all: ``mean_tu 2 x(t, u) cos(2 pi k t / T)``."""

    def __init__(self, k, n_steps):
        super().__init__()
        self.site = nn.Identity()
        self.wave = wave(k, n_steps)

    def forward(self, x):
        return 2 * (self.site(x) * self.wave[:, None]).mean((1, 2))


class Memory(nn.Module):
    """A leaky integrator made of ``nn.RNN``: ``h(t) = a h(t-1) + x(t)`` as long as h is positive; read at the end."""

    def __init__(self, leak):
        super().__init__()
        self.rnn = nn.RNN(1, 1, nonlinearity="relu", bias=False, batch_first=True)
        with torch.no_grad():
            self.rnn.weight_ih_l0.fill_(1.0)
            self.rnn.weight_hh_l0.fill_(leak)

    def forward(self, x):
        return self.rnn(x)[0].mean((1, 2))


# -- bands -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fourier", "causal"])
@pytest.mark.parametrize("n_samples", [2, 3, 7, 16, 33, 100])
def test_octaves_together_are_the_whole_signal(method, n_samples):
    x = normal(3, n_samples, 4, seed=n_samples).double()
    parts = [part_in_band(x, band, method) for band in checked_bands(None, n_samples, method, 1.0)]
    torch.testing.assert_close(sum(parts), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_samples", [16, 33, 100])
def test_energies_of_fourier_bands_add_up_and_parts_are_orthogonal(n_samples):
    x = normal(3, n_samples, 4, seed=1).double()
    parts = [part_in_band(x, band, "fourier") for band in checked_bands(None, n_samples, "fourier", 1.0)]
    products = torch.einsum("astu,bstu->abs", torch.stack(parts), torch.stack(parts))
    energies = torch.diagonal(products).sum(-1)
    torch.testing.assert_close(energies, x.square().sum((1, 2)), rtol=1e-12, atol=0)
    off_diagonal = products - torch.diag_embed(products.diagonal(dim1=0, dim2=1)).movedim(0, -1)
    assert off_diagonal.abs().max() < 1e-10


def test_a_wave_lies_in_the_band_of_its_period_alone():
    for k in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48):
        x = wave(k, 96).double().reshape(1, -1, 1)
        for low, high in octaves(96):
            part = part_in_band(x, Band("octave", low, high), "fourier")
            torch.testing.assert_close(part, x if low <= 96 / k < high else 0 * x, rtol=0, atol=1e-5)


def test_causal_parts_do_not_see_the_future_and_fourier_parts_do():
    x = normal(1, 64, 2).double()
    later = x.clone()
    later[:, 40:] += 5
    for band in checked_bands(None, 64, "causal", 1.0):
        before, after = (part_in_band(one, band, "causal")[:, :40] for one in (x, later))
        assert torch.equal(before, after)
    band = Band("slow", 16, math.inf)
    before, after = (part_in_band(one, band, "fourier")[:, :40] for one in (x, later))
    assert (before - after).abs().max() > 0.1


def test_causal_bands_hold_most_of_a_wave_of_their_periods():
    time = torch.arange(4096, dtype=torch.float64)
    bands = checked_bands([(2, 8), (8, 64), (64, math.inf)], 4096, "causal", 1.0)
    for period, expected in ((3, 0), (22, 1), (400, 2)):
        x = torch.cos(2 * torch.pi * time / period).reshape(1, -1, 1)
        energies = [float(part_in_band(x, band, "causal").square().sum()) for band in bands]
        assert np.argmax(energies) == expected
        assert energies[expected] > 0.6 * sum(energies)


# -- known answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("k", "read"), [(2, SLOW), (20, FAST)])
def test_only_the_band_that_is_read_matters(seed, k, read):
    x = normal(12, 64, 3, seed=seed) + (wave(2, 64) + wave(20, 64))[:, None]
    model = nm.adapt(ReadsOneScale(k, 64))
    found = nm.scale_ablation(model, lambda output: output, x, "site", {"fast": FAST, "slow": SLOW}, seed=seed)
    names = ["fast", "slow"] if read == FAST else ["slow", "fast"]
    matters, does_not = (found.data.sel(band=name) for name in names)
    baseline = float(found.data["baseline"].mean())
    assert abs(float(matters["effect"]) + baseline) < 1e-5 * baseline  # all is lost
    assert abs(float(does_not["effect"])) < 1e-5 * baseline  # nothing changes
    assert float(matters["p_adjusted"]) < 0.01
    assert float(does_not["p_adjusted"]) == 1
    assert float(matters["p_control"]) == 1 / 20
    assert float(does_not["p_control"]) == 1
    assert abs(float(found.data["energy"].sum()) - 1) < 1e-6


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", ["fourier", "causal"])
def test_effects_on_a_linear_readout_are_its_weights_on_what_was_removed(seed, method):
    weights, x = normal(32, 3, seed=10 + seed), normal(6, 32, 3, seed=seed)
    model = nm.adapt(nn.Sequential(nn.Identity(), nn.Flatten()))

    def read(output):
        return output @ weights.flatten()

    found = nm.scale_ablation(model, read, x, "0", method=method, n_controls=2)
    for band in checked_bands(None, 32, method, 1.0):
        removed = part_in_band(x.double(), band, method).float()
        expected = -(removed * weights).sum((1, 2))
        torch.testing.assert_close(
            torch.tensor(found.data["per_sample"].sel(band=band.name).values).float(), expected, rtol=1e-4, atol=2e-5
        )
    assert np.allclose(found.values.sum(), -found.data["baseline"].mean(), atol=1e-5)  # linear: effects add up


@pytest.mark.parametrize("engine", ["loop", "batched"])
def test_states_of_a_recurrent_network_lose_the_band(engine):
    model, x = Memory(0.9), normal(8, 40, 1).abs()
    found = nm.scale_ablation(nm.adapt(model), lambda output: output, x, "hidden", engine=engine, n_controls=3)
    effects = found.values
    assert abs(float(effects.sel(band="constant") + found.data["baseline"].mean())) < 1e-4  # the mean is what is read
    varying = effects.drop_sel(band="constant")
    assert np.abs(varying).max() < 1e-5


def test_a_part_of_the_units_or_times_can_be_chosen():
    model, x = nm.adapt(nn.GRU(2, 4, batch_first=True)), normal(5, 30, 2)
    everything = {"all": (2, math.inf)}

    def read(output):
        return output[0][:, 10:, 1].sum(-1)

    hidden = model.capture(x, "hidden")["hidden"]
    # the state of that unit is set to zero from step 10 on; the others go on from it
    found = nm.scale_ablation(model, read, x, "hidden[unit=1, time=10:]", everything, n_controls=1)
    zero = model.run(x, edits=[nm.Zero("hidden[unit=1, time=10:]")]).output
    np.testing.assert_allclose(
        found.data["per_sample"][0], (read(zero) - hidden[:, 10:, 1].sum(-1)).detach(), atol=1e-5
    )


def test_a_gru_and_its_output_agree():
    torch_model, x = nn.GRU(2, 6, batch_first=True), normal(8, 48, 2)
    model, weights = nm.adapt(torch_model), normal(6, seed=3)

    def read(output):
        return (output[0] @ weights).square().mean(-1)

    at_state = nm.scale_ablation(model, read, x, "hidden", n_controls=0)
    hidden = model.capture(x, "hidden")["hidden"].double()
    for band in checked_bands(None, 48, "fourier", 1.0):
        left = (hidden - part_in_band(hidden, band, "fourier")).float()
        expected = (left @ weights).square().mean(-1) - (hidden.float() @ weights).square().mean(-1)
        np.testing.assert_allclose(at_state.data["per_sample"].sel(band=band.name), expected, atol=1e-5)
    assert "control" not in at_state.data


# -- transformers and padding ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transformer():
    return nm.load_model("induction")


def tokens(n_samples=6, length=16, seed=0):
    drawn = np.random.default_rng(seed).integers(1, 20, size=(n_samples, length))
    return torch.from_numpy(np.concatenate([drawn, drawn], axis=1))


def test_a_transformer_loses_what_the_edit_takes(transformer):
    model, inputs = nm.adapt(transformer), tokens()
    metric = nm.log_probability(inputs[:, 0])
    site = "blocks.1.resid_pre"
    found = nm.scale_ablation(model, metric, inputs, site, {"fast": FAST, "slow": SLOW}, n_controls=2)
    x = model.capture(inputs, site)[site].double()
    slow = part_in_band(x, Band("slow", *SLOW), "fourier").float()
    by_hand = metric(model.run(inputs, edits=[nm.Add(site, -slow)]).output) - metric(model.run(inputs).output)
    np.testing.assert_allclose(found.data["per_sample"].sel(band="slow"), by_hand.detach(), atol=2e-3)
    after_first = nm.scale_ablation(model, metric, inputs, f"{site}[position=1:]", n_controls=0)
    assert after_first.data.sizes["band"] == 5  # octaves of 31 positions, and the mean


def test_heads_are_taken_apart_each_by_itself(transformer):
    model, inputs = nm.adapt(transformer), tokens()
    metric = nm.log_probability(inputs[:, 0])
    found = nm.scale_ablation(model, metric, inputs, "blocks.1.z[head=0]", {"all": (2, math.inf)}, n_controls=0)
    zero = metric(model.run(inputs, edits=[nm.Zero("blocks.1.z[head=0]")]).output)
    np.testing.assert_allclose(
        found.data["per_sample"][0], (zero - metric(model.run(inputs).output)).detach(), atol=1e-4
    )


def test_batches_and_engines_change_nothing(transformer):
    model, inputs = nm.adapt(transformer), tokens()
    metric = nm.log_probability(inputs[:, 0])
    runs = [
        nm.scale_ablation(model, metric, inputs, "blocks.0.resid_post", n_controls=2, engine=engine, batch_size=size)
        for engine, size in (("loop", None), ("batched", None), ("suffix", None), ("loop", 4))
    ]
    for run in runs[1:]:
        np.testing.assert_allclose(run.data["per_sample"], runs[0].data["per_sample"], atol=1e-3)
        np.testing.assert_allclose(run.data["control"], runs[0].data["control"], atol=1e-3)


@pytest.mark.parametrize("left", [False, True])
def test_padded_positions_stay_out_of_the_bands(left):
    x = normal(3, 20, 2)
    mask = torch.arange(20) < torch.tensor([20, 12, 12])[:, None]
    mask = mask.flip(1) if left else mask
    loud, dims = torch.where(mask[..., None], x, 1e3), ("sample", "position", "unit")
    sequences = SiteSequences.of("h", loud, dims, mask)
    part = _part(sequences, Band("slow", 8, math.inf), "fourier")
    assert part[~mask].abs().max() == 0
    for row, kept in enumerate(mask):
        alone = part_in_band(x[row, kept][None].double(), Band("slow", 8, math.inf), "fourier")[0]
        torch.testing.assert_close(part[row, kept], alone)
    edited = _without(SitePlace("h", dims, loud, mask), sequences, part).apply(loud, dims)
    assert torch.equal(edited[~mask], loud[~mask])
    assert not torch.equal(edited[mask], loud[mask])


# -- controls --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fourier", "causal"])
@pytest.mark.parametrize("share", [0.0, 0.003, 0.2, 0.9, 1.0])
def test_controls_remove_the_energy_of_the_ablation(method, share):
    x = normal(4, 32, 3).double().cumsum(1)
    total = float(x.square().sum())
    part = part_of_energy(x, share * total, method, np.random.default_rng(0))
    np.testing.assert_allclose(float(part.square().sum()), share * total, rtol=1e-9, atol=1e-9)
    # what is left has lost this energy but for the last direction, which is taken in part
    assert float((x - part).square().sum()) <= (1 - share) * total + 1e-9
    if share == 0.2:
        spectrum = torch.fft.rfft(part, dim=1).abs().square().sum((0, 2))
        assert spectrum[5:].sum() > 0.1 * spectrum.sum()  # all time scales, where a slow band has none of these
    if method == "causal":
        later = x.clone()
        later[:, 20:] += 5
        again = part_of_energy(later, float("inf"), method, np.random.default_rng(0))
        assert torch.equal(again, later)


def test_controls_are_evenly_spread_over_time():
    """On average a direction of time holds one part in T of any signal."""
    slow = wave(1, 64).double().reshape(1, 64, 1)
    parts = [part_of_energy(slow, 8.0, "fourier", np.random.default_rng(seed)) for seed in range(200)]
    along = np.array([float((part * slow).sum() / slow.square().sum()) for part in parts])
    assert abs(along.mean() - 8 / 32) < 0.03  # of the energy 32 of this wave


def test_a_band_of_noise_is_like_its_controls():
    """Negative control: of white noise read with random weights, every band is as good as another part."""
    as_much = 0
    for seed in range(20):
        model = nm.adapt(nn.Sequential(nn.Identity(), nn.Flatten()))
        x = normal(20, 64, 4, seed=seed)
        weights = normal(256, seed=100 + seed)
        found = nm.scale_ablation(model, lambda output, w=weights: output @ w, x, "0", {"band": (4, 8)}, seed=seed)
        as_much += float(found.data["p_control"][0]) <= 0.1
    assert as_much <= 5  # 2 of 20 expected; 6 or more in 1% of the cases


@pytest.mark.parametrize("seed", SEEDS)
def test_a_metric_of_energy_alone_cannot_tell_bands_from_controls(seed):
    model, x = nm.adapt(nn.Sequential(nn.Identity(), nn.Flatten())), normal(20, 64, 4, seed=seed)
    found = nm.scale_ablation(model, lambda output: output.square().sum(1), x, "0", n_controls=19, seed=seed)
    assert (found.data["p_adjusted"] < 0.05).all()  # energy is lost with every band
    assert (found.data["p_control"] > 0.2).all()  # and as much with its controls


def test_a_memory_of_some_steps_is_in_slow_bands():
    """A real case: the trained flip-flop network holds pulses that come every ten steps or so."""
    from neuros_mechint.datasets.tasks import flip_flop

    trials = flip_flop(40, 100)

    def score(output):
        return -(output - trials.targets).square().mean((1, 2))

    model = nm.adapt(nm.load_model("flip_flop_gru"))
    found = nm.scale_ablation(model, score, trials.inputs, "hidden", {"fast": (2, 8), "slow": (16, 128)}).data
    assert float(found["effect"].sel(band="slow")) < -0.3
    assert float(found["p_control"].sel(band="slow")) == 1 / 20
    assert abs(float(found["effect"].sel(band="fast"))) < 0.05
    assert float(found["p_control"].sel(band="fast")) > 0.5


# -- what comes out --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result():
    model, x = nm.adapt(ReadsOneScale(2, 64)), normal(12, 64, 3)
    return nm.scale_ablation(model, lambda output: output, x, "site", sampling_rate=100.0)


def test_the_result_is_told_drawn_saved_and_reported(result, tmp_path):
    assert result.data["band"].values[0] == "0.02 to 0.04"  # seconds
    assert np.allclose(result.data["longest"].values[:2], [0.04, 0.08])
    assert "of energy" in result.summary()
    assert "bands that matter (p <= 0.05 after correction, and beyond controls): " in result.summary()
    assert nm.load_result(result.save(tmp_path / "scales.nc")) == result
    report = nm.Report("scales")
    report.add(result)
    assert "Time scales removed from site" in report.to_html()
    axes = result.plot()
    assert axes.get_xlabel() == "change of the metric"
    assert result.citations == ("tamkin2020",)
    assert result.provenance.seed == 0


def test_seeds_repeat():
    model, x = nm.adapt(ReadsOneScale(2, 16)), normal(4, 16, 1)
    one, two = (nm.scale_ablation(model, lambda output: output, x, "site", seed=3) for _ in range(2))
    assert one.data.identical(two.data)


def test_the_input_is_left_alone():
    x = normal(4, 16, 1)
    before = x.clone()
    nm.scale_ablation(nm.adapt(ReadsOneScale(2, 16)), lambda output: output, x, "site", n_controls=1)
    assert torch.equal(x, before)


def test_bands_without_energy_and_few_controls_are_told():
    x = torch.ones(4, 16, 1) + torch.cos(torch.pi * torch.arange(16))[None, :, None]
    found = nm.scale_ablation(nm.adapt(ReadsOneScale(0, 16)), lambda o: o, x, "site", n_controls=3)
    assert any("no energy in 4 to 8, 8 to 16, 16 to 32" in text for text in found.warnings)
    assert any("3 controls allow no p_control below 0.25" in text for text in found.warnings)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ([(2, 8), (4, 16)], "overlap"),
        ([(8, math.inf), (math.inf, math.inf)], "overlap"),
        ([], "no bands"),
        ([(8, 4)], "holds no periods"),
        ([(2, math.nan)], "holds no periods"),
        ([(0, 4)], "holds no periods"),
        ([(17, 31)], "holds no period of 16"),
        ([(5.4, 6)], "no period of 16"),
        ([3], "no pair"),
        ("slow", "no list"),
    ],
)
def test_bad_bands_are_refused(bands, message):
    with pytest.raises(nm.errors.InputError, match=message):
        nm.scale_ablation(nm.adapt(ReadsOneScale(1, 16)), lambda o: o, normal(4, 16, 1), "site", bands)


@pytest.mark.parametrize(
    ("bands", "message"),
    [([(math.inf, math.inf)], "not known before its end"), ([(2, 2.5)], "too narrow"), ([(64, 128)], "too slow")],
)
def test_bands_that_the_past_cannot_tell_are_refused(bands, message):
    with pytest.raises(nm.errors.InputError, match=message):
        nm.scale_ablation(nm.adapt(ReadsOneScale(1, 16)), lambda o: o, normal(4, 16, 1), "site", bands, method="causal")


def test_bad_calls_are_refused(transformer):
    model, x = nm.adapt(ReadsOneScale(1, 16)), normal(4, 16, 1)
    run = nm.scale_ablation
    with pytest.raises(nm.errors.OptionError, match="unknown method"):
        run(model, lambda o: o, x, "site", method="wavelet")
    with pytest.raises(nm.errors.OptionError, match="sampling_rate"):
        run(model, lambda o: o, x, "site", sampling_rate=0)
    with pytest.raises(nm.errors.OptionError, match="n_controls"):
        run(model, lambda o: o, x, "site", n_controls=-1)
    with pytest.raises(nm.errors.InputError, match="one sample has no time scales"):
        run(model, lambda o: o, x, "site[position=0:1]")
    with pytest.raises(nm.errors.InputError, match="no axis of time"):
        run(model, lambda o: o, x, "site[position=0]")
    with pytest.raises(nm.errors.SiteError):
        run(model, lambda o: o, x, "sit")
    with pytest.raises(nm.errors.InputError, match="no axis of time"):
        run(nm.adapt(transformer), nm.log_probability(1), tokens(), "blocks.0.pattern")
    with pytest.raises(nm.errors.InputError, match="adapter"):
        run(ReadsOneScale(1, 16), lambda o: o, x, "site")


@pytest.mark.parametrize(("method", "changes"), [("causal", False), ("fourier", True)])
def test_what_is_read_in_the_middle_depends_on_later_tokens_only_with_fourier(transformer, method, changes):
    model, inputs = nm.adapt(transformer), tokens()
    later = inputs.clone()
    later[:, 20:] = later[:, 20:].flip(1)
    metric = nm.log_probability(inputs[:, 13], position=12)
    effects = [
        nm.scale_ablation(model, metric, one, "blocks.0.resid_post", [(4, 16)], method=method, n_controls=1).data
        for one in (inputs, later)
    ]
    for name in ("per_sample", "control"):
        apart = float(np.abs(effects[0][name].values - effects[1][name].values).max())
        assert (apart > 1e-2) == changes, apart
