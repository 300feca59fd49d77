"""The log of an `ActivationStore`: its sites, their layout on disk, and which samples are finished."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import quote

import numpy as np
import torch
import zarr
from zarr.codecs import Crc32cCodec

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.errors import InputError, StorageError
from neuros_mechint.core.json_text import parse_json
from neuros_mechint.core.labels import check_dims, counts_observations, dtype_name
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.stores.places import Folder, Location, folder_at

_VERSION = 1
_ATTRIBUTE = "neuros_mechint"
_CHUNK_OBSERVATIONS = 4096
_CHUNK_BYTES = 32 * 2**20
"""Upper bound of a chunk: a few of them must fit in memory while a store is written or shuffled."""

_DTYPES = {
    dtype_name(dtype): dtype
    for dtype in (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128),
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
    )
}


@dataclass(frozen=True)
class SiteLayout:
    """What one sample of a site looks like, and how many samples share a chunk.

    Parameters
    ----------
    name : str
        The site.
    dims : tuple of str
        Names of its axes, "sample" first.
    shape : tuple of int
        Sizes along the other axes.
    dtype : torch.dtype
        Type of its entries.
    chunk_samples : int
        Samples per chunk. It is not part of what makes two layouts equal.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    chunk_samples: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if self.chunk_samples == 0:
            observations = math.prod(
                size for axis, size in zip(self.dims[1:], self.shape, strict=False) if counts_observations(axis)
            )
            fitting = min(_CHUNK_OBSERVATIONS // max(observations, 1), _CHUNK_BYTES // max(self.sample_bytes, 1))
            object.__setattr__(self, "chunk_samples", max(1, fitting))

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def folder(self) -> str:
        """Name of the zarr array: the site's, with characters that file systems dislike written as %XX."""
        return quote(self.name, safe="")

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """Type in the zarr array: bfloat16 is kept as its bits."""
        return np.dtype("uint16" if self.dtype == torch.bfloat16 else dtype_name(self.dtype))

    def __str__(self) -> str:
        sizes = ", ".join(f"{axis}={size}" for axis, size in zip(self.dims[1:], self.shape, strict=False))
        return f"{self.name} ({', '.join(filter(None, ['sample', sizes]))}) {dtype_name(self.dtype)}"

    @classmethod
    def of_all(
        cls,
        dims: Mapping[str, Sequence[str]],
        shapes: Mapping[str, Sequence[int]],
        dtypes: Mapping[str, torch.dtype],
    ) -> dict[str, Self]:
        """Return the layout of every site; raise `InputError` where it cannot be stored."""
        if not (dims.keys() == shapes.keys() == dtypes.keys()) or not dims:
            raise InputError(
                "the layout of the store is not complete",
                expected="dims, shapes and dtypes for the same sites, at least one",
                got=f"dims of {list(dims)}, shapes of {list(shapes)}, dtypes of {list(dtypes)}",
            )
        layouts: dict[str, Self] = {}
        for name, dtype in dtypes.items():
            shape = tuple(int(size) for size in shapes[name])
            layouts[name] = cls(name, check_dims(name, dims[name], len(shape) + 1), shape, dtype)
            layouts[name].check()
        return layouts

    @classmethod
    def of_activations(cls, activations: Activations) -> dict[str, Self]:
        """Return the layout of every site of a batch."""
        dims = {name: activations.dims(name) for name in activations}
        items = activations.items()
        return {name: cls(name, dims[name], tuple(one.shape[1:]), one.dtype) for name, one in items}

    def check(self) -> None:
        """Raise `InputError` unless this site can be stored."""
        if self.dims[0] != "sample" or min(self.shape, default=1) < 1:
            raise InputError(
                f"{self.name!r} cannot be appended sample by sample",
                expected="'sample' as the first axis and at least one entry along every other",
                got=f"axes ({', '.join(self.dims)}), one sample of shape {self.shape}",
            )
        if dtype_name(self.dtype) not in _DTYPES:
            raise InputError(
                f"{self.name!r} has a type that cannot be stored", expected=", ".join(_DTYPES), got=self.dtype
            )
        if not self.folder.strip(".") or self.folder.startswith("__") or len(self.folder) > 200:
            raise InputError(
                f"{self.name!r} cannot name a folder",
                expected="1 to 200 characters, no leading '__'",
                got=self.name,
            )

    def to_json(self) -> dict[str, Any]:
        """Return this layout as JSON holds it."""
        dtype = dtype_name(self.dtype)
        return {"dims": self.dims, "shape": self.shape, "dtype": dtype, "chunk_samples": self.chunk_samples}

    @classmethod
    def from_json(cls, name: str, stored: Mapping[str, Any]) -> SiteLayout:
        """Return the layout that `to_json` wrote."""
        dims, shape = tuple(stored["dims"]), tuple(stored["shape"])
        return cls(name, dims, shape, _DTYPES[stored["dtype"]], stored["chunk_samples"])


@dataclass
class StoreLog:
    """What is in a store and which samples count: the attributes of its zarr group, replaced in one step.

    Parameters
    ----------
    folder : Folder
        Of the store.
    layouts : dict of str to SiteLayout
        The sites, in order.
    n_samples : int
        Finished samples; whatever else lies on the disk is left over from an interrupted batch.
    complete : bool
        Whether the store was finished.
    n_promised : int or None
        How many samples there will be, where that is known.
    writer : str
        Who may append. Resuming changes it, which stops a writer that is still alive.
    tails : dict of str to int
        CRC-32 of the samples of each site that do not fill a chunk yet.
    provenance : Provenance or None
        Where the activations come from.
    """

    folder: Folder
    layouts: dict[str, SiteLayout]
    n_samples: int = 0
    complete: bool = False
    n_promised: int | None = None
    writer: str = field(default_factory=lambda: uuid.uuid4().hex)
    tails: dict[str, int] = field(default_factory=dict[str, int])
    provenance: Provenance | None = None

    @property
    def path(self) -> Any:
        """Path or URL of the store."""
        return self.folder.path

    def alone(self) -> AbstractContextManager[None]:
        """Keep other writers waiting, where the place can; the lock lies in a site, for zarr knows no such file."""
        return (self.folder / next(iter(self.layouts.values())).folder).alone()

    @classmethod
    def create(
        cls, path: Location, layouts: dict[str, SiteLayout], n_promised: int | None, provenance: Provenance | None
    ) -> StoreLog:
        """Make an empty store; it appears under its name only when it is whole."""
        log = cls(folder_at(path), layouts, n_promised=n_promised, provenance=provenance)
        with log.folder.appearing() as draft:
            for layout in layouts.values():
                zarr.create_array(
                    (draft / layout.folder).zarr,
                    shape=(0, *layout.shape),
                    chunks=(layout.chunk_samples, *layout.shape),
                    dtype=layout.stored_dtype,
                    filters=None,
                    compressors=[Crc32cCodec()],
                    dimension_names=layout.dims,
                    attributes={"site": layout.name, "dtype": dtype_name(layout.dtype)},
                    zarr_format=3,
                )
            replace(log, folder=draft).write()
        return log

    @staticmethod
    def exists(path: Location) -> bool:
        """Whether there is a zarr group at ``path``, which `read` may still find not to be a store."""
        return folder_at(path).holds("zarr.json")

    @classmethod
    def read(cls, path: Location) -> StoreLog:
        """Read the log of a store; raise `StorageError` where there is none."""
        folder = folder_at(path)
        if not folder.holds("zarr.json"):
            state = folder.state()
            raise StorageError(
                f"there is no activation store at {path}",
                expected="a folder that ActivationStore.create made",
                got=f"{state} without zarr.json" if "folder" in state else state,
            )
        try:
            stored = parse_json(folder.read("zarr.json"))["attributes"][_ATTRIBUTE]
            version = stored.pop("version")
            if version == _VERSION:
                layouts = {name: SiteLayout.from_json(name, one) for name, one in stored.pop("sites").items()}
                origin = stored.pop("provenance")
                return cls(folder, layouts, provenance=origin and Provenance.from_json(origin), **stored)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StorageError(
                f"{path} is not an activation store, or its zarr.json is damaged",
                expected=f"a zarr group of format 3 with the attribute {_ATTRIBUTE!r}",
                got=f"{type(error).__name__}: {error}",
            ) from error
        raise StorageError(
            f"the store {path} was written by another version of this package",
            expected=f"store version {_VERSION}",
            got=f"store version {version}",
        )

    def write(self) -> None:
        """Replace the log on disk by this one; the file is exchanged in one step."""
        stored = {
            "version": _VERSION,
            "n_samples": self.n_samples,
            "complete": self.complete,
            "n_promised": self.n_promised,
            "writer": self.writer,
            "tails": self.tails,
            "provenance": self.provenance and self.provenance.to_json(),
            "sites": {name: layout.to_json() for name, layout in self.layouts.items()},
        }
        group = {"zarr_format": 3, "node_type": "group", "attributes": {_ATTRIBUTE: stored}}
        self.folder.replace("zarr.json", json.dumps(group).encode())

    def commit(self, n_samples: int, tails: dict[str, int], complete: bool = False) -> None:
        """Make ``n_samples`` the finished ones."""
        finished = {"n_samples": n_samples, "tails": tails, "complete": complete}
        replace(self, **finished).write()
        self.n_samples, self.tails, self.complete = n_samples, tails, complete

    def check_complete(self) -> None:
        """Raise `StorageError` unless the store was finished."""
        if not self.complete:
            promised = "" if self.n_promised is None else f" of {self.n_promised}"
            raise StorageError(
                f"the store {self.path} is not complete: {self.n_samples}{promised} samples are finished",
                fix=f"continue from sample {self.n_samples} with ActivationStore.resume({str(self.path)!r}); "
                "or read the finished samples with ActivationStore.open(..., partial=True)",
            )

    def check_resumable(self, provenance: Provenance | None) -> None:
        """Raise `StorageError` where the store is finished, or comes from another model."""
        if self.complete:
            raise StorageError(
                f"the store {self.path} is complete with {self.n_samples} samples",
                fix="read it with ActivationStore.open, or write to another path",
            )
        if provenance is not None and self.provenance and provenance.model != self.provenance.model:
            raise StorageError(
                f"the store {self.path} holds activations of another model",
                expected=f"model {self.provenance.model}",
                got=f"model {provenance.model}",
                fix="write to another path, or delete this store and start again",
            )

    def check_batch(self, batch: Mapping[str, torch.Tensor]) -> int:
        """Return the number of samples of a batch; raise `StorageError` unless it can be appended."""
        if set(batch) != set(self.layouts):
            raise StorageError(
                f"the batch has other sites than the store {self.path}",
                expected=", ".join(self.layouts),
                got=", ".join(batch) or "none",
                fix="append every site of the store, under the name it has there",
            )
        if not isinstance(batch, Activations):
            batch = Activations(batch, {name: layout.dims for name, layout in self.layouts.items()})
        check_same(self.path, self.layouts, SiteLayout.of_activations(batch))
        sizes = {tensor.shape[0] for tensor in batch.values()}
        room = math.inf if self.n_promised is None else self.n_promised - self.n_samples
        if len(sizes) != 1 or not 1 <= max(sizes) <= room:
            most = "" if self.n_promised is None else f" and at most {room}, of {self.n_promised} promised"
            raise StorageError(
                f"the batch does not fit the store {self.path}",
                expected=f"the same number of samples at every site, at least 1{most}",
                got=f"{sorted(sizes)} samples",
            )
        return max(sizes)


def check_same(path: Location, expected: Mapping[str, SiteLayout], got: Mapping[str, SiteLayout]) -> None:
    """Raise `StorageError` unless a store and what is to be appended have the same layout."""
    for name in {**expected, **got}:
        if expected.get(name) != got.get(name):
            raise StorageError(
                f"these activations do not fit the store {path}",
                expected=expected.get(name, f"no site {name!r}"),
                got=got.get(name, f"no site {name!r}"),
                fix="append the same sites, axes, sizes and types, or write to another store",
            )
