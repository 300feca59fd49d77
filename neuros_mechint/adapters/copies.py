"""Several copies of the same samples in one call of a model, each under its own edits.

Rows are ordered copy by copy: row ``copy * n_samples + sample``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from neuros_mechint.adapters.batches import Batch, map_items
from neuros_mechint.adapters.hooks import EditFunction
from neuros_mechint.adapters.tensors import rebuilt
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.sites import Window


def repeated(batch: Batch, copies: int) -> Batch:
    """Return a batch that holds every sample ``copies`` times.

    Examples
    --------
    >>> repeated(Batch.of((torch.tensor([[1], [2]]),), {}), 2).args[0].flatten()
    tensor([1, 2, 1, 2])
    """

    def repeat(value: Any) -> Any:
        if isinstance(value, (Mapping, tuple, list)):
            return map_items(repeat, value)
        axis = batch.axis_of_samples(value)
        if axis is None:
            return value
        return (
            torch.cat([value] * copies, axis)
            if isinstance(value, torch.Tensor)
            else np.concatenate([value] * copies, axis)
        )

    return replace(
        batch,
        args=tuple(repeat(value) for value in batch.args),
        kwargs={name: repeat(value) for name, value in batch.kwargs.items()},
        n_samples=copies * batch.n_samples,
        start=0,
        total=copies * batch.n_samples,
    )


def edits_by_site(
    interventions: Sequence[Sequence[Edit]], window: Window, n_samples: int
) -> dict[str, list[EditFunction]]:
    """Return, for each site, the one function that edits every copy in its own way.

    Parameters
    ----------
    interventions : sequence of sequence of Edit
        The edits of each copy.
    window : mapping
        Where the samples of each copy lie in the whole input.
    n_samples : int
        Samples in each copy.

    Examples
    --------
    >>> from neuros_mechint.core.edits import Add, Zero
    >>> functions = edits_by_site([[Zero("h")], [], [Add("h", 1.0)]], {"sample": (0, 2)}, n_samples=2)
    >>> functions["h"][0](torch.ones(6, 1), ("sample", "unit"), {}).flatten()
    tensor([0., 0., 1., 1., 2., 2.])
    """
    by_site: dict[str, dict[int, list[Edit]]] = {}
    for copy, edits in enumerate(interventions):
        for edit in edits:
            by_site.setdefault(edit.reference.name, {}).setdefault(copy, []).append(edit)

    def function_for(edits_of_copy: Mapping[int, Sequence[Edit]]) -> EditFunction:
        def edit_copies(values: torch.Tensor, dims: tuple[str, ...], seen: Window) -> torch.Tensor:
            if "sample" not in dims:
                raise UnstackableError("an edited site has no axis that counts the samples")
            axis, here = dims.index("sample"), {**seen, **window}
            edited = values.clone()
            for copy, edits in edits_of_copy.items():
                block = values.narrow(axis, copy * n_samples, n_samples)
                for edit in edits:
                    block = edit.apply(block, dims, here)
                edited.narrow(axis, copy * n_samples, n_samples).copy_(block)
            return edited

        return edit_copies

    return {site: [function_for(edits_of_copy)] for site, edits_of_copy in by_site.items()}


def split_copies(output: Any, copies: int, n_samples: int, sample_axis: int = 0) -> list[Any]:
    """Return the output of each copy: of every tensor the rows that belong to it.

    Examples
    --------
    >>> [one.tolist() for one in split_copies(torch.arange(4), copies=2, n_samples=2)]
    [[0, 1], [2, 3]]
    """
    return [_rows(output, copy * n_samples, n_samples, copies * n_samples, sample_axis) for copy in range(copies)]


def _rows(value: Any, start: int, length: int, total: int, sample_axis: int) -> Any:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        axes = [axis for axis in (sample_axis, 0, 1) if axis < value.ndim and value.shape[axis] == total]
        return value[(slice(None),) * axes[0] + (slice(start, start + length),)] if axes else value
    if isinstance(value, Mapping):
        parts = {key: _rows(item, start, length, total, sample_axis) for key, item in value.items()}
        return parts if type(value) is dict else type(value)(**parts)
    if isinstance(value, (tuple, list)):
        return rebuilt(value, [_rows(item, start, length, total, sample_axis) for item in value])
    return value


class UnstackableError(InputError):
    """Copies cannot share one call of this model."""
