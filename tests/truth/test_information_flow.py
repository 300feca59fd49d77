"""Information of sites about inputs and labels: noisy linear chains in closed form, training, time, shuffled labels."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError, SiteError
from neuros_mechint.neuro.information.flow.analyzer import InformationFlowAnalyzer
from neuros_mechint.neuro.information.flow.estimates import ESTIMATORS, likeness, pairwise_information, reduced
from tests.slow import slow_case


def quiet(analyzer, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return analyzer.analyze(*args, progress=False, **options)


def noisy_chain(seed, n_samples=2000, noise=0.5):
    """Two inputs through three noisy linear layers, and what each layer tells of them in closed form."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n_samples, 2))
    layers, wanted, values, gain, covariance = {}, [], x, np.eye(2), np.zeros((2, 2))
    for depth in range(3):
        weights = np.linalg.qr(np.random.default_rng(depth).normal(size=(2, 2)))[0]
        values = values @ weights.T + noise * random.normal(size=values.shape)
        gain, covariance = weights @ gain, weights @ covariance @ weights.T + noise**2 * np.eye(2)
        layers[f"layer {depth}"] = values
        wanted.append(0.5 * np.linalg.slogdet(np.eye(2) + np.linalg.solve(covariance, gain @ gain.T))[1])
    return x, layers, np.array(wanted)


# -- known answers -----------------------------------------------------------------------------------------------------


def test_a_noisy_linear_chain_has_its_closed_form_and_loses_information():
    tables, wanted = {name: [] for name in ("gaussian", "neighbours", "binned")}, noisy_chain(0)[2]
    for seed in range(5):
        x, layers, _ = noisy_chain(seed)
        found = quiet(InformationFlowAnalyzer(n_permutations=0, seed=seed), layers, x).data["information"]
        for name, values in tables.items():
            values.append(found.sel(about="input", estimator=name).values[:, 0])
    means = {name: np.mean(values, axis=0) for name, values in tables.items()}
    assert wanted[0] == pytest.approx(np.log(5))
    np.testing.assert_allclose(means["gaussian"], wanted, atol=0.04)
    np.testing.assert_allclose(means["neighbours"], wanted, atol=0.06)
    # the data-processing inequality, of every estimator and every set
    assert all((np.diff(values) < 0).all() for name in tables for values in tables[name])
    assert (means["binned"] < wanted).all()  # few bins see less


def test_wide_layers_are_seen_whole_by_correlations():
    """Two inputs in 40 noisy units: half the logarithm of the determinant, of all components and not of two."""
    random = np.random.default_rng(0)
    x, weights = random.normal(size=(3000, 2)), random.normal(size=(2, 40))
    wide = x @ weights + 4 * random.normal(size=(3000, 40))
    wanted = 0.5 * np.linalg.slogdet(np.eye(2) + weights @ weights.T / 16)[1]
    found = quiet(InformationFlowAnalyzer(n_permutations=0), {"wide": wide}, x).data["information"].sel(about="input")
    assert found.sel(estimator="gaussian").item() == pytest.approx(wanted, rel=0.05)
    assert found.sel(estimator="neighbours").item() == pytest.approx(wanted, rel=0.25)


def test_labels_in_clusters_are_told_by_all_and_shuffled_ones_by_none():
    random = np.random.default_rng(0)
    labels = random.integers(3, size=900)
    clusters = 8 * np.eye(3)[labels] + random.normal(size=(900, 3))
    names = np.array(["cat", "dog", "owl"])[labels]
    analyzer = InformationFlowAnalyzer()
    told = quiet(analyzer, {"h": clusters}, labels=names).data.sel(about="label", site="h").isel(time=0)
    for estimator in ("neighbours", "binned", "noise"):
        assert float(told["information"].sel(estimator=estimator)) == pytest.approx(np.log(3), abs=0.08)
        assert float(told["p"].sel(estimator=estimator)) == 0.05
    shuffled = [quiet(analyzer, {"h": clusters}, labels=random.permutation(names)).data for _ in range(5)]
    for estimator in ("neighbours", "binned"):
        found = [one.sel(about="label", site="h", estimator=estimator).isel(time=0) for one in shuffled]
        assert abs(np.mean([one["information"] for one in found])) < 0.05  # four standard errors
        assert np.mean([one["p"] for one in found]) > 0.2
    # the noise bound has a bias, which shuffled labels show
    biased = shuffled[0].sel(about="label", site="h", estimator="noise").isel(time=0)
    assert float(biased["information"]) == pytest.approx(float(biased["null"]), abs=0.05)


def test_noise_tells_how_many_places_there_are():
    values = np.repeat(np.linspace(0, 7, 8), 25)[:, None]
    assert pairwise_information(likeness(values, 0.01)) == pytest.approx(np.log(8), abs=1e-9)
    assert pairwise_information(likeness(values, 1e4)) == pytest.approx(0, abs=1e-6)
    spread = np.random.default_rng(0).normal(size=(1000, 1))
    # of a normal variable the truth is half the logarithm of 1 + 1 / noise^2, and the bound lies that much above
    bound = 0.5 * np.log(1 + 1 / 0.3**2) + 0.5 / (1 + 0.3**2)
    assert pairwise_information(likeness(spread, 0.3)) == pytest.approx(bound, abs=0.06)


def network(seed):
    generator = torch.Generator().manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 8), torch.nn.Tanh())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model, torch.nn.Linear(8, 2)


def trained_on_quadrants(seed, n_steps):
    """Exclusive or of signs: no unit of the input tells, and a trained layer does."""
    x = torch.randn(600, 2, generator=torch.Generator().manual_seed(100 + seed))
    labels = (x[:, 0] * x[:, 1] > 0).long()
    model, readout = network(seed)
    with torch.no_grad():
        readout.weight.fill_(0.1)
        readout.bias.zero_()
    readout.weight.data[1] *= -1
    optimizer = torch.optim.Adam([*model.parameters(), *readout.parameters()], lr=0.02)
    checkpoints = {}
    for step in range(n_steps + 1):
        if step % (n_steps // 3) == 0:
            checkpoints[step] = {"hidden": model(x).detach(), "logits": readout(model(x)).detach()}
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(readout(model(x)), labels).backward()
        optimizer.step()
    return x, labels, checkpoints, model


@pytest.mark.parametrize("seed", [1, slow_case(0), slow_case(2), slow_case(3)])
def test_training_brings_labels_into_the_logits_and_the_plane_shows_it(seed):
    """Hidden layers tell of the label from the start, for they can be inverted: what training changes is the logits."""
    x, labels, checkpoints, _ = trained_on_quadrants(seed, 300)
    plane = InformationFlowAnalyzer(seed=seed).plane(checkpoints, x, labels, progress=False)
    told = plane.data["information"].sel(about="label", estimator="neighbours", site="logits").values
    assert list(plane.data["step"].values) == [0, 100, 200, 300]
    assert told[0] + 0.25 < told[-1] < np.log(2) + 0.05
    hidden = plane.data["information"].sel(about="label", estimator="neighbours", site="hidden").values
    assert hidden[0] > 0.4
    assert "a description" in plane.summary()
    assert plane.plot().get_ylabel() == "information about the label (nats)"


def test_a_model_is_run_on_its_inputs_and_not_changed():
    x, labels, _, model = trained_on_quadrants(0, 30)
    before = [parameter.clone() for parameter in model.parameters()]
    adapted = nm.adapt(model)
    sites = [name for name in adapted.sites()][:2]
    found = quiet(InformationFlowAnalyzer(n_permutations=0), adapted, x, labels, sites=sites)
    assert list(found.data["site"].values) == sites
    assert np.isfinite(found.data["information"].sel(about="label", estimator="neighbours")).all()
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


def test_information_over_time_begins_when_the_label_comes():
    random = np.random.default_rng(0)
    labels = random.integers(2, size=600)
    states = random.normal(size=(600, 5, 3))
    states[:, 3:, 0] += 4 * labels[:, None]
    acts = nm.Activations({"state": torch.from_numpy(states)}, {"state": ("sample", "time", "unit")})
    found = quiet(InformationFlowAnalyzer(n_components=3), acts, labels=labels)
    over_time = found.data["information"].sel(about="label", estimator="neighbours", site="state").values
    assert (np.abs(over_time[:3]) < 0.06).all()
    assert (over_time[3:] > 0.4).all()
    p = found.data["p"].sel(about="label", estimator="neighbours", site="state").values
    assert (p[3:] == 0.05).all()


@pytest.mark.parametrize("axis", ["time", "position"])
def test_every_time_is_drawn_and_the_last_one_is_told_and_named(axis):
    random = np.random.default_rng(0)
    labels = random.integers(2, size=300)
    states = random.normal(size=(300, 4, 2))
    states[:, 2, 0] += 4 * labels  # known at the third time only
    acts = nm.Activations({"state": torch.from_numpy(states)}, {"state": ("sample", axis, "unit")})
    alone = quiet(InformationFlowAnalyzer(), acts, labels=labels)
    over_time = alone.data["information"].sel(about="label", site="state")
    axes = alone.plot()
    assert axes.get_xlabel() == axis
    drawn = [line.get_ydata() for line in axes.get_lines()]
    for name, null in (("neighbours", 1), ("binned", 3), ("noise", 5)):
        np.testing.assert_array_equal(drawn[null - 1], over_time.sel(estimator=name))
        np.testing.assert_array_equal(drawn[null], alone.data["null"].sel(about="label", estimator=name)[0])
    told = alone.summary()
    assert f"state about the label at its last {axis}, 3: neighbours {over_time.values[0, 3]:.3g} (p = " in told
    assert f"; by neighbours most at {axis} 2, {over_time.values[0, 2]:.3g}" in told
    # of several sites one estimator is drawn and named, each over the times that it has
    both = nm.Activations(
        {"state": torch.from_numpy(states), "short": torch.from_numpy(states[:, :3])},
        {"state": ("sample", axis, "unit"), "short": ("sample", axis, "unit")},
    )
    several = quiet(InformationFlowAnalyzer(n_permutations=0), both, labels=labels)
    axes = several.plot()
    assert axes.get_ylabel() == "information about the label (nats), neighbours"
    assert [line.get_label() for line in axes.get_lines()[:2]] == ["state", "short"]
    assert f"short about the label at its last {axis}, 2: neighbours" in several.summary()


def test_an_infinite_estimate_is_told_as_such_and_its_site_named():
    """At the last of two times the site is its input: an earlier number must not stand for that."""
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 2))
    states = np.stack([x + random.normal(size=x.shape), x], axis=1)
    acts = nm.Activations({"copy": torch.from_numpy(states)}, {"copy": ("sample", "time", "unit")})
    found = quiet(InformationFlowAnalyzer(n_permutations=0), acts, x)
    assert any("copy is a linear function of the inputs, at some time" in text for text in found.warnings)
    assert ", gaussian infinite, noise" in found.summary()
    assert np.isfinite(found.data["information"].sel(estimator="gaussian", time=0)).all()
    dead = nm.Activations({"copy": torch.from_numpy(states * [[[1.0], [0.0]]])}, {"copy": ("sample", "time", "unit")})
    assert "copy is constant at 1 of 2 times" in quiet(InformationFlowAnalyzer(n_permutations=0), dead, x).summary()


def test_behaviour_in_numbers_is_told_too():
    random = np.random.default_rng(0)
    speed = random.normal(size=800)
    layer = np.c_[speed + random.normal(size=800), random.normal(size=800)]
    found = quiet(InformationFlowAnalyzer(n_permutations=0), {"h": layer}, labels=speed).data["information"]
    assert found.sel(about="label", estimator="gaussian").item() == pytest.approx(0.5 * np.log(2), abs=0.08)
    assert np.isnan(found.sel(about="label", estimator="noise")).all()


# -- inputs and results ------------------------------------------------------------------------------------------------


def test_components_come_from_one_half_and_dead_layers_are_told():
    values = np.random.default_rng(0).normal(size=(400, 2))
    assert reduced(np.ones((400, 3)), np.arange(200), np.arange(200, 400), 2) is None
    with pytest.warns(UserWarning, match="dead is constant"):
        found = InformationFlowAnalyzer(n_permutations=0).analyze(
            {"dead": np.zeros((400, 3)), "alive": values}, labels=np.arange(400) % 2, progress=False
        )
    assert np.isnan(found.data["information"].sel(site="dead")).all()
    assert found.attributes["n_samples"] == found.attributes["n_fitted"] == 200
    with pytest.warns(UserWarning, match="linear function|cannot show more"):
        copied = InformationFlowAnalyzer(n_permutations=0, noise=0.001).analyze({"copy": values}, values)
    assert copied.data["information"].sel(estimator="noise").item() == pytest.approx(np.log(200), rel=0.01)


@pytest.mark.parametrize("dims", [("sample", "unit"), ("sample", "time", "unit")])
def test_where_nothing_varies_that_is_told_and_drawn(dims):
    acts = nm.Activations({name: torch.zeros((200, 3, 2)[: len(dims)]) for name in "ab"}, {"a": dims, "b": dims})
    found = quiet(InformationFlowAnalyzer(n_permutations=0), acts, labels=np.arange(200) % 2)
    assert "a about the label: nothing that can be estimated" in found.summary()
    assert found.plot().get_ylabel() == "information about the label (nats)"


def test_what_two_components_do_not_see_and_what_noise_cannot_tell_is_said():
    """Ten even directions: two hold a fifth of them; and noise that leaves all samples apart tells any label."""
    random = np.random.default_rng(0)
    layers = {"even": random.normal(size=(600, 10)), "flat": random.normal(size=(600, 2)) @ random.normal(size=(2, 10))}
    labels = random.integers(2, size=600)
    with pytest.warns(UserWarning, match="less than 80% of the variance of even:"):  # noqa: SIM117
        with pytest.warns(UserWarning, match="all samples of even"):
            found = InformationFlowAnalyzer().analyze(layers, labels=labels, progress=False)
    assert found.data["share"].values[:, 0] == pytest.approx([0.2, 1.0], abs=0.06)
    assert found.data["p"].sel(site="even", estimator="noise").item() > 0.5
    assert "even about the label: neighbours" in found.summary()
    assert "(p = " in found.summary()
    coarse = quiet(InformationFlowAnalyzer(noise=2.0, n_permutations=0), layers, labels=labels)
    assert not any("told apart" in text for text in coarse.warnings)


def test_tokens_are_inputs_of_which_only_noise_tells():
    tokens = np.random.default_rng(0).integers(50, size=(300, 4))
    layer = np.random.default_rng(1).normal(size=(300, 6))
    found = quiet(InformationFlowAnalyzer(n_permutations=0), {"h": layer}, tokens).data["information"]
    assert [name for name in ESTIMATORS if np.isfinite(found.sel(estimator=name)).all()] == ["noise"]


GOOD = {"h": np.random.default_rng(0).normal(size=(300, 4))}
LABELS = np.arange(300) % 2


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({}, {"source": GOOD}, "nothing to be informed about"),
        ({}, {"source": GOOD, "labels": LABELS[:200]}, "one label for each sample"),
        ({}, {"source": GOOD, "inputs": np.ones((7, 300, 2))}, r"time comes first.*swapaxes"),
        ({}, {"source": GOOD, "labels": np.zeros(300)}, "constant"),
        ({}, {"source": GOOD, "inputs": np.full((300, 2), np.nan)}, "not finite"),
        ({}, {"source": {"h": GOOD["h"][:100]}, "labels": LABELS[:100]}, "too few samples"),
        ({}, {"source": GOOD | {"other": GOOD["h"][:250]}, "labels": LABELS}, "different numbers of samples"),
        ({}, {"source": {"h": np.where(GOOD["h"] > 2, np.nan, GOOD["h"])}, "labels": LABELS}, "not finite"),
        ({}, {"source": GOOD, "labels": LABELS, "sites": "g"}, "no such layers"),
        ({}, {"source": torch.nn.Linear(4, 2), "inputs": GOOD["h"]}, r"to fix: +nm\.adapt\(model\)$"),
        ({"n_components": 4}, {"source": GOOD, "labels": LABELS}, "n_components is out of range"),
        ({"noise": 0}, {"source": GOOD, "labels": LABELS}, "noise is out of range"),
        ({"n_permutations": -1}, {"source": GOOD, "labels": LABELS}, "out of range"),
        ({"n_permutations": 3}, {"source": GOOD, "labels": LABELS}, "at least 19"),
        ({"seed": None}, {"source": GOOD, "labels": LABELS}, "not a seed"),
        ({}, {"source": GOOD, "labels": "left"}, "one label for each sample"),
        ({}, {"source": GOOD, "labels": {"choice": LABELS}}, "arrays by name"),
        ({}, {"source": GOOD, "labels": LABELS + 1j}, "the label is no data"),
        ({}, {"source": GOOD, "labels": GOOD["h"][:, 0].astype(object)}, "the label is no data"),
        ({}, {"source": GOOD, "inputs": np.full((300, 4), 7)}, "the input is constant"),
        ({}, {"source": GOOD, "inputs": ["the same"] * 300}, "the input is constant"),
    ],
)
def test_bad_input_is_refused(options, arguments, message):
    with pytest.raises((InputError, OptionError, SiteError), match=message):
        quiet(InformationFlowAnalyzer(**options), **arguments)


def test_a_result_is_told_drawn_and_kept(tmp_path):
    x, layers, _ = noisy_chain(0, 400)
    labels = (x[:, 0] > 0).astype(int)
    found = quiet(InformationFlowAnalyzer(), layers, x, labels)
    assert "layer 2 about the label: neighbours" in found.summary()
    assert found.plot().get_ylabel() == "information about the label (nats)"
    assert nm.load_result(found.save(tmp_path / "flow.nc")) == found
    assert found.data.identical(quiet(InformationFlowAnalyzer(), layers, x, labels).data)
    with pytest.raises(InputError, match="no training to follow"):
        InformationFlowAnalyzer().plane({0: layers}, x, labels, progress=False)


def test_samples_in_another_order_are_refused():
    """Labelled states and labels are not joined here, and by position they would belong to others."""
    names = [f"trial {number}" for number in range(300)]
    states = xr.DataArray(GOOD["h"], dims=("sample", "unit"), coords={"sample": names})
    labels = xr.DataArray(LABELS, dims="sample", coords={"sample": names})
    found = quiet(InformationFlowAnalyzer(n_permutations=0), {"h": states}, labels=labels)
    assert found.data.identical(quiet(InformationFlowAnalyzer(n_permutations=0), GOOD, labels=LABELS).data)
    with pytest.raises(InputError, match="label their sample differently"):
        quiet(InformationFlowAnalyzer(n_permutations=0), {"h": states}, labels=labels[::-1])


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_the_unit_of_states_does_not_matter(scale):
    plain, scaled = (
        quiet(InformationFlowAnalyzer(n_permutations=0), {1: scale_of * GOOD["h"]}, labels=LABELS).data["information"]
        for scale_of in (1.0, scale)
    )
    np.testing.assert_allclose(scaled, plain, rtol=1e-6)


def test_what_is_left_out_is_told():
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 2))
    layers = {"copy": x, "noisy": x + random.normal(size=x.shape), "steps": np.sign(x)}
    told = quiet(InformationFlowAnalyzer(n_permutations=0), layers, x, LABELS).summary()
    assert "left out: gaussian of copy about the input: one is a linear function" in told
    assert "gaussian about the label: categories have no correlations" in told
    assert "neighbours of steps about the input, neighbours of steps about the label: states that are all alike" in told
    assert "noise about the label" not in told.partition("left out")[2]
    speed = quiet(InformationFlowAnalyzer(n_permutations=0), {"noisy": layers["noisy"]}, labels=x[:, 0])
    assert "left out: noise about the label: it tells of categories" in speed.summary()
    tokens = quiet(InformationFlowAnalyzer(n_permutations=0), layers, random.integers(9, size=(300, 3)))
    assert "tokens have no distances" in tokens.summary()
    alone = quiet(InformationFlowAnalyzer(n_permutations=0), {"copy": x}, labels=x)
    legend = alone.plot().get_legend()
    assert legend is not None
    assert "gaussian" not in [text.get_text() for text in legend.get_texts()]


def test_a_plane_needs_both_axes_and_the_same_sites():
    x, layers, _ = noisy_chain(0, 400)
    labels = (x[:, 0] > 0).astype(int)
    analyzer = InformationFlowAnalyzer()
    found = analyzer.plane([(5, layers), (1, layers)], x, labels, progress=False)
    assert found.data["step"].values.tolist() == [1, 5]
    few = {"layer 0": layers["layer 0"]}
    wrong: list[tuple[Any, Any, str]] = [
        ({0: layers, 1: layers}, None, "two axes"),
        (None, x, "no checkpoints"),
        ([(1, layers), (1, layers)], x, "occurs twice"),
        ({0: layers, 1: few}, x, "different sites"),
    ]
    for checkpoints, inputs, message in wrong:
        with pytest.raises(InputError, match=message):
            analyzer.plane(checkpoints, inputs, labels, progress=False)
