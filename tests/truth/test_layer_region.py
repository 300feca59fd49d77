"""Layer x region maps: the layer that made a region is found, and the best of many layers is not overrated."""

from __future__ import annotations

import warnings
from typing import Any

import joblib
import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, SiteError
from neuros_mechint.neuro.alignment import layer_region_data
from tests.slow import slow_case

SEEDS = (0, 1, 2, 3)
N_STIMULI = 120
METHODS = {
    "ridge": nm.RidgeEncoding(metric="correlation"),
    "pls": nm.PLS(10),
    "cka": nm.CKA(),
    "rsa": nm.RSA(rdm="euclidean", compare="corr"),
}


def network(seed: int, depth: int = 4, width: int = 12) -> torch.nn.Sequential:
    """Layers that mix and bend what they get, so that a layer is no linear function of another."""
    random = torch.Generator().manual_seed(seed)
    blocks = []
    for _ in range(depth):
        linear = torch.nn.Linear(width, width)
        with torch.no_grad():
            linear.weight.copy_(1.5 * torch.randn(width, width, generator=random) / width**0.5)
            linear.bias.copy_(torch.randn(width, generator=random))
        blocks.append(torch.nn.Sequential(linear, torch.nn.Tanh()))
    return torch.nn.Sequential(*blocks)


def brain(seed: int, noise: float = 1.0, n_repetitions: int = 4) -> tuple[Any, torch.Tensor, list[str], nm.Recording]:
    """Region k is a linear function of layer k; its stimuli are in another order than the inputs."""
    random = np.random.default_rng(seed)
    net = network(seed)
    inputs = torch.tensor(random.normal(size=(N_STIMULI, 12)), dtype=torch.float32)
    names = [f"image {number}" for number in range(N_STIMULI)]
    model = nm.adapt(net)
    acts = model.capture(inputs, ["0", "1", "2", "3"])
    signals = []
    for layer in range(4):
        signal = acts[str(layer)].double().numpy() @ np.linalg.qr(random.normal(size=(12, 12)))[0]
        signals.append(signal / signal.std(0))
    clean = np.hstack(signals)
    responses = clean + noise * random.normal(size=(n_repetitions, *clean.shape))
    order = random.permutation(N_STIMULI)
    region = [f"area {layer}" for layer in range(4) for _ in range(12)]
    recording = nm.Recording(
        responses[:, order],
        ("repetition", "stimulus", "unit"),
        {"stimulus": [names[place] for place in order]},
        region=region,
    )
    return model, inputs, names, recording


@pytest.mark.parametrize("seed", [0, *map(slow_case, SEEDS[1:])])
@pytest.mark.parametrize("name", METHODS)
def test_the_layer_that_made_a_region_is_chosen_in_every_fold(name: str, seed: int) -> None:
    model, inputs, names, recording = brain(seed, noise=0.5)
    acts = model.capture(inputs, ["0", "1", "2", "3"]).with_labels(sample=names)
    result = nm.layer_region_map(acts, recording, method=METHODS[name], cv=4)
    assert (result.data["score"].values.argmax(0) == np.arange(4)).all()
    table = result.best_layer()
    assert table["layer"].tolist() == ["0", "1", "2", "3"]
    assert (table["share"] == 1).all()
    np.testing.assert_allclose(table["nested_score"], table["naive_score"])  # nothing was left to luck


def test_a_model_its_activations_and_a_store_give_the_same_map(tmp_path: Any) -> None:
    model, inputs, names, recording = brain(0)
    settings = {"method": nm.CKA(), "stimuli": names}
    live = nm.layer_region_map(model, recording, inputs, sites=["0", "1", "2", "3"], batch_size=30, **settings)
    acts = model.capture(inputs, ["0", "1", "2", "3"])
    stored = model.capture(inputs, ["0", "1", "2", "3"], to=tmp_path / "store.zarr")
    arrays = {name: acts[name].numpy() for name in acts}
    for other in (acts, stored, arrays):
        np.testing.assert_allclose(nm.layer_region_map(other, recording, **settings).main, live.main, atol=1e-6)
    assert live.provenance.model == model.fingerprint()


def test_sites_are_captured_as_many_at_a_time_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs, names, recording = brain(0)
    asked = []
    capture = model.capture
    monkeypatch.setattr(model, "capture", lambda x, sites, **rest: asked.append(sites) or capture(x, sites, **rest))
    expected = None
    for budget, sizes in ((2**28, [1, 3]), (N_STIMULI * 12 * 8 * 2, [1, 2, 1]), (1, [1, 1, 1, 1])):
        monkeypatch.setattr(layer_region_data, "_BYTES_AT_ONCE", budget)
        asked.clear()
        found = nm.layer_region_map(model, recording, inputs, sites=list("0123"), stimuli=names, method=nm.CKA())
        assert [len(sites) for sites in asked] == sizes
        expected = found.main if expected is None else expected
        np.testing.assert_array_equal(found.main, expected)


def test_scores_are_those_of_the_methods_themselves() -> None:
    model, inputs, names, recording = brain(1)
    acts = model.capture(inputs, ["0", "2"]).with_labels(sample=names)
    area = recording.select(region="area 2").average("repetition")
    folds = [(np.setdiff1d(np.arange(N_STIMULI), test), test) for test in np.arange(N_STIMULI).reshape(4, -1)]
    ridge = METHODS["ridge"]
    found = nm.layer_region_map(acts, recording, method=ridge, cv=folds).main.sel(region="area 2")
    # rows in the order of the recording: that of its folds
    x = acts.xarray("2").sel(sample=area.data.stimulus.values).values
    assert float(found.sel(site="2")) == pytest.approx(ridge.score(x, area.data.values, cv=folds))
    for method in (nm.CKA(), nm.RSA()):
        found = nm.layer_region_map(acts, recording, method=method).main.sel(region="area 2", site="0")
        assert float(found) == pytest.approx(method.score(acts.xarray("0").rename(sample="stimulus"), area))


@pytest.mark.parametrize("name", ["ridge", "rsa"])
def test_shuffled_stimuli_have_no_best_layer(name: str) -> None:
    nested = []
    for seed in range(8):
        model, inputs, names, recording = brain(seed)
        recording = recording.query("region in ['area 0', 'area 2']")
        acts = model.capture(inputs, ["0", "3"])
        shuffled = list(np.random.default_rng(seed).permutation(names))
        nested.append(nm.layer_region_map(acts, recording, stimuli=shuffled, method=METHODS[name], cv=3))
    scores = np.array([one.data["nested_score"].values.mean() for one in nested])
    assert abs(scores.mean()) < 3 * scores.std(ddof=1) / np.sqrt(len(scores)) < 0.08


def test_the_nested_score_is_unbiased_and_the_best_of_many_layers_is_not() -> None:
    """Twenty layers of nothing: the truth is 0."""
    nested, naive = [], []
    for seed in range(30):
        random = np.random.default_rng(seed)
        layers = {f"layer {k}": random.normal(size=(60, 5)) for k in range(20)}
        result = nm.layer_region_map(layers, random.normal(size=(60, 8)), method=nm.CKA(), seed=seed)
        nested.append(float(result.data["nested_score"][0]))
        naive.append(float(result.data["naive_score"][0]))
    error = np.std(nested, ddof=1) / np.sqrt(len(nested))
    assert abs(np.mean(nested)) < 2.5 * error
    assert np.mean(naive) > 10 * np.std(naive, ddof=1) / np.sqrt(len(naive))
    assert np.mean(naive) > 0.1 > abs(np.mean(nested))


def test_among_equally_good_layers_only_the_naive_score_exceeds_the_truth() -> None:
    """Twenty layers that hold the same signal and their own noise: each has the same true score."""
    nested, naive, single = [], [], []
    for seed in range(25):
        random = np.random.default_rng(seed)
        signal = random.normal(size=(60, 4))
        layers = {f"{k}": signal + random.normal(size=(60, 4)) for k in range(20)}
        result = nm.layer_region_map(layers, signal + random.normal(size=(60, 4)), method=nm.CKA(), seed=seed)
        nested.append(float(result.data["nested_score"][0]))
        naive.append(float(result.data["naive_score"][0]))
        single.append(float(result.data["fold_score"].mean()))
    gaps = np.subtract(nested, single)
    assert abs(gaps.mean()) < 3 * gaps.std(ddof=1) / 5 + 0.01
    assert np.subtract(naive, single).min() > 0.02


def test_ceilings_are_those_of_the_noise() -> None:
    for seed in SEEDS:
        model, inputs, names, recording = brain(seed, noise=2.0, n_repetitions=6)
        acts = model.capture(inputs, ["0"]).with_labels(sample=names)
        rsa = nm.layer_region_map(acts, recording, method=METHODS["rsa"], cv=2).data["ceiling"]
        assert (rsa.sel(bound="lower") <= rsa.sel(bound="upper")).all()
        # reliability of six repetitions of noise of variance 4: 1 / (1 + 4 / 6), of halves of three 1 / (1 + 4 / 3)
        ceiling = nm.layer_region_map(acts, recording, method=nm.RidgeEncoding(), cv=2).data["ceiling"]
        np.testing.assert_allclose(ceiling.sel(bound="upper"), 0.6, atol=0.06)
        np.testing.assert_allclose(ceiling.sel(bound="lower"), (3 / 7) ** 2, atol=0.06)
        rooted = nm.layer_region_map(acts, recording, method=METHODS["ridge"], cv=2).data["ceiling"]
        np.testing.assert_allclose(rooted.sel(bound="upper"), np.sqrt(0.6), atol=0.05)
        np.testing.assert_allclose(rooted.sel(bound="lower"), 3 / 7, atol=0.06)


def test_subjects_are_scored_alone_and_give_the_ceilings_of_rsa() -> None:
    model, inputs, names, recording = brain(0)
    acts = model.capture(inputs, ["0", "1"]).with_labels(sample=names)
    array = recording.average("repetition").data.assign_coords(subject=("unit", list("abc") * 16))
    method = nm.RSA(rdm="euclidean", compare="spearman")
    result = nm.layer_region_map(acts, nm.Recording(array), method=method)
    area = array.isel(unit=array.region.values == "area 1")
    subjects = [area.isel(unit=area.subject.values == subject) for subject in "abc"]
    ceiling = nm.noise_ceiling([nm.compute_rdm(one.values, "euclidean") for one in subjects])
    found = result.data["ceiling"].sel(region="area 1").values
    np.testing.assert_allclose(found, [ceiling.lower, ceiling.upper])
    features = acts.xarray("0").rename(sample="stimulus")
    expected = np.mean([method.score(features, one) for one in subjects])
    assert float(result.main.sel(site="0", region="area 1")) == pytest.approx(expected)


def test_ceilings_are_missing_where_nothing_was_repeated() -> None:
    model, inputs, names, recording = brain(0)
    once = recording.average("repetition")
    for method in METHODS.values():
        result = nm.layer_region_map(model, once, inputs, sites=["0", "1"], stimuli=names, method=method, cv=3)
        assert np.isnan(result.data["ceiling"].values).all()
        assert "ceiling" not in result.summary()


def test_trials_are_laid_out_and_workers_change_nothing() -> None:
    model, inputs, names, recording = brain(2)
    trials = recording.xarray().stack(trial=("repetition", "stimulus"))
    shown = trials["stimulus"].values
    trials = trials.drop_vars(["trial", "repetition", "stimulus"]).assign_coords(stimulus=("trial", shown))
    settings = {"inputs": inputs, "sites": ["0", "3"], "stimuli": names, "cv": 3}
    one = nm.layer_region_map(model, recording, **settings)
    with joblib.parallel_config(backend="threading"):
        other = nm.layer_region_map(model, nm.Recording(trials.transpose("trial", "unit")), n_jobs=2, **settings)
    np.testing.assert_allclose(other.main, one.main)
    np.testing.assert_allclose(other.data["ceiling"], one.data["ceiling"])


def test_one_region_one_layer_and_groups() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 5))
    groups = [number // 4 for number in range(40)]
    result = nm.layer_region_map({"only": x}, x @ random.normal(size=(5, 3)), groups=groups)
    assert result.best_layer()["share"].tolist() == [1.0]
    assert result.data["region"].values.tolist() == ["all units"]
    assert float(result.data["nested_score"][0]) == float(result.data["naive_score"][0]) > 0.99


def test_figures_and_words() -> None:
    model, inputs, names, recording = brain(0)
    settings = {"inputs": inputs, "sites": list("0123"), "stimuli": names, "method": METHODS["rsa"]}
    result = nm.layer_region_map(model, recording, **settings)
    axes = result.plot()
    assert [text.get_text() for text in axes.get_legend().get_texts()][:4] == [f"area {k}" for k in range(4)]
    assert "area 2: 2 (5 of 5 folds), held out" in result.summary()
    assert "ceiling" in result.summary()
    many = {f"area {k}": recording.select(region=f"area {k % 4}").average("repetition") for k in range(9)}
    assert len(nm.layer_region_map(model, many, **settings).plot().images) == 1


def test_warnings_of_methods_come_once() -> None:
    random = np.random.default_rng(0)
    layers = {"a": random.normal(size=(30, 3)), "b": random.normal(size=(30, 3))}
    responses = random.normal(size=(30, 4))
    responses[:, 2] = 1.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = nm.layer_region_map(layers, {"V1": responses}, cv=3)
    assert len(caught) == len(result.warnings) == 1
    assert "V1: 1 of 4 targets are constant" in result.warnings[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stimuli": None}, "has labels and"),
        ({"stimuli": ["other"] + [f"image {k}" for k in range(1, N_STIMULI)]}, "same labels"),
        ({"stimuli": ["image 0"] * N_STIMULI}, "repeated"),
        ({"stimuli": ["image 0"]}, "do not fit the inputs"),
        ({"inputs": None}, "needs inputs"),
        ({"cv": N_STIMULI + 1}, "cannot be dealt"),
        ({"cv": 40, "method": nm.CKA()}, "too few samples"),
        ({"groups": ["a"] * N_STIMULI}, "1 groups cannot be dealt to 5 folds"),
        ({"method": "ridge"}, "no method"),
        ({"recording": {}}, "no region"),
    ],
)
def test_what_has_no_map_is_refused(change: dict, words: str) -> None:
    model, inputs, names, recording = brain(0)
    arguments = {"model": model, "recording": recording, "inputs": inputs, "sites": "0", "stimuli": names, **change}
    with pytest.raises(InputError, match=words):
        nm.layer_region_map(**arguments)


def test_layers_that_are_constant_missing_or_have_positions_are_refused() -> None:
    random = np.random.default_rng(0)
    responses = random.normal(size=(20, 4))
    with pytest.raises(InputError, match="varies") as found:
        nm.layer_region_map({"dead": np.ones((20, 3))}, {"V4": responses})
    assert "at site 'dead' and region 'V4'" in found.value.__notes__
    with pytest.raises(InputError, match="no such layers"):
        nm.layer_region_map({"a": responses}, responses, sites=["b"])
    with pytest.raises(InputError, match="no model"):
        nm.layer_region_map(responses, responses)
    with pytest.raises(InputError, match="take no inputs"):
        nm.layer_region_map({"a": responses}, responses, inputs=responses)
    with pytest.raises(InputError, match="axis of time"):
        nm.layer_region_map({"a": responses}, nm.Recording(random.normal(size=(20, 3, 4))))
    model = nm.adapt(network(0))
    with pytest.raises(SiteError):
        nm.layer_region_map(model, responses, torch.zeros(20, 12), sites="nowhere")
    sequences = nm.Activations({"embed": torch.randn(20, 5, 3)}, {"embed": ("sample", "position", "unit")})
    with pytest.raises(InputError, match="axis of samples") as found:
        nm.layer_region_map(sequences, responses)
    assert "embed[position=-1]" in found.value.__notes__[0]


def test_units_of_a_layer_choose_no_layer():
    random = np.random.default_rng(1)
    good = random.normal(size=(60, 5))
    region = good @ random.normal(size=(5, 3)) + 0.3 * random.normal(size=(60, 3))
    layers = {"good": 1e-4 * good, "worse": good + 0.7 * random.normal(size=(60, 5))}
    assert nm.layer_region_map(layers, {"V": region}).best_layer()["layer"].tolist() == ["good"]
    with pytest.raises(InputError, match="RSA is a class"):
        nm.layer_region_map(layers, {"V": region}, method=nm.RSA)


def test_regions_and_layers_may_be_numbers():
    random = np.random.default_rng(0)
    responses = random.normal(size=(40, 4))
    recording = nm.Recording(responses, ("stimulus", "unit"), {"region": ("unit", [0, 0, 1, 1])})
    result = nm.layer_region_map({1: responses[:, :2], 2: responses[:, 2:]}, recording)
    assert result.best_layer()["layer"].tolist() == ["1", "2"]


def test_ceilings_of_noise_are_zero_on_average():
    upper = []
    for seed in range(6):
        noise = np.random.default_rng(seed).normal(size=(4, 60, 40))
        recording = nm.Recording(noise, ("repetition", "stimulus", "unit"))
        found = nm.layer_region_map({"layer": noise[0]}, {"noise": recording})
        upper.append(float(found.data["ceiling"].sel(bound="upper").item()))
    assert np.mean(upper) < 0.04


def test_layers_without_a_score_are_never_chosen_and_counted():
    class Odd:
        def score(self, X, Y, cv=None):
            return float("nan") if X.shape[1] == 4 else 0.5

    layers = {
        "none": np.random.default_rng(0).normal(size=(40, 4)),
        "half": np.random.default_rng(1).normal(size=(40, 5)),
    }
    with pytest.warns(UserWarning, match="1 of 2 layers and regions are NaN"):
        best = nm.layer_region_map(layers, {"V": layers["half"]}, method=Odd()).best_layer()
    assert best["layer"].tolist() == ["half"]
    assert best["naive_score"].tolist() == [0.5]


def test_a_method_with_a_generator_scores_equal_layers_alike():
    x = np.random.default_rng(0).normal(size=(60, 30))
    y = x[:, :3] + np.random.default_rng(1).normal(size=(60, 3))
    method = nm.RidgeEncoding(seed=np.random.default_rng(0))
    scores = nm.layer_region_map({"a": x, "b": x}, {"V": y}, method=method).data["score"]
    assert float(scores[0, 0]) == float(scores[1, 0])
