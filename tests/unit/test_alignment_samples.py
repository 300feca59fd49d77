"""Rows joined by label, and RDMs in every form they come in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.alignment.rsa.stack import rdm_array, rdm_stack, same_conditions, square, vectors
from neuros_mechint.neuro.alignment.samples import paired, same_kind, samples

LABELS = ["face", "house", "hand", "tree"]


def labelled(values: np.ndarray, labels: list[str]) -> xr.DataArray:
    return xr.DataArray(values, dims=("stimulus", "unit"), coords={"stimulus": labels})


def test_rows_are_joined_by_label_and_not_by_position() -> None:
    values = np.random.default_rng(0).normal(size=(4, 3))
    order = [2, 0, 3, 1]
    shuffled = labelled(values[order], [LABELS[index] for index in order])
    x, y, labels = paired(labelled(values, LABELS), shuffled)
    np.testing.assert_array_equal(x, y)
    assert labels == tuple(LABELS)


def test_a_recording_and_activations_are_joined_by_their_labels() -> None:
    recording = nm.Recording(np.arange(8.0).reshape(4, 2), ("stimulus", "unit"), {"stimulus": LABELS})
    tensor = torch.arange(8.0).reshape(4, 2).flip(0)
    acts = nm.Activations({"embed": tensor}, {"embed": ("sample", "unit")}, {"sample": LABELS[::-1]})
    x, y, _ = paired(recording, acts.xarray("embed"))
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (np.zeros((4, 2)), "labels"),
        (labelled(np.zeros((4, 2)), ["face", "house", "hand", "face"]), "repeated"),
        (labelled(np.zeros((4, 2)), [*LABELS[:3], "car"]), "'car'"),
        (labelled(np.zeros((3, 2)), LABELS[:3]), "'tree'"),
        (labelled(np.full((4, 2), np.nan), LABELS), "not finite"),
        (np.array([["a"]]), "real numbers"),
        (np.zeros((0, 2)), "empty"),
        (xr.DataArray(np.zeros((4, 2, 2)), dims=("stimulus", "time", "unit")), "time"),
        (xr.DataArray(np.zeros(4), dims="unit"), "axis of samples"),
    ],
)
def test_what_cannot_be_joined_is_refused(other: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        paired(labelled(np.zeros((4, 2)), LABELS), other)


def test_without_labels_the_numbers_of_rows_must_agree() -> None:
    with pytest.raises(InputError, match="different numbers of samples"):
        paired(np.zeros((4, 2)), np.zeros((5, 2)))


def test_maps_are_flattened_and_one_axis_is_one_column() -> None:
    assert samples(torch.zeros(4, 2, 5, 5, dtype=torch.bfloat16)).values.shape == (4, 50)
    assert samples([1.0, 2.0]).values.shape == (2, 1)


@pytest.mark.parametrize(
    ("like", "dtype"),
    [
        (np.zeros(1, np.float32), np.dtype("float32")),
        (torch.zeros(1), torch.float32),
        (torch.zeros(1, dtype=torch.float64), torch.float64),
        (torch.zeros(1, dtype=torch.bfloat16), torch.float32),
        (np.zeros(1), np.dtype("float64")),
        ([0], np.dtype("float64")),
    ],
)
def test_results_are_of_the_callers_kind(like: object, dtype: object) -> None:
    assert same_kind(np.ones(2), like).dtype == dtype


def test_every_form_of_rdms_gives_the_same_pairs() -> None:
    from rsatoolbox.rdm.rdms import RDMs

    pairs = np.random.default_rng(0).random((6, 6))  # six RDMs of four conditions look like a matrix
    forms = [pairs, square(pairs), torch.tensor(pairs), RDMs(pairs)]
    forms.append(rdm_array(pairs, tuple(LABELS), names=tuple("abcdef")))
    for form in forms:
        np.testing.assert_array_equal(rdm_stack(form).pairs, pairs)
    np.testing.assert_array_equal(vectors(square(pairs)), pairs)
    assert rdm_stack(forms[-1]).conditions == tuple(LABELS)
    assert rdm_stack(forms[-1]).names == tuple("abcdef")
    assert len(rdm_stack(square(pairs[0]))) == 1


def test_conditions_are_joined_by_label() -> None:
    pairs = np.random.default_rng(1).random((2, 6))
    stack = rdm_stack(rdm_array(pairs, tuple(LABELS)))
    shuffled = stack.take([3, 1, 0, 2])
    assert not np.array_equal(shuffled.pairs, pairs)
    np.testing.assert_array_equal(same_conditions(stack, shuffled)[1].pairs, pairs)
    with pytest.raises(InputError, match="has labels"):
        same_conditions(stack, rdm_stack(pairs))


@pytest.mark.parametrize(
    ("rdms", "words"),
    [
        (np.corrcoef(np.random.default_rng(0).normal(size=(6, 9))), "diagonal"),
        (np.array([[0.0, 1, 2], [3, 0, 4], [5, 6, 0]]), "not symmetric"),
        (np.array([[0.0, 1], [1, 0]]), "too few conditions"),
        (np.ones((2, 5)), "vectors of pairs"),
        (np.array([1.0, np.nan, 2.0]), "NaN"),
        (np.array([1.0, np.inf, 2.0]), "infinite"),
        (np.ones((2, 3, 4)), "not square"),
        (xr.DataArray(np.zeros((3, 3)), dims=("stimulus", "unit")), "no axes of conditions"),
    ],
)
def test_what_is_no_rdm_is_refused(rdms: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        rdm_stack(rdms)


def test_missing_pairs_are_kept_when_asked() -> None:
    assert np.isnan(rdm_stack([1.0, np.nan, 2.0], missing="keep").pairs).sum() == 1


def test_trials_bring_the_labels_of_their_stimuli() -> None:
    trials = nm.Recording(np.arange(8.0).reshape(4, 2), ("trial", "unit"), {"stimulus": ("trial", LABELS)})
    assert samples(trials).labels == tuple(LABELS)
    twice = nm.Recording(np.ones((4, 2)), ("trial", "unit"), {"stimulus": ("trial", LABELS[:2] * 2)})
    with pytest.raises(InputError, match="average over repetitions"):
        paired(twice, twice)


def test_labels_of_mixed_types_stay_apart() -> None:
    rdm = rdm_array(np.arange(6.0), (1, "1", 2, "2"))
    assert rdm.condition.values.tolist() == [1, "1", 2, "2"]


def test_stacked_subjects_and_sessions_have_names() -> None:
    pairs = np.random.default_rng(0).random((4, 6))
    rdms = rdm_array(pairs, tuple(LABELS)).rename(rdm="s").assign_coords(s=[0, 1, 2, 3])
    cube = xr.DataArray(
        rdms.values.reshape(2, 2, 4, 4),
        dims=("subject", "session", "condition", "other_condition"),
        coords={"subject": ["a", "b"], "session": [1, 2], "condition": LABELS, "other_condition": LABELS},
    )
    stacked = cube.stack(s=("subject", "session")).transpose("s", ...)
    assert rdm_stack(stacked).names == ("a, 1", "a, 2", "b, 1", "b, 2")
    assert nm.noise_ceiling(stacked).lower == pytest.approx(nm.noise_ceiling(rdms.values).lower)
