"""Data and parameters that encoding models refuse, and units and samples that make no difference."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

import neuros_mechint as nm
from tests.truth.encoded_data import MODELS, data


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model, x, y: model.fit(x, y[:5]), "different numbers of samples"),
        (lambda model, x, y: model.fit(np.where(x > 3, np.nan, x), y), "not finite"),
        (lambda model, x, y: model.fit(np.ones_like(x), y), "no feature of X varies"),
        (lambda model, x, y: model.score(x, np.ones_like(y)), "no target of Y varies"),
        (lambda model, x, y: model.fit(x[:2], y[:2]), "too few samples"),
        (lambda model, x, y: model.score(x, y, cv=41), "cannot be dealt to 41 folds"),
        (lambda model, x, y: model.score(x, y, groups=list("ab") * 20), "2 groups cannot be dealt to 5 folds"),
        (lambda model, x, y: model.predict(x), "not fitted"),
        (lambda model, x, y: model.fit(x, y).predict(x[:, :3]), "another number of features"),
        (lambda model, x, y: model.set_params(metric="r3").score(x, y), "unknown metric"),
        (lambda model, x, y: model.set_params(metric="correlation").score(x, y, cv=20), "too few samples for a"),
    ],
)
def test_bad_data_are_refused(model, call, message):
    with pytest.raises(nm.errors.InputError, match=message):
        call(clone(model), *data(40, 10, 3))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nm.RidgeEncoding([]), "alphas are no penalties"),
        (nm.RidgeEncoding([0.0, 1.0]), "alphas are no penalties"),
        (nm.BandedRidge(["a"] * 9), "bands do not fit"),
        (nm.BandedRidge({"a": slice(0, 5)}), "5 columns in none"),
        (nm.BandedRidge({"a": slice(0, 6), "b": slice(5, 10)}), "1 in several"),
        (nm.BandedRidge({"a": slice(0, 10), "b": []}), "bands do not divide"),
        (nm.BandedRidge({"a": [11]}), "columns that are not there"),
        (nm.BandedRidge(["a", "b"] * 5, n_candidates=0), "n_candidates is out of range"),
        (nm.PLS(11), "11 components are more"),
        (nm.PLS(0), "n_components is out of range"),
    ],
)
def test_bad_parameters_are_refused(model, message):
    x, y = data(40, 10, 3)
    with pytest.raises(nm.errors.InputError, match=message):
        model.fit(x, y)


@pytest.mark.parametrize("unit", [1e-12, 1e-4, 1.0, 1e6])
def test_units_of_the_features_do_not_matter_by_default(unit):
    random = np.random.default_rng(0)
    X = random.normal(size=(100, 5))
    Y = X @ random.normal(size=(5, 3)) + 0.3 * random.normal(size=(100, 3))
    assert nm.RidgeEncoding().score(unit * X, Y) == pytest.approx(nm.RidgeEncoding().score(X, Y), abs=1e-9)
    bands = nm.BandedRidge({"one": slice(0, 2), "two": slice(2, 5)}, n_candidates=5)
    assert bands.score(unit * X, Y) == pytest.approx(bands.score(X, Y), abs=1e-6)


def test_targets_that_do_not_vary_where_they_are_judged_have_no_score():
    random = np.random.default_rng(0)
    X, y = random.normal(size=(40, 3)), random.normal(size=(40, 2))
    y[30:, 0] = y[:30, 0].mean()
    scores = nm.RidgeEncoding().score_targets(X, y, cv=[(range(30), range(30, 40))])
    assert np.isnan(scores[0])
    assert np.isfinite(scores[1])


def test_groups_of_a_series_go_by_position():
    pd = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    X, Y = random.normal(size=(40, 30)), random.normal(size=(40, 2))
    groups = np.repeat(np.arange(10), 4)
    series = pd.Series(groups, index=random.permutation(40) + 7)
    assert nm.RidgeEncoding().score(X, Y, groups=series) == nm.RidgeEncoding().score(X, Y, groups=groups)
    with pytest.raises(nm.errors.InputError, match="inner_cv is out of range"):
        nm.RidgeEncoding(inner_cv=1).fit(X, Y)
