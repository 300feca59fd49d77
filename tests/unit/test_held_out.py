from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold, KFold

from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.alignment.linear.held_out import (
    check_test_rows,
    correlations,
    folds,
    inner_folds,
    mean_over_folds,
)


@pytest.mark.parametrize(("n_samples", "cv"), [(10, 5), (11, 5), (7, 7), (100, 3)])
def test_every_row_is_judged_once_and_never_learned_from_there(n_samples, cv):
    splits = folds(n_samples, cv)
    assert len(splits) == cv
    assert sorted(np.concatenate([test for _, test in splits]).tolist()) == list(range(n_samples))
    sizes = [len(test) for _, test in splits]
    assert max(sizes) - min(sizes) <= 1
    for train, test in splits:
        assert sorted([*train.tolist(), *test.tolist()]) == list(range(n_samples))


def test_rows_are_dealt_out_by_the_seed():
    first, again, other = (folds(50, 5, seed=seed)[0][1].tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert first != list(range(10))  # stimuli are listed by category


def test_groups_stay_together_and_folds_even():
    groups = np.repeat(list("abcdefgh"), [9, 1, 1, 1, 3, 3, 3, 3])
    splits = folds(24, 3, groups)
    for train, test in splits:
        assert not set(groups[train]) & set(groups[test])
    assert sorted(len(test) for _, test in splits) == [7, 8, 9]


def test_splitters_and_lists_are_taken_as_they_are():
    assert folds(6, KFold(3))[0][1].tolist() == [0, 1]
    assert len(folds(6, GroupKFold(2), ["a", "a", "b", "b", "b", "c"])) == 2
    assert folds(4, [([0, 1], [2, 3])])[0][1].tolist() == [2, 3]
    mask = np.array([True, True, False, False])
    assert folds(4, [(mask, ~mask)])[0][0].tolist() == [0, 1]


def test_inner_folds_shrink_to_what_there_is():
    assert len(inner_folds(3, 5, None, 0)) == 3
    assert len(inner_folds(6, 5, [0, 0, 1, 1, 2, 2], 0)) == 3
    with pytest.raises(InputError, match="1 groups cannot be dealt"):
        inner_folds(6, 5, [0] * 6, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cv": 1}, "cannot be dealt to 1 folds"),
        ({"cv": 11}, "cannot be dealt to 11 folds"),
        ({"cv": True}, "no cross-validation"),
        ({"cv": 2.0}, "no cross-validation"),
        ({"cv": None}, "no cross-validation"),
        ({"cv": 3, "groups": list("ab") * 5}, "2 groups cannot be dealt to 3 folds"),
        ({"cv": 2, "groups": [1, 2]}, "groups do not fit"),
        ({"cv": 2, "groups": [1.0, np.nan] * 5}, "have no group"),
        ({"cv": 2, "groups": ["a", None] * 5}, "have no group"),
        ({"cv": []}, "gives no folds"),
        ({"cv": 5.0 * np.ones(2)}, "gives no folds"),
        ({"cv": [([0, 1], [1, 2])]}, "both learned from and judged on"),
        ({"cv": [([0, 1], [])]}, "empty"),
        ({"cv": [([0, 1], [10])]}, "not there"),
        ({"cv": [([0, 1], [-1])]}, "not there"),
    ],
)
def test_what_cannot_be_held_out_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        folds(10, **arguments)


def test_too_few_rows_for_a_correlation():
    with pytest.raises(InputError, match="use fewer folds"):
        check_test_rows(folds(10, 5), 3, "a correlation")


def test_correlations_of_columns():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 30, 4))
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(x.T, y.T, strict=True)]
    np.testing.assert_allclose(correlations(x + 1e6, y), expected, atol=1e-8)
    x[:, 0], y[:, 1] = 0.1, 0.1
    found = correlations(x, y)
    assert found[0] == 0
    assert np.isnan(found[1])


def test_folds_without_a_number_are_left_out_of_the_mean():
    assert mean_over_folds([np.array([1.0, np.nan]), np.array([np.nan, np.nan])])[0] == 1.0


def test_groups_of_mixed_types_stay_apart():
    assert len(folds(12, 6, groups=[1, "1", 2, "2", 3, "3"] * 2)) == 6
