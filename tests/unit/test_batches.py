from __future__ import annotations

from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch

from neuros_mechint.adapters.batches import Batch, check_batch_size, join_outputs
from neuros_mechint.core.errors import InputError

Pair = namedtuple("Pair", ["a", "b"])


def test_every_array_of_the_samples_is_cut_and_nothing_else():
    batch = Batch.of(
        (torch.arange(10).view(5, 2),),
        {"mask": torch.arange(5), "scale": torch.tensor(2.0), "flag": True, "bias": torch.zeros(3)},
    )
    parts = list(batch.parts(2))
    assert [part.n_samples for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part.args[0] for part in parts]), batch.args[0])
    assert torch.equal(torch.cat([part.kwargs["mask"] for part in parts]), torch.arange(5))
    assert all(part.kwargs["flag"] is True and part.kwargs["bias"].shape == (3,) for part in parts)
    assert [part.window["sample"] for part in parts] == [(0, 5), (2, 5), (4, 5)]


def test_no_batch_size_means_all_at_once():
    batch = Batch.of((torch.zeros(5, 2),), {})
    assert list(batch.parts(None)) == [batch]
    assert len(list(batch.parts(100))) == 1


def test_samples_along_another_axis():
    batch = Batch.of((torch.arange(24).view(3, 4, 2),), {"state": torch.zeros(1, 4, 6)}, sample_axis=1)
    assert batch.n_samples == 4
    part = list(batch.parts(3))[1]
    assert part.args[0].shape == (3, 1, 2)
    assert part.kwargs["state"].shape == (1, 1, 6)


def test_rows_of_rows_know_where_they_are():
    part = Batch.of((torch.arange(10.0),), {}).rows(4, 9).rows(2, 4)
    assert part.window["sample"] == (6, 10)
    assert part.args[0].tolist() == [6.0, 7.0]


def test_a_copy_shares_no_memory():
    inputs = torch.zeros(3, 2)
    Batch.of((inputs,), {"more": inputs}).copied().args[0].add_(1)
    assert not inputs.any()


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "no array"),
        (("text", 3), {}, "no array"),
        ((torch.zeros(0, 3),), {}, "empty"),
        ((torch.zeros(3, 0),), {}, "empty"),
        ((torch.tensor(1.0),), {}, "empty"),
        ((torch.tensor([[1.0, float("nan")]]),), {}, "not finite"),
        ((torch.zeros(2, 2),), {"mask": torch.tensor([float("inf"), 0])}, "mask holds NaN or infinity"),
        ((np.array([[np.nan]]),), {}, "not finite"),
    ],
)
def test_bad_inputs_are_refused(args, kwargs, problem):
    with pytest.raises(InputError, match=problem):
        Batch.of(args, kwargs)


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, "3", True])
def test_a_bad_batch_size_is_refused(batch_size):
    with pytest.raises(InputError, match="batch_size"):
        check_batch_size(batch_size)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: x.numpy(),
        lambda x: (x, [x]),
        lambda x: {"a": x, 3: x},
        lambda x: OrderedDict(a=x),
        lambda x: Pair(x, {"deep": x}),
    ],
)
def test_outputs_are_joined_in_their_own_kind(wrap):
    whole = torch.arange(10.0).view(5, 2)
    joined = join_outputs([wrap(whole[:2]), wrap(whole[2:4]), wrap(whole[4:])], [2, 2, 1])
    assert type(joined) is type(wrap(whole))
    assert str(joined) == str(wrap(whole))


def test_what_has_no_samples_is_none_when_joined():
    pieces = [
        {"loss": torch.tensor(1.0), "logits": torch.zeros(2, 3), "cache": object()},
        {"loss": torch.tensor(2.0), "logits": torch.zeros(1, 3), "cache": object()},
    ]
    joined = join_outputs(pieces, [2, 1])
    assert joined["loss"] is None
    assert joined["cache"] is None
    assert joined["logits"].shape == (3, 3)
    assert join_outputs(pieces[:1], [2])["loss"] == 1.0


def test_outputs_are_joined_along_their_sample_axis():
    whole = torch.arange(24).view(3, 4, 2)
    assert torch.equal(join_outputs([whole[:, :3], whole[:, 3:]], [3, 1], sample_axis=1), whole)
