"""Activations on disk: appended batch by batch, safe against a killed process, read lazily or shuffled."""

from __future__ import annotations

import itertools
import math
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.errors import InputError, StorageError
from neuros_mechint.core.labels import (
    HALF_PRECISION,
    LabelledTensors,
    as_numpy,
    describe_activation,
    dtype_name,
    observed,
)
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.stores.files import SiteFiles, remove_leftovers, shuffled_batches
from neuros_mechint.core.stores.lazy import LazyArray
from neuros_mechint.core.stores.log import SiteLayout, StoreLog, check_same
from neuros_mechint.core.stores.places import Location, folder_at

if TYPE_CHECKING:
    import xarray as xr

_MASK = "attention_mask"
"""Stored beside the sites where the sequences are padded."""
_POOL_BYTES = 128 * 2**20
"""How much `ActivationStore.batches` holds in memory at once to shuffle it."""


class ActivationStore(LabelledTensors):
    """Activations of any size, by site, with named axes: in a folder, or behind a URL such as ``s3://bucket/acts.zarr``.

    A store is a zarr group (format 3) with one array per site: uncompressed chunks of about 4,096
    observations, each with a CRC-32C checksum. `create` starts one, `resume` continues one after an
    interruption, `open` reads it. bfloat16, which zarr does not have, is kept as the same 16 bits in
    uint16 and comes back as bfloat16.

    Samples past the last whole chunk wait in a plain file beside the chunks, and a batch counts once the
    group's metadata, which are replaced in one step, say so. A process killed at any moment therefore
    loses at most the batch it was writing. (A power cut may lose more: nothing is forced out of the
    operating system's cache.)

    One writer at a time: `resume` takes a store over from another process, whose next batch is then refused. Where
    the file system has locks, as folders of one machine do, a batch and a `resume` wait for each other; on object
    storage two that fall together are noticed one batch later, and may have damaged the newest one.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/activations.zarr"
    >>> layout = {"embed": ("sample", "unit")}, {"embed": (3,)}, {"embed": torch.float32}
    >>> with ActivationStore.create(path, *layout) as store:
    ...     store.append({"embed": torch.ones(2, 3)})
    ...     store.append({"embed": torch.zeros(2, 3)})
    >>> ActivationStore.open(path)["embed"].sum()
    tensor(6.)
    """

    def __init__(self, path: Location, log: StoreLog, writable: bool) -> None:
        super().__init__({name: one.dims for name, one in log.layouts.items() if name != _MASK}, log.provenance)
        self.path = folder_at(path).path
        self._log = log
        self._writable = writable
        self._files = {name: SiteFiles(log.folder, layout) for name, layout in log.layouts.items()}

    @classmethod
    def create(
        cls,
        path: Location,
        dims: Mapping[str, Sequence[str]],
        shapes: Mapping[str, Sequence[int]],
        dtypes: Mapping[str, torch.dtype],
        n_samples: int | None = None,
        provenance: Provenance | None = None,
        expected_bytes: int | None = None,
    ) -> ActivationStore:
        """Start a new store.

        Parameters
        ----------
        path : path
            A folder that does not exist yet, or is empty.
        dims : mapping of str to sequence of str
            Names of the axes of each site, ``"sample"`` first.
        shapes : mapping of str to sequence of int
            Shape of one sample of each site: its sizes along all axes but the first.
        dtypes : mapping of str to torch.dtype
            Type of each site.
        n_samples : int, optional
            How many samples there will be; the store is complete when it holds them.
        provenance : Provenance, optional
            Where the activations come from.
        expected_bytes : int, optional
            How much there will be; computed where ``n_samples`` is given.

        Returns
        -------
        ActivationStore
            Ready to `append`.

        Raises
        ------
        InputError
            Axes, shapes or dtypes that do not fit together.
        StorageError
            Something is there already, or it will not fit on the disk.
        """
        folder = folder_at(path)
        layouts = SiteLayout.of_all(dims, shapes, dtypes)
        if folder.state() in ("a file", "a folder"):
            raise StorageError(
                f"there is something at {path} already",
                expected="a folder that does not exist yet",
                fix=f"choose another path, delete it, or continue with ActivationStore.resume({str(path)!r})",
            )
        if expected_bytes is None:
            expected_bytes = (n_samples or 0) * sum(layout.sample_bytes for layout in layouts.values())
        folder.require_space(expected_bytes)
        return cls(path, StoreLog.create(path, layouts, n_samples, provenance), writable=True)

    @classmethod
    def open(cls, path: Location, partial: bool = False) -> ActivationStore:
        """Open a store to read it.

        Parameters
        ----------
        path : path
            Folder of the store.
        partial : bool
            Accept a store that is not complete, and read what was finished so far.

        Raises
        ------
        StorageError
            Not a store, a damaged one, or one that is not complete.
        """
        log = StoreLog.read(path)
        if not partial:
            log.check_complete()
        return cls(path, log, writable=False)

    @classmethod
    def resume(
        cls,
        path: Location,
        dims: Mapping[str, Sequence[str]] | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
        dtypes: Mapping[str, torch.dtype] | None = None,
        provenance: Provenance | None = None,
    ) -> ActivationStore:
        """Continue a store that was not completed; ``n_samples`` says from which sample on.

        Parameters
        ----------
        path : path
            Folder of the store.
        dims, shapes, dtypes : mapping, optional
            As in `create`: what is going to be appended, all three to be checked now.
        provenance : Provenance, optional
            Of what is going to be appended; it must come from the same model.

        Raises
        ------
        StorageError
            Not a store, a complete one, or one of other sites, axes, shapes, types or another model.
        """
        with StoreLog.read(path).alone():
            log = StoreLog.read(path)  # as the writer before has left it
            log.check_resumable(provenance)
            if dims is not None and shapes is not None and dtypes is not None:
                check_same(path, log.layouts, SiteLayout.of_all(dims, shapes, dtypes))
            remove_leftovers(log.folder, log)
            log.writer = uuid.uuid4().hex
            log.write()
        return cls(path, log, writable=True)

    @classmethod
    def for_activations(
        cls,
        path: Location,
        activations: Activations,
        n_samples: int | None = None,
        provenance: Provenance | None = None,
    ) -> ActivationStore:
        """Start or continue the store that batches like ``activations`` are appended to.

        Parameters
        ----------
        path : path
            Folder of the store.
        activations : Activations
            A batch; nothing of it is written yet.
        n_samples : int, optional
            How many samples there will be.
        provenance : Provenance, optional
            Where the activations come from; by default, what the batch says.

        Raises
        ------
        InputError, StorageError
            As in `create` and `resume`.
        """
        activations = _with_mask(activations)
        shapes = {name: tensor.shape[1:] for name, tensor in activations.items()}
        dtypes = {name: tensor.dtype for name, tensor in activations.items()}
        layout = {name: activations.dims(name) for name in activations}, shapes, dtypes
        provenance = provenance or activations.provenance
        if StoreLog.exists(path):
            return cls.resume(path, *layout, provenance)
        return cls.create(path, *layout, n_samples, provenance)

    @staticmethod
    def samples_written(path: Location) -> int:
        """Return how many samples a store holds; 0 where there is none yet."""
        return StoreLog.read(path).n_samples if StoreLog.exists(path) else 0

    @property
    def n_samples(self) -> int:
        """Number of finished samples."""
        return self._log.n_samples

    @property
    def complete(self) -> bool:
        """Whether the store was finished."""
        return self._log.complete

    def append(self, batch: Mapping[str, torch.Tensor]) -> None:
        """Add a batch of samples at the end.

        Parameters
        ----------
        batch : Activations or mapping of str to torch.Tensor
            Every site of the store, each ``(n_samples, ...)``.

        Raises
        ------
        StorageError
            The store is not open for writing, the batch does not fit it, or the disk is full.
        """
        self._check_writable()
        batch = _with_mask(batch) if isinstance(batch, Activations) else batch
        n_new = self._log.check_batch(batch)
        self._log.folder.require_space(sum(tensor.nbytes for tensor in batch.values()))
        with self._writing():
            tails = {
                name: files.append(self.n_samples, batch[name].detach().cpu(), self._log.tails.get(name, 0))
                for name, files in self._files.items()
            }
            self._log.commit(self.n_samples + n_new, tails)
            for files in self._files.values():
                files.drop_old_tails(self.n_samples)

    def finish(self) -> None:
        """Write the last, smaller chunks and mark the store as complete.

        Raises
        ------
        StorageError
            The store is not open for writing, or holds fewer samples than were promised.
        """
        self._check_writable()
        promised = self._log.n_promised
        if promised is not None and self.n_samples < promised:
            raise StorageError(
                f"the store {self.path} is not complete",
                expected=f"{promised} samples",
                got=f"{self.n_samples} samples",
                fix="append the others; close() leaves the store so that it can be resumed",
            )
        with self._writing():
            for name, files in self._files.items():
                files.write_last_chunk(self.n_samples, self._log.tails.get(name, 0))
            self._log.commit(self.n_samples, {}, complete=True)
            for files in self._files.values():
                files.drop_old_tails(None)
        self._writable = False

    def close(self) -> None:
        """Stop writing; a store that is not finished can be resumed."""
        self._writable = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        promised = self._log.n_promised
        if self._writable and kind is None and (promised is None or self.n_samples >= promised):
            self.finish()
        self.close()

    def xarray(self, name: str) -> xr.DataArray:
        """Return one site as a labelled array that reads, chunk by chunk, only what is selected from it.

        Parameters
        ----------
        name : str
            The site.

        Returns
        -------
        xarray.DataArray
            Half precision becomes float32, which its attribute ``note`` then says.
        """
        name = self.resolve(name)
        shape, dtype = self._layout(name)
        kind = np.dtype("float32") if dtype in HALF_PRECISION else np.dtype(dtype_name(dtype))
        lazy = LazyArray(shape, kind, lambda key: as_numpy(self._read(name, key)))
        return lazy.labelled(name, self._dims[name], describe_activation(name, dtype, self.provenance))

    def batches(
        self,
        site: str,
        batch_size: int,
        shuffle: bool = True,
        seed: SeedLike = 0,
        epochs: int | None = 1,
        samples: tuple[int, int] | None = None,
    ) -> Iterator[torch.Tensor]:
        """Iterate over the observations of a site in random order, without holding them all in memory.

        Chunks are visited in random order and their observations mixed in a pool of several chunks. In each
        epoch every observation comes exactly once. SAELens's ``SAETrainer`` takes this as ``data_provider``.

        Parameters
        ----------
        site : str
            The site.
        batch_size : int
            Observations per batch; the last batch of an epoch may be smaller.
        shuffle : bool
            False keeps the order on disk.
        seed : int or numpy.random.Generator
            Draws the order.
        epochs : int or None
            How many times to go through; None never stops.
        samples : (int, int), optional
            Only from the first of these samples on and up to, without, the second.

        Returns
        -------
        iterator of torch.Tensor
            ``(batch_size, n_features)`` float32, as in `matrix`.

        Raises
        ------
        SiteError, InputError
            No such site, no samples, samples that are not there, or a batch size below 1.
        StorageError
            While iterating: a chunk is damaged.
        """
        name = self.resolve(site)
        first, stop = (0, self.n_samples) if samples is None else samples
        if batch_size < 1 or not 0 <= first < stop <= self.n_samples:
            raise InputError(
                "no batches to make",
                expected=f"batch_size >= 1 and samples within the {self.n_samples} of the store",
                got=f"batch_size={batch_size}, samples {first} to {stop}",
            )
        random = generator(seed) if shuffle else None
        layout = self._log.layouts[name]
        size = layout.chunk_samples
        # Twice: while the rows are joined, the chunks they came from are still there.
        per_pool = max(1, _POOL_BYTES // (2 * size * layout.sample_bytes))
        n_chunks = math.ceil(stop / size) - first // size

        def rows(chunk: int) -> torch.Tensor:
            begin = (chunk + first // size) * size
            wanted = slice(max(begin, first), min(begin + size, stop))
            values = self._files[name].read_chunk(begin // size, self._log)[wanted.start - begin : wanted.stop - begin]
            return observed(name, values, layout.dims, self._mask(wanted)).to(torch.float32)

        rounds = itertools.repeat(None) if epochs is None else itertools.repeat(None, epochs)
        return itertools.chain.from_iterable(
            shuffled_batches(rows, n_chunks, per_pool, batch_size, random) for _ in rounds
        )

    def _mask(self, samples: slice) -> torch.Tensor | None:
        return self._read(_MASK, (samples, slice(None))) if _MASK in self._files else None

    def _load(self, name: str) -> torch.Tensor:
        return self._read(name, (slice(None),) * len(self._dims[name]))

    def _read(self, name: str, key: tuple[Any, ...]) -> torch.Tensor:
        return self._files[name].read(key, self._log)

    def _layout(self, name: str) -> tuple[tuple[int, ...], torch.dtype]:
        layout = self._log.layouts[name]
        return (self.n_samples, *layout.shape), layout.dtype

    def _title(self) -> str:
        state = "complete" if self.complete else "not complete"
        return f"ActivationStore {self.path} ({state}, {self.n_samples} samples)"

    @contextmanager
    def _writing(self) -> Generator[None]:
        """Stop writing after an interruption: the disk may not hold what this object remembers."""
        try:
            with self._log.alone():
                self._check_only_writer()
                yield
        except BaseException as error:
            self._writable = False
            if not isinstance(error, OSError) or isinstance(error, StorageError):
                raise
            raise StorageError(
                f"could not write to {self.path}: {error}",
                fix=f"mend that, then ActivationStore.resume({str(self.path)!r}); finished samples are safe",
            ) from error

    def _check_writable(self) -> None:
        if not self._writable:
            raise StorageError(
                f"the store {self.path} is not open for writing",
                fix="a store that is not complete is continued with ActivationStore.resume(path)",
            )
        self._check_only_writer()

    def _check_only_writer(self) -> None:
        if StoreLog.read(self.path).writer != self._log.writer:
            raise StorageError(
                f"another process has resumed the store {self.path} and writes to it",
                fix="let only one of them write",
            )


def _with_mask(activations: Activations) -> Activations:
    """Return activations with their attention mask, where they have one, as a tensor among them."""
    mask = activations.attention_mask
    if mask is None:
        return activations
    dims = {name: activations.dims(name) for name in activations}
    return Activations({**activations, _MASK: mask}, {**dims, _MASK: ("sample", "position")})
