"""Where an autoencoder's observations come from: memory, or a store that is read piece by piece."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.fingerprint import fingerprint_array
from neuros_mechint.core.labels import LabelledTensors, axes_of_observations, rows_kept
from neuros_mechint.core.numbers import as_array
from neuros_mechint.core.random import generator
from neuros_mechint.core.stores.files import shuffled_batches
from neuros_mechint.core.stores.store import ActivationStore

_BLOCK_ROWS = 4096
_POOL_BLOCKS = 16
_HELD_OUT_ROWS = 8192


@dataclass(frozen=True)
class Observations:
    """Rows to train on, in batches, and rows held out.

    Parameters
    ----------
    shuffled : callable
        ``shuffled(batch_size, random)`` goes through the training rows ``(n, n_inputs)``, float32, once.
    first : torch.Tensor of shape (n, n_inputs)
        The first rows of all, by which the data are known again: see `data_fingerprint`.
    n_rows : int
        How many there are to train on.
    held_out : torch.Tensor of shape (n_held_out, n_inputs)
        Never among the others.
    identity : str
        Tells these data from others.
    """

    shuffled: Callable[[int, np.random.Generator], Iterator[torch.Tensor]]
    first: torch.Tensor
    n_rows: int
    held_out: torch.Tensor
    identity: str

    def batches(self, batch_size: int, seed: int) -> Iterator[torch.Tensor]:
        """Yield full, finite batches in random order without end."""
        random = generator(seed)
        while True:
            for batch in self.shuffled(batch_size, random):
                if len(batch) == batch_size:
                    yield check_finite(batch)


def check_finite(rows: torch.Tensor) -> torch.Tensor:
    """Return ``rows``, or raise `InputError` where one is NaN or infinite."""
    finite = torch.isfinite(rows)
    if not finite.all():
        raise InputError(
            "the activations are not finite",
            got=f"{int((~finite).sum())} of {rows.numel()} values are NaN or infinite",
            fix="find out where they come from; without them it would be other data",
        )
    return rows


def _check_axes(activations: Any, site: str | None) -> None:
    dims = activations.dims(str(site)) if isinstance(activations, LabelledTensors) else ()
    if spatial := [axis for axis in dims if axis in ("depth", "height", "width")]:
        raise InputError(
            f"an autoencoder takes one place of a map at a time, and the matrix of {site!r} holds whole maps",
            got=", ".join(dims),
            fix=f"give acts[site].movedim(1, -1).flatten(0, -2): rows over {', '.join(spatial)}, columns channels",
        )


def observations(activations: Any, site: str | None, validation: float, n_features: int) -> Observations:
    """Split activations into training blocks and the last rows, or samples of a store, held out.

    Raises
    ------
    InputError
        NaN, infinite or constant activations, too few, or not a matrix.
    SiteError
        No such site.
    """
    _check_axes(activations, site)
    split = _from_store if isinstance(activations, ActivationStore) else _from_memory
    found = split(activations, site, validation)
    check_finite(found.held_out)
    first = check_finite(found.first)
    if bool((first == first[:1]).all()) and bool((found.held_out == first[:1]).all()):
        raise InputError("the activations are constant", expected="observations that differ", fix="check the site")
    if found.n_rows < n_features:
        warnings.warn(f"fewer observations ({found.n_rows}) than features ({n_features})", stacklevel=3)
    return found


def only_site(activations: Any, site: str | None) -> str | None:
    """Return the site that is meant: the one given, or the only one there is."""
    if not isinstance(activations, LabelledTensors):
        return site
    if site is None and len(list(activations)) != 1:
        raise InputError("which site?", expected="site=, one of " + ", ".join(activations), fix="name the site")
    return activations.resolve(next(iter(activations)) if site is None else site)


def row_batches(activations: Any, site: str | None = None) -> Iterator[torch.Tensor]:
    """Yield activations as batches ``(n, n_inputs)`` in their own order, checked.

    Raises
    ------
    InputError
        No matrix, several sites and none named, too few rows, or values that are not finite.
    """
    site = only_site(activations, site)
    _check_axes(activations, site)
    if isinstance(activations, ActivationStore):
        batches: Iterator[torch.Tensor] = activations.batches(str(site), _BLOCK_ROWS, shuffle=False)
    else:
        batches = iter(_in_memory(activations, site).split(_BLOCK_ROWS))
    yield from map(check_finite, batches)


def _in_memory(activations: Any, site: str | None) -> torch.Tensor:
    return as_rows(activations.matrix(str(site)) if isinstance(activations, LabelledTensors) else activations)


def as_rows(array: Any) -> torch.Tensor:
    """Return a matrix of observations as a tensor.

    Raises
    ------
    InputError
        Something else than a matrix of real numbers with at least two rows.
    """
    matrix = array.detach() if isinstance(array, torch.Tensor) else as_tensor(array)
    if matrix.layout is not torch.strided:
        raise InputError("activations are a dense matrix", got=matrix.layout, fix="x.to_dense()")
    if matrix.ndim != 2 or matrix.shape[0] < 2 or matrix.shape[1] < 1 or matrix.is_complex():
        raise InputError(
            "activations are a matrix",
            expected="real numbers of shape (n_observations, n_inputs), at least two observations",
            got=f"shape {tuple(matrix.shape)}, {matrix.dtype}",
            fix="flatten samples and positions into rows, or pass Activations with site=",
        )
    return matrix if matrix.is_floating_point() else matrix.float()


def as_tensor(array: Any) -> torch.Tensor:
    """Return an array as a tensor, or raise `InputError` where it is none of numbers."""
    try:
        return torch.as_tensor(np.ascontiguousarray(as_array(array, "activations")))
    except TypeError as error:  # text, objects
        raise InputError("these are no activations", got=error) from error


def data_fingerprint(activations: Any, site: str | None = None) -> str:
    """Return an identity of activations, of their first rows, by which those an autoencoder was fitted on are known."""
    return fingerprint_array(next(row_batches(activations, site)).float())


def _from_memory(activations: Any, site: str | None, validation: float) -> Observations:
    rows = check_finite(_in_memory(activations, site).to(torch.float32))
    n_held = min(max(1, round(validation * len(rows))), _HELD_OUT_ROWS)
    blocks = rows[:-n_held].split(_BLOCK_ROWS)

    def shuffled(batch_size: int, random: np.random.Generator) -> Iterator[torch.Tensor]:
        return shuffled_batches(blocks.__getitem__, len(blocks), _POOL_BLOCKS, batch_size, random)

    first = rows[:_BLOCK_ROWS]
    return Observations(shuffled, first, len(rows) - n_held, rows[-n_held:], fingerprint_array(rows))


def _from_store(store: ActivationStore, site: str | None, validation: float) -> Observations:
    name = str(site)
    if store.n_samples < 2:
        raise InputError("too few samples", expected="at least 2", got=store.n_samples)

    def in_order(samples: tuple[int, int]) -> Iterator[torch.Tensor]:
        return store.batches(name, _BLOCK_ROWS, shuffle=False, samples=samples)

    def shuffled(batch_size: int, random: np.random.Generator) -> Iterator[torch.Tensor]:
        return store.batches(name, batch_size, seed=random, samples=(0, n_training))

    per_sample = max(1, _count_rows(store, name, 1))
    n_held = min(max(1, round(validation * store.n_samples)), math.ceil(_HELD_OUT_ROWS / per_sample))
    n_training = store.n_samples - n_held
    held_out = torch.cat(list(in_order((n_training, store.n_samples))))
    n_rows = _count_rows(store, name, n_training)
    if not n_rows or not len(held_out):
        raise InputError("all samples to train on, or all that are held out, are padding", fix="leave such samples out")
    first = next(in_order((0, store.n_samples)))
    identity = f"{n_rows} {fingerprint_array(first)} {fingerprint_array(held_out)}"
    return Observations(shuffled, first, n_rows, held_out, identity)


def _count_rows(store: ActivationStore, name: str, n_samples: int) -> int:
    """Return how many rows the first samples of a site have, padding left out."""
    dims, mask = store.dims(name), store.attention_mask
    shape = (n_samples, *store.xarray(name).shape[1:])
    kept = rows_kept(name, dims, shape, None if mask is None else mask[:n_samples])
    if kept is not None:
        return int(kept.sum())
    return math.prod(shape[dims.index(axis)] for axis in axes_of_observations(dims))
