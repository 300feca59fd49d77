"""A model that is looked into a thousand times, or by several threads at once, stays what it is."""

from __future__ import annotations

import ctypes
import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import NeurosMechintError
from tests.conformance.test_hooks_left_behind import assert_unchanged, snapshot

N_RUNS = 1000
EDITS = [
    nm.Zero("blocks.0.z[head=0]"),
    nm.Scale("blocks.1.resid_pre[position=-1]", 0.5),
    nm.Apply("blocks.1.z", lambda z: z + 1),
]


@pytest.fixture(scope="module")
def transformer() -> Any:
    return nm.load_model("induction")


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(1, 64, (2, 8), generator=torch.Generator().manual_seed(0))


def one_of_each(model: Any, tokens: torch.Tensor, number: int) -> torch.Tensor:
    """Use a model in the way whose turn it is, every seventh time with an error in the middle of it."""

    def explode(activation: torch.Tensor) -> torch.Tensor:
        raise FloatingPointError

    kind = number % 7
    if kind == 0:
        return model.capture(tokens, "blocks.*.resid_post")["blocks.1.resid_post"]
    if kind in (1, 2, 3):
        return model.run(tokens, edits=EDITS[kind - 1], capture="blocks.0.z").output
    if kind == 4:
        return model.gradients(tokens, "blocks.0.z", lambda output: output[:, -1, 3])["blocks.0.z"]
    if kind == 5:
        with pytest.raises(FloatingPointError):
            model.run(tokens, edits=nm.Apply("blocks.1.z", explode))
    else:
        with pytest.raises(NeurosMechintError):
            model.capture(tokens, "blocks.9.z")
    return torch.zeros(1)


def grown(use: Any, n_uses: int) -> tuple[int, int]:
    """Return by how many tensors and bytes of the process many uses have grown, after some to warm up."""

    process = psutil.Process()

    def measured() -> tuple[int, int]:
        gc.collect()
        if sys.platform == "linux":  # what is free goes back, else new memory comes from it and shows no growth
            ctypes.CDLL(None).malloc_trim(0)
        tensors = sum(isinstance(one, torch.Tensor) for one in gc.get_objects())
        return tensors, process.memory_info().rss

    for number in range(70):
        use(number)
    before = measured()
    for number in range(n_uses):
        use(number)
    after = measured()
    return after[0] - before[0], after[1] - before[1]


def test_a_thousand_uses_leave_no_hook_no_tensor_and_no_memory(transformer: Any, tokens: torch.Tensor) -> None:
    before = snapshot(transformer)
    adapter = nm.adapt(transformer)
    tensors, memory = grown(lambda number: one_of_each(adapter, tokens, number), N_RUNS)
    assert tensors <= 2
    assert memory < 8e6
    assert_unchanged(before, transformer)


def test_the_measure_of_growth_sees_what_is_kept() -> None:
    kept: list[torch.Tensor] = []
    tensors, memory = grown(lambda _: kept.append(torch.ones(50_000)), N_RUNS)
    assert tensors >= N_RUNS
    assert memory > 100e6  # of 200, some from what others left free between their own


def test_adapting_again_and_again_leaves_nothing(transformer: Any, tokens: torch.Tensor) -> None:
    before = snapshot(transformer)
    tensors, _ = grown(lambda _: nm.adapt(transformer).capture(tokens, "blocks.0.z"), 30)
    assert tensors <= 2
    assert_unchanged(before, transformer)


def test_threads_that_share_a_model_get_what_they_would_get_alone(transformer: Any, tokens: torch.Tensor) -> None:
    """One thread at a time runs it under hooks: adapters may be shared, and several may be made of one model."""
    before = snapshot(transformer)
    adapters = [nm.adapt(transformer) for _ in range(2)]
    alone = [one_of_each(adapters[0], tokens, number) for number in range(7)]

    def use(number: int) -> tuple[int, torch.Tensor]:
        return number % 7, one_of_each(adapters[number % 2], tokens, number)

    with ThreadPoolExecutor(8) as pool:
        for kind, found in pool.map(use, range(210)):
            assert torch.equal(found, alone[kind])
    assert_unchanged(before, transformer)
