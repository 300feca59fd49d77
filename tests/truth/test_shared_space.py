"""Shared spaces: what was planted is found again, and noise shares nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError

METHODS = ("gcca", "hyperalignment")
SEEDS = (0, 1, 2, 3)


def planted(seed: int, noise: float = 0.5, n: int = 240, sizes: tuple[int, ...] = (20, 30, 25)) -> tuple:
    """Three latent signals that every recording shows, mixed and in units of its own."""
    random = np.random.default_rng(seed)
    latent = random.normal(size=(n, 3))
    views = {}
    for number, size in enumerate(sizes):
        mixed = latent @ random.normal(size=(3, size)) + noise * random.normal(size=(n, size))
        views[f"subject {number}"] = 10.0**number * mixed + 100
    return latent, views


def smallest_cosine(first: np.ndarray, second: np.ndarray) -> float:
    bases = [np.linalg.qr(each - each.mean(0))[0] for each in (first, second)]
    return float(np.linalg.svd(bases[0].T @ bases[1])[1].min())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", METHODS)
def test_planted_signals_are_found_and_carry_over_to_new_stimuli(method: str, seed: int) -> None:
    latent, views = planted(seed)
    space = nm.SharedSpace(3, method=method).fit({name: values[:160] for name, values in views.items()})
    assert smallest_cosine(space.shared_, latent[:160]) > 0.99
    moved = space.transform("subject 1", views["subject 1"][160:])
    assert smallest_cosine(moved, latent[160:]) > 0.98
    assert nm.SharedSpace(3, method=method).score(views) > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_recordings_of_nothing_in_common_share_nothing(method: str) -> None:
    scores = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        views = [random.normal(size=(200, size)) for size in (10, 15, 12)]
        scores.append(nm.SharedSpace(2, method=method).score(views))
    error = np.std(scores) / np.sqrt(len(scores))
    assert abs(np.mean(scores)) < 3 * error < 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_gcca_of_two_recordings_is_cca(seed: int) -> None:
    _, views = planted(seed, noise=3.0, sizes=(8, 11))
    one, other = views.values()
    space = nm.SharedSpace(3).fit(views)
    cca = nm.CCA(3).fit(one, other)
    variates = [space.transform(name, values) for name, values in views.items()]
    found = [np.corrcoef(variates[0][:, k], variates[1][:, k])[0, 1] for k in range(3)]
    np.testing.assert_allclose(found, cca.correlations_, atol=1e-10)
    assert smallest_cosine(variates[0], cca.transform(one)) == pytest.approx(1)


def test_gcca_maximises_the_sum_of_explained_variances() -> None:
    _, views = planted(0, noise=3.0)
    space = nm.SharedSpace(1).fit(views)
    projections = []
    for values in views.values():
        basis = np.linalg.qr(values - values.mean(0))[0]
        projections.append(basis @ basis.T)
    largest = np.linalg.eigvalsh(sum(projections))[-1]
    signal = space.shared_[:, 0] / np.linalg.norm(space.shared_[:, 0])
    assert sum(signal @ projection @ signal for projection in projections) == pytest.approx(largest)


@pytest.mark.parametrize("seed", SEEDS)
def test_hyperalignment_undoes_rotations(seed: int) -> None:
    random = np.random.default_rng(seed)
    base = random.normal(size=(60, 6)) * np.array([6.0, 5, 4, 3, 2, 1])
    views = [base @ np.linalg.qr(random.normal(size=(6, 6)))[0] * scale for scale in (1.0, 5.0, 0.1)]
    space = nm.SharedSpace(6, method="hyperalignment").fit(views)
    moved = [space.transform(str(number), values) for number, values in enumerate(views)]
    np.testing.assert_allclose(moved[0], moved[1], atol=1e-8)
    np.testing.assert_allclose(moved[0], moved[2], atol=1e-8)
    within = [np.linalg.norm(values[:, None] - values, axis=-1) for values in (moved[0], base)]
    assert np.ptp(within[0][within[1] > 0] / within[1][within[1] > 0]) < 1e-8  # distances are kept, up to one unit


@pytest.mark.parametrize("method", METHODS)
def test_one_recording_predicts_another_of_another_kind(method: str) -> None:
    latent, views = planted(5, sizes=(20, 60))
    del latent
    train = {name: values[:160] for name, values in views.items()}
    space = nm.SharedSpace(3, method=method).fit(train)
    predicted = space.predict("subject 0", "subject 1", torch.tensor(views["subject 0"][160:]))
    assert isinstance(predicted, torch.Tensor)
    target = views["subject 1"][160:]
    residual = ((target - predicted.numpy()) ** 2).sum() / ((target - train["subject 1"].mean(0)) ** 2).sum()
    assert residual < 0.2
    result = nm.SharedSpace(3, method=method).evaluate(views)
    prediction = result.data["prediction"]
    assert float(prediction.sel(source="subject 0", target="subject 1")) > 0.9
    assert "subject 0 predicts subject 1" in result.summary()
    result.plot()


def test_recordings_are_joined_by_label() -> None:
    _, views = planted(0)
    names = [f"image {number}" for number in range(240)]
    order = np.random.default_rng(1).permutation(240)
    one, other, third = views.values()
    labelled = {
        "one": nm.Recording(one, ("stimulus", "unit"), {"stimulus": names}),
        "other": xr.DataArray(other[order], dims=("stimulus", "unit")).assign_coords(
            stimulus=[names[k] for k in order]
        ),
    }
    plain = nm.SharedSpace(2).fit({"one": one, "other": other})
    np.testing.assert_allclose(nm.SharedSpace(2).fit(labelled).shared_, plain.shared_, atol=1e-9)
    with pytest.raises(InputError, match="third has none"):
        nm.SharedSpace(2).fit({**labelled, "third": third})


@pytest.mark.parametrize(
    ("recordings", "options", "words"),
    [
        ([np.eye(5)], {}, "shares nothing"),
        ([np.eye(5), np.eye(4)], {}, "different numbers of samples"),
        ([np.eye(5), np.ones((5, 3))], {}, "varies"),
        ([np.eye(5), np.eye(5)], {"n_components": 9}, "components"),
        ([np.eye(2), np.eye(2)], {}, "too few stimuli"),
        ([np.eye(5), np.full((5, 5), np.nan)], {}, "not finite"),
        ([np.eye(5), np.eye(5)], {"method": "hyperalignment", "n_components": 5}, "rank 4"),
    ],
)
def test_what_has_no_shared_space_is_refused(recordings: list, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        nm.SharedSpace(**{"n_components": 1, **options}).fit(recordings)


def test_too_many_features_are_warned_of_and_regularised() -> None:
    random = np.random.default_rng(0)
    noise = [random.normal(size=(40, 30)) for _ in range(2)]
    with pytest.warns(UserWarning, match="whatever they hold"):
        space = nm.SharedSpace(2).fit(noise)
    moved = [space.transform(name, values)[:, 0] for name, values in zip("01", noise, strict=True)]
    assert np.corrcoef(*moved)[0, 1] > 0.999  # of noise: what the warning is about
    result = nm.SharedSpace(2).evaluate(noise)
    assert "whatever they hold" in result.warnings[0]
    assert abs(result.data["correlation"].mean()) < 0.2
    assert nm.SharedSpace(2, reg=1.0).evaluate(noise).warnings == ()


def test_names_and_methods_are_checked() -> None:
    views = planted(0)[1]
    with pytest.raises(OptionError, match="unknown method"):
        nm.SharedSpace(2, method="srm").fit(views)
    space = nm.SharedSpace(2).fit(views)
    with pytest.raises(OptionError, match="did you mean 'subject"):
        space.transform("subject 9", views["subject 0"])
    with pytest.raises(InputError, match="another number of features"):
        space.transform("subject 0", views["subject 1"])
    with pytest.raises(InputError, match="too few samples"):
        nm.SharedSpace(1).score([values[:8] for values in views.values()], cv=4)
