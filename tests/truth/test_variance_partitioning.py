"""Variance partitioning: planted parts are found, noise explains nothing, parts add up."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError
from tests.slow import slow_case

SEEDS = (0, 1, 2)
N_STIMULI, N_TARGETS = 1500, 10


def planted(seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Responses a quarter of whose variance comes from each of: shared features, each model's own, and noise."""
    random = np.random.default_rng(seed)
    shared, own_a, own_b = random.normal(size=(3, N_STIMULI, 4))
    signals = [
        source @ np.linalg.qr(random.normal(size=(4, 4)))[0] @ random.choice([-1, 1], (4, N_TARGETS)) / 2
        for source in (shared, own_a, own_b)
    ]
    models = {"a": np.hstack([shared, own_a]), "b": np.hstack([shared, own_b])}
    return models, sum(signals) + random.normal(size=(N_STIMULI, N_TARGETS))


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_parts_are_found(seed: int) -> None:
    models, responses = planted(seed)
    result = nm.variance_partitioning(models, responses)
    for part in ("a", "b", "a & b"):
        one = result.data.sel(part=part)
        assert float(one["variance"]) == pytest.approx(0.25, abs=0.04)
        assert float(one["low"]) < float(one["variance"]) < float(one["high"])
    everything = float(result.data["r2"].sel(subset="a + b"))
    assert float(result.data["variance"].sum()) == pytest.approx(everything)
    assert everything == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_model_of_noise_explains_nothing(seed: int) -> None:
    models, responses = planted(seed)
    noise = np.random.default_rng(100 + seed).normal(size=(N_STIMULI, 6))
    result = nm.variance_partitioning({**models, "noise": noise}, responses)
    for part in ("noise", "a & noise", "b & noise", "a & b & noise"):
        assert abs(float(result.data["variance"].sel(part=part))) < 0.01
    assert float(result.data["variance"].sel(part="a & b")) == pytest.approx(0.25, abs=0.04)
    assert float(result.data["variance"].sum()) == pytest.approx(float(result.data["r2"][-1]))


def test_two_parts_by_hand() -> None:
    """Of two models the parts are differences of three R2, which RidgeEncoding gives by itself."""
    models, responses = planted(0)
    models = {name: values / np.sqrt(values.var(0).mean()) for name, values in models.items()}
    result = nm.variance_partitioning({name: 1e6 * values for name, values in models.items()}, responses, cv=4, seed=3)
    r2 = {
        name: nm.RidgeEncoding().score(values, responses, cv=4, seed=3)
        for name, values in {**models, "both": np.hstack(list(models.values()))}.items()
    }
    expected = [r2["both"] - r2["b"], r2["both"] - r2["a"], r2["a"] + r2["b"] - r2["both"]]
    np.testing.assert_allclose(result.data["variance"].values, expected, atol=1e-12)


def test_the_same_model_twice_has_everything_in_common() -> None:
    models, responses = planted(0)
    parts = nm.variance_partitioning({"one": models["a"], "same": models["a"]}, responses).data["variance"]
    assert abs(parts.sel(part="one")) < 1e-3
    assert parts.sel(part="one & same") == pytest.approx(0.5, abs=0.04)


def overfitting() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two models of many features, of which one explains the responses of few stimuli and the other nothing."""
    random = np.random.default_rng(0)
    first, other = random.normal(size=(2, 80, 64))
    return {"a": first, "b": other}, first @ random.normal(size=(64, 10)) / 8 + random.normal(size=(80, 10))


def test_where_features_are_too_many_the_result_warns_and_bands_help() -> None:
    models, responses = overfitting()
    plain = nm.variance_partitioning(models, responses)
    assert "too many for 80 stimuli" in plain.warnings[0]
    assert float(plain.data["variance"].sel(part="a & b")) > 0.1  # of models that have nothing in common
    banded = nm.variance_partitioning(models, responses, nm.BandedRidge({}, n_candidates=10))
    assert abs(float(banded.data["variance"].sel(part="a & b"))) < 0.05
    assert float(banded.data["variance"].sel(part="a")) > 0.1
    with pytest.raises(InputError, match="parted by R2"):
        nm.variance_partitioning(models, responses, nm.RidgeEncoding(metric="correlation"))
    with pytest.raises(InputError, match="RidgeEncoding is a class"):
        nm.variance_partitioning(models, responses, nm.RidgeEncoding)  # type: ignore[arg-type]


@pytest.mark.parametrize("n_seeds", [15, slow_case(100)])
def test_the_interval_covers_the_truth(n_seeds: int) -> None:
    covered = []
    for seed in range(n_seeds):
        random = np.random.default_rng(seed)
        signal, other = random.normal(size=(2, 300, 2))
        responses = signal @ np.array([[1.0], [0.0]]) + random.normal(size=(300, 1))
        part = nm.variance_partitioning({"signal": signal, "other": other}, responses).data.sel(part="signal")
        covered.append(float(part["low"]) <= 0.5 <= float(part["high"]))
    assert np.mean(covered) > 0.8  # nominally .95, stimuli alone being drawn anew


def test_constant_targets_are_left_out_and_labels_joined() -> None:
    models, responses = planted(0)
    responses[:, 3] = 7.0
    names = np.arange(N_STIMULI)
    order = np.random.default_rng(0).permutation(N_STIMULI)
    labelled = {
        key: xr.DataArray(values, dims=("stimulus", "unit")).assign_coords(stimulus=names)
        for key, values in models.items()
    }
    recording = nm.Recording(responses[order], ("stimulus", "unit"), {"stimulus": names[order]})
    result = nm.variance_partitioning(labelled, recording)
    assert "1 targets are constant" in result.warnings[0]
    assert result.data["target"].values.tolist() == [unit for unit in range(N_TARGETS) if unit != 3]
    assert float(result.data["variance"].sel(part="a & b")) == pytest.approx(0.25, abs=0.04)
    result.plot()
    assert "a & b: " in result.summary()


def test_units_and_constant_targets_change_nothing() -> None:
    models, responses = planted(0)
    units = {"a": 1e-9 * models["a"], "b": 1e3 * models["b"]}
    expected = nm.variance_partitioning(models, responses).data["variance"].values
    np.testing.assert_allclose(nm.variance_partitioning(units, responses).data["variance"].values, expected, atol=1e-6)
    with pytest.raises(InputError, match="the same as text"):
        nm.variance_partitioning({1: models["a"], "1": models["b"]}, responses)


@pytest.mark.parametrize(
    ("models", "options", "words"),
    [
        ({"a": np.eye(9)}, {}, "2 to 4"),
        (dict.fromkeys("abcde", np.eye(9)), {}, "2 to 4"),
        ([np.eye(9), np.eye(9)], {}, "2 to 4"),
        ({"a": np.eye(9), "b": np.eye(8)}, {}, "different numbers of samples"),
        ({"a": np.eye(9), "b": np.eye(9)}, {"method": nm.CKA()}, "predicts nothing"),
        ({"a": np.eye(9), "b": np.eye(9)}, {"cv": 12}, "folds"),
    ],
)
def test_bad_input_is_refused(models: object, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        nm.variance_partitioning(models, np.arange(18.0).reshape(9, 2), **options)
    with pytest.raises(InputError, match="varies"):
        nm.variance_partitioning({"a": np.eye(9), "b": np.eye(9)}, np.ones((9, 2)))
