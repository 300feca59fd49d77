"""How much to do in one call: the cost model of the engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from neuros_mechint.adapters.batches import Batch

_FLOATS_PER_CALL = 4e5
"""Stream entries that still fit the cache of one core: of 512 positions in a model of GPT-2's width."""
_OPERATIONS_PER_CALL = 8e6
"""Multiplications of a block that take as long as calling it."""
_WASTE = 0.1
"""Share of a call that may go to positions that need not have been run: larger calls are faster by the position."""


@dataclass(frozen=True)
class Costs:
    """Budgets of a model, in positions times samples.

    Parameters
    ----------
    most : int
        No call should hold more.
    call : float
        How many cost as much as one more call.
    """

    most: int
    call: float

    @classmethod
    def of_blocks(cls, module: nn.Module, paths: Sequence[str], width: int, device: torch.device) -> Costs:
        """Return the costs of a stack of blocks."""
        size = sum(parameter.numel() for path in paths for parameter in module.get_submodule(path).parameters())
        faster = 1 if device.type == "cpu" else 64  # an accelerator needs more work to be busy
        return cls(faster * positions_per_call(width), faster * _OPERATIONS_PER_CALL * len(paths) / max(size, 1))


def positions_per_call(width: int) -> int:
    """Return how many positions times samples of a stream of this width to put into one call.

    Examples
    --------
    >>> positions_per_call(768)
    520
    """
    return max(1, int(_FLOATS_PER_CALL / width))


def copies_per_call(batch: Batch, most: int = 512) -> int:
    """Return how many copies of the samples to stack in a model of which nothing else is known.

    Examples
    --------
    >>> copies_per_call(Batch.of((torch.zeros(4, 32, dtype=torch.long),), {}))
    4
    """
    values = next(v for v in (*batch.args, *batch.kwargs.values()) if hasattr(v, "shape") and hasattr(v, "dtype"))
    array = torch.as_tensor(values)
    features = array.shape[-1] if array.is_floating_point() and array.ndim > 1 else 1
    return max(1, most * features // array.numel())


def grouped(starts: Sequence[int], stop: int, n_samples: int, costs: Costs) -> list[list[int]]:
    """Return which copies to run together, given where each one starts.

    Copies that start later are run from where the first of their group starts, so that joining them saves a call
    and costs the positions in between.

    Parameters
    ----------
    starts : sequence of int
        First position of each copy, ascending.
    stop : int
        The position after the last.
    n_samples : int
        Samples in each copy.
    costs : Costs

    Returns
    -------
    list of list of int
        Indices into ``starts``.

    Examples
    --------
    >>> grouped([0, 1, 6, 7], stop=8, n_samples=1, costs=Costs(most=100, call=2))
    [[0, 1], [2, 3]]
    >>> grouped([0, 1, 6, 7], stop=8, n_samples=1, costs=Costs(most=100, call=50))
    [[0, 1, 2, 3]]
    """
    groups: list[list[int]] = []
    wasted = 0.0
    for index, start in enumerate(starts):
        first = starts[groups[-1][0]] if groups else 0
        waste = (start - first) * n_samples
        fits = groups and (len(groups[-1]) + 1) * n_samples * (stop - first) <= costs.most
        if fits and wasted + waste <= max(costs.call, _WASTE * len(groups[-1]) * n_samples * (stop - first)):
            groups[-1].append(index)
            wasted += waste
        else:
            groups.append([index])
            wasted = 0.0
    return groups
