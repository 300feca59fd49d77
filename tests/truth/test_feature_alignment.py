"""Contributions of features to the prediction of units, where it is known which features drive which units."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure

import neuros_mechint as nm
from neuros_mechint.features.alignment import FeatureAlignment

N_STIMULI, N_FEATURES, N_INPUTS, N_UNITS = 160, 20, 12, 8
N_DRIVEN = 4
RIDGE = nm.RidgeEncoding(alphas=tuple(10.0 ** np.arange(-1, 5)))


class Known:
    """The dictionary that the activations were made from: encoding gives the true sparse features."""

    def __init__(self, features, directions):
        self.features, self.directions = features, torch.as_tensor(directions, dtype=torch.float32)
        self.rows = (features @ directions).astype(np.float32)

    def encode(self, x):
        distance = torch.cdist(x.reshape(-1, x.shape[-1]), torch.as_tensor(self.rows))
        nearest = torch.as_tensor(self.features, dtype=torch.float32)[distance.argmin(-1)]
        return nearest.reshape(*x.shape[:-1], -1)

    def decode(self, features):
        return features @ self.directions


def planted(seed: int):
    """A dictionary, activations, units of which the first half are driven by one feature each, and these features."""
    random = np.random.default_rng(seed)
    features = random.exponential(size=(N_STIMULI, N_FEATURES)) * (random.random((N_STIMULI, N_FEATURES)) < 0.25)
    dictionary = Known(features, random.normal(size=(N_FEATURES, N_INPUTS)))
    drivers = random.choice(N_FEATURES, N_DRIVEN, replace=False)
    units = random.normal(size=(N_STIMULI, N_UNITS))
    units[:, :N_DRIVEN] = features[:, drivers] / features[:, drivers].std(0) + 0.5 * units[:, :N_DRIVEN]
    return dictionary, dictionary.rows, units, drivers


def test_the_features_that_drive_units_are_found_and_no_others():
    hits, false, found_pairs = 0, 0, 0
    for seed in range(6):
        dictionary, x, units, drivers = planted(seed)
        found = nm.feature_alignment(dictionary, x, units, method=RIDGE, n_controls=2, seed=seed)
        pairs = {(int(row.feature), int(row.unit)) for row in found.ranked().itertuples()}
        true = {(int(feature), unit) for unit, feature in enumerate(drivers)}
        hits += len(pairs & true)
        false += len(pairs - true)
        found_pairs += len(pairs)
        contribution = found.main.values
        # each driven unit's own feature explains what there is: 1 / (1 + 0.25) of its variance
        own = contribution[drivers, range(N_DRIVEN)]
        assert (np.argmax(contribution[:, :N_DRIVEN], 0) == drivers).all()
        np.testing.assert_allclose(own.mean(), 0.8, atol=0.15)
        assert own.min() > found.data["largest_shuffled"].values.max() * 3
    assert hits == 6 * N_DRIVEN
    assert false <= 0.15 * found_pairs


def test_units_of_noise_get_no_features():
    false = 0
    for seed in range(8):
        dictionary, x, _, _ = planted(seed)
        noise = np.random.default_rng(100 + seed).normal(size=(N_STIMULI, N_UNITS))
        found = nm.feature_alignment(dictionary, x, noise, method=RIDGE, n_controls=0, seed=seed)
        false += int(len(found.ranked()) > 0)
    assert false <= 2  # with a rate of 5%, more than 2 of 8 in 1 of 170 such runs


def test_contributions_equal_predicting_with_the_feature_at_its_mean():
    from neuros_mechint.neuro.alignment.linear.held_out import folds

    dictionary, x, units, _ = planted(0)
    cv = folds(N_STIMULI, 4)
    found = nm.feature_alignment(dictionary, x, units, method=RIDGE, cv=cv, n_controls=0)
    features = dictionary.features
    errors, without, deviations = 0, np.zeros((N_FEATURES, N_UNITS)), 0
    for train, test in cv:
        fitted = nm.RidgeEncoding(RIDGE.alphas).fit(features[train], units[train])
        errors = errors + ((units[test] - fitted.predict(features[test])) ** 2).sum(0)
        deviations = deviations + ((units[test] - units[train].mean(0)) ** 2).sum(0)
        for number in range(N_FEATURES):
            held = features[test].copy()
            held[:, number] = features[train, number].mean()
            without[number] += ((units[test] - fitted.predict(held)) ** 2).sum(0)
    np.testing.assert_allclose(found.main, (without - errors) / deviations, atol=1e-5)
    np.testing.assert_allclose(found.data["r2"], 1 - errors / deviations, atol=1e-5)
    np.testing.assert_allclose(found.data["r2"], RIDGE.score_targets(features, units, cv=cv), atol=1e-5)


def test_features_with_shuffled_rows_predict_nothing():
    dictionary, x, units, _ = planted(1)
    found = nm.feature_alignment(dictionary, x, units, method=RIDGE, n_controls=10).data
    assert float(found["r2_shuffled"].max()) < 0.12 < float(found["r2"][:N_DRIVEN].min())
    assert (found["largest_shuffled"].max("control")[:N_DRIVEN] < 0.12).all()


def test_a_model_is_run_and_rows_are_joined_by_label():
    dictionary, x, units, _ = planted(2)
    labels = [f"image {number}" for number in range(N_STIMULI)]
    order = np.random.default_rng(0).permutation(N_STIMULI)
    coords = {"stimulus": [labels[row] for row in order], "unit": [f"cell {number}" for number in range(N_UNITS)]}
    recording = nm.Recording(xr.DataArray(units[order], coords, ("stimulus", "unit")))
    model = nm.adapt(torch.nn.Sequential(torch.nn.Identity()))
    options = {"method": RIDGE, "n_controls": 0}
    found = nm.feature_alignment(
        dictionary, model, recording, inputs=torch.as_tensor(x), site="0", stimuli=labels, **options
    )
    plain = nm.feature_alignment(dictionary, x[order], units[order], **options)
    np.testing.assert_allclose(found.main, plain.main, atol=1e-6)
    assert found.data["unit"].values.tolist() == coords["unit"]
    with pytest.raises(nm.errors.InputError, match="has labels"):
        nm.feature_alignment(dictionary, x, recording, **options)


def test_features_have_names_and_silent_ones_take_no_part():
    dictionary, x, units, drivers = planted(3)
    quiet = next(number for number in range(N_FEATURES) if number not in drivers)
    dictionary.features[:, quiet] = 0
    names = [f"concept {number}" for number in range(N_FEATURES)]
    found = nm.feature_alignment(dictionary, x, units, method=RIDGE, names=names, n_controls=0)
    assert names[quiet] not in found.data["feature"].values
    assert found.attributes["n_silent"] == 1
    assert set(found.ranked()["feature"]) >= {names[number] for number in drivers}
    some = nm.feature_alignment(dictionary, x, units, method=RIDGE, features=drivers, n_controls=0)
    assert some.data["feature"].values.tolist() == [str(number) for number in drivers]
    with pytest.raises(nm.errors.InputError, match="do not vary"):
        nm.feature_alignment(dictionary, x, units, features=[quiet])


def test_results_are_repeated_kept_and_drawn(tmp_path):
    dictionary, x, units, _ = planted(0)
    before = units.copy()
    first, second = (nm.feature_alignment(dictionary, x, units, method=RIDGE, n_controls=2, seed=3) for _ in range(2))
    xr.testing.assert_identical(first.data, second.data)
    np.testing.assert_array_equal(units, before)
    loaded = nm.load_result(first.save(tmp_path / "found.nc"))
    assert loaded == first
    assert type(loaded) is FeatureAlignment
    assert "pairs have p <= 0.05" in first.summary()
    assert first.plot(Figure().subplots()).get_xlabel()
    alone = nm.feature_alignment(dictionary, x, units[:, :1], method=RIDGE, n_controls=2)
    assert "R2" in alone.plot(Figure().subplots()).get_xlabel()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"correction": "fdrs"}, nm.errors.OptionError, "unknown correction"),
        ({"n_controls": -1}, nm.errors.OptionError, "n_controls"),
        ({"features": [99]}, nm.errors.InputError, "no features of the dictionary"),
        ({"names": ["a"]}, nm.errors.InputError, "names do not fit"),
        ({"method": nm.CKA()}, nm.errors.InputError, "weights of a ridge"),
        ({"stimuli": ["a"]}, nm.errors.InputError, "stimuli do not fit"),
    ],
)
def test_bad_input_is_refused(options, error, message):
    dictionary, x, units, _ = planted(0)
    with pytest.raises(error, match=message):
        nm.feature_alignment(dictionary, x, units, **options)


def test_bad_data_are_refused():
    dictionary, x, units, _ = planted(0)
    with pytest.raises(nm.errors.InputError, match="different numbers of samples"):
        nm.feature_alignment(dictionary, x, units[1:])
    with pytest.raises(nm.errors.InputError, match="no dictionary"):
        nm.feature_alignment(torch.nn.Identity(), x, units)
    units[:, 2] = 1
    with pytest.raises(nm.errors.InputError, match="do not vary"):
        nm.feature_alignment(dictionary, x, units)
    units[0, 0] = np.nan
    with pytest.raises(nm.errors.InputError, match="finite"):
        nm.feature_alignment(dictionary, x, units)
