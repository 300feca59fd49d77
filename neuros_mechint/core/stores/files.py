"""The files of an `ActivationStore`: one zarr array per site, and beside it what fills no chunk yet."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import zarr

from neuros_mechint.core.errors import StorageError
from neuros_mechint.core.stores.log import SiteLayout, StoreLog
from neuros_mechint.core.stores.places import Folder

if TYPE_CHECKING:
    import numpy.typing as npt


class SiteFiles:
    """The files of one site: whole chunks in a zarr array, and the samples after them in a tail.

    A tail is named after its first sample and only ever grows, so nothing that counts is ever overwritten.

    Parameters
    ----------
    root : Folder
        Of the store.
    layout : SiteLayout
        The site.
    """

    def __init__(self, root: Folder, layout: SiteLayout) -> None:
        self.folder = root / layout.folder
        self.layout = layout

    @cached_property
    def _array(self) -> zarr.Array[Any]:
        try:
            array = zarr.open_array(self.folder.zarr, mode="r+")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._damaged("description", "zarr.json", str(error)) from error
        # zarr leaves chunks of zeros out and reads a lost chunk as zeros; here every chunk must be there.
        return array.with_config({"write_empty_chunks": True})

    def append(self, n_before: int, rows: torch.Tensor, checksum: int) -> int:
        """Write samples after the first ``n_before``; return the checksum of the new tail."""
        values = self._encode(rows)
        size = self.layout.chunk_samples
        start = n_before - n_before % size
        held = n_before - start
        while held + len(values) >= size:
            chunk, values = values[: size - held], values[size - held :]
            if held:
                chunk = np.concatenate([self._read_tail(start, held, checksum), chunk])
            self._write_chunk(start, chunk)
            start, held, checksum = start + size, 0, 0
        return self._extend_tail(start, held, values, checksum)

    def write_last_chunk(self, n_samples: int, checksum: int) -> None:
        """Move the tail into the zarr array, as its last, smaller chunk."""
        held = n_samples % self.layout.chunk_samples
        if held:
            self._write_chunk(n_samples - held, self._read_tail(n_samples - held, held, checksum))
        self.cut(n_samples)

    def cut(self, n_samples: int) -> None:
        """Make the zarr array end after ``n_samples``."""
        if self._array.shape[0] != n_samples:
            self._array.resize((n_samples, *self.layout.shape))

    def drop_old_tails(self, n_samples: int | None) -> None:
        """Delete every tail but the one that goes with ``n_samples``; all where that is None."""
        current = None
        if n_samples is not None and n_samples % self.layout.chunk_samples:
            current = self._tail(n_samples - n_samples % self.layout.chunk_samples)
        for name in self.folder.names("tail."):
            if name != current:
                self.folder.remove(name)

    def read_chunk(self, index: int, log: StoreLog) -> torch.Tensor:
        """Return the finished samples of one chunk, wherever they are."""
        return self._decode(self._read_chunk(index, log))

    def read(self, key: tuple[Any, ...], log: StoreLog) -> torch.Tensor:
        """Return a selection, each entry of which applies to its own axis; only touched chunks are read."""
        wanted = np.arange(log.n_samples)[key[0]]
        samples, rest = np.atleast_1d(wanted), key[1:]
        size = self.layout.chunk_samples
        order = np.argsort(samples // size, kind="stable")
        ends = np.flatnonzero(np.diff(samples[order] // size)) + 1
        empty = np.empty((0, *self.layout.shape), self.layout.stored_dtype)
        found = np.empty((len(samples), *_select(empty, rest).shape[1:]), self.layout.stored_dtype)
        for here in np.split(order, ends) if len(samples) else ():
            index = int(samples[here[0]] // size)
            found[here] = _select(self._read_chunk(index, log), rest)[samples[here] - index * size]
        return self._decode(found if wanted.ndim else found[0])

    def _read_chunk(self, index: int, log: StoreLog) -> npt.NDArray[Any]:
        start = index * self.layout.chunk_samples
        stop = min(start + self.layout.chunk_samples, log.n_samples)
        if stop - start < self.layout.chunk_samples and not log.complete:
            return self._read_tail(start, stop - start, log.tails.get(self.layout.name, 0))
        name = self._array.metadata.encode_chunk_key((index,) + (0,) * len(self.layout.shape))
        which = f"chunk of samples {start} to {stop - 1}"
        if not self.folder.holds(name):
            raise self._damaged(which, name, "the file is missing")
        try:
            values = np.asarray(self._array[start:stop])
        except (OSError, ValueError) as error:
            raise self._damaged(which, name, str(error)) from error
        if len(values) != stop - start:
            end = f"the array ends before sample {self._array.shape[0]}"
            raise self._damaged(which, "zarr.json", end)
        return values

    def _write_chunk(self, start: int, values: npt.NDArray[Any]) -> None:
        self.cut(max(self._array.shape[0], start + len(values)))
        self._array[start : start + len(values)] = values

    def _tail(self, start: int) -> str:
        return f"tail.{start}"

    def _extend_tail(self, start: int, held: int, values: npt.NDArray[Any], checksum: int) -> int:
        if len(values) == 0:
            return checksum
        self.folder.extend(self._tail(start), held * self.layout.sample_bytes, values.tobytes())
        return zlib.crc32(values.data, checksum)

    def _read_tail(self, start: int, held: int, checksum: int) -> npt.NDArray[Any]:
        name = self._tail(start)
        which = f"tail of samples {start} to {start + held - 1}"
        try:
            content = bytearray(self.folder.read(name)[: held * self.layout.sample_bytes])
        except OSError as error:
            raise self._damaged(which, name, str(error)) from error
        if len(content) != held * self.layout.sample_bytes or zlib.crc32(content) != checksum:
            raise self._damaged(which, name, f"{len(content)} bytes whose checksum is not the one on record")
        return np.frombuffer(content, self.layout.stored_dtype).reshape(held, *self.layout.shape)

    def _damaged(self, which: str, name: str, what: str) -> StorageError:
        return StorageError(
            f"the {which} of site {self.layout.name!r} is damaged",
            expected=f"the bytes that were written to {(self.folder / name).path}",
            got=what,
            fix="restore that file from a copy, or capture these activations again into a new store",
        )

    def _encode(self, rows: torch.Tensor) -> npt.NDArray[Any]:
        rows = rows.contiguous()
        return (rows.view(torch.uint16) if rows.dtype == torch.bfloat16 else rows).numpy()

    def _decode(self, values: npt.NDArray[Any]) -> torch.Tensor:
        # torch cannot mark a tensor as read-only, and a single number is no array.
        tensor = torch.from_numpy(np.require(values, requirements=["C", "W", "A"]))
        return tensor.view(torch.bfloat16) if self.layout.dtype == torch.bfloat16 else tensor


def remove_leftovers(folder: Folder, log: StoreLog) -> None:
    """Remove what an interrupted batch left: unfinished files, and chunks and tails that do not count."""
    folder.remove_drafts()
    for layout in log.layouts.values():
        files = SiteFiles(folder, layout)
        files.cut(log.n_samples - log.n_samples % layout.chunk_samples)
        files.drop_old_tails(log.n_samples)


def shuffled_batches(
    rows: Callable[[int], torch.Tensor],
    n_chunks: int,
    chunks_per_pool: int,
    batch_size: int,
    random: np.random.Generator | None,
) -> Iterator[torch.Tensor]:
    """Yield the rows of all chunks in batches, each row once, never holding more than one pool of chunks.

    Parameters
    ----------
    rows : callable
        ``rows(chunk)`` returns ``(n_rows, n_features)``.
    n_chunks, chunks_per_pool, batch_size : int
        Rows are mixed only within a pool; what does not fill a batch goes into the next pool.
    random : numpy.random.Generator or None
        Draws the order of the chunks and the order in each pool; None keeps both.
    """
    chunks = np.arange(n_chunks) if random is None else random.permutation(n_chunks)
    left: list[torch.Tensor] = []
    for first in range(0, n_chunks, chunks_per_pool):
        pool = torch.cat([*left, *(rows(int(chunk)) for chunk in chunks[first : first + chunks_per_pool])])
        order = np.arange(len(pool)) if random is None else random.permutation(len(pool))
        picked = torch.from_numpy(order).split(batch_size)
        whole = picked if len(picked[-1]) == batch_size else picked[:-1]
        yield from (pool[one] for one in whole)
        left = [pool[one] for one in picked[len(whole) :]]
    yield from left


def _select(values: npt.NDArray[Any], rest: Sequence[Any]) -> npt.NDArray[Any]:
    """Apply one index to each axis after the first; the last first, as dropping one moves the later ones."""
    for axis in reversed(range(len(rest))):
        values = values[(slice(None),) * (axis + 1) + (rest[axis],)]
    return values
