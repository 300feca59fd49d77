"""Labels of every kind are told apart, and what is no list of labels is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.joining import label_list


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([1, "1"], [1, "1"]),
        ([("face", 1), ("face", 2)], [("face", 1), ("face", 2)]),
        (torch.arange(2), [0, 1]),
        (np.array(["a", "b"]), ["a", "b"]),
        ([], []),
    ],
)
def test_labels_stay_what_they_are(values, labels):
    assert label_list(values, "stimulus") == labels


@pytest.mark.parametrize(
    "values",
    [3, "face", None, {1, 2}, np.array(3), np.zeros((2, 2)), [[1, 2], [3, 4]], [[1], [2, 3]], [np.zeros(2), 1]],
)
def test_what_is_no_list_of_labels_is_refused(values):
    with pytest.raises(InputError, match="stimulus: these are no labels"):
        label_list(values, "stimulus")


@pytest.mark.parametrize("missing", [None, np.nan, np.datetime64("NaT")])
def test_missing_labels_are_refused(missing):
    with pytest.raises(InputError, match="some labels of stimulus are missing"):
        label_list(np.array(["face", missing], dtype=object), "stimulus")
