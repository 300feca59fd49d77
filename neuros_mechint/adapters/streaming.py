"""Activations streamed to a store on disk, batch by batch; an interrupted capture is continued where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from os import PathLike

from neuros_mechint.adapters.batches import Batch
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.errors import InputError, StorageError
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.sites import SiteReference
from neuros_mechint.core.stores.store import ActivationStore


def stream_to_store(
    path: str | PathLike[str],
    batch: Batch,
    references: Sequence[SiteReference],
    model: str,
    in_parts: Callable[[Batch], Iterable[Batch]],
    read: Callable[[Batch], Activations],
) -> ActivationStore:
    """Capture to a store and return it, open for reading.

    Parameters
    ----------
    path : path
        Folder of the store.
    batch : Batch
        All samples.
    references : sequence of SiteReference
        What is captured.
    model : str
        Fingerprint of the model.
    in_parts : callable
        Cuts samples into batches.
    read : callable
        Captures one of them.

    Raises
    ------
    InputError
        A site with an index of samples.
    StorageError
        The store holds another capture, or cannot be written.
    """
    if any("sample" in reference.index for reference in references):
        raise InputError(
            "a store holds every sample", expected="sites without an index of samples", fix="give only those inputs"
        )
    arguments = {"sites": [str(reference) for reference in references], "inputs": batch.fingerprint()}
    provenance = Provenance.record(model=model, arguments=arguments)
    done = ActivationStore.samples_written(path)
    begun = ActivationStore.open(path, partial=True) if done else None
    if begun is not None:
        _check_same_capture(begun.provenance, provenance, path)
    if begun is not None and begun.complete:
        return begun
    writer = None if done < batch.n_samples else ActivationStore.resume(path)
    mask = batch.attention_mask  # of all parts, some of which may have no padding
    for part in in_parts(batch.rows(done, batch.n_samples)) if writer is None else ():
        here = None if mask is None else mask[part.start : part.start + part.n_samples]
        activations = read(part).with_attention_mask(here)
        if writer is None:
            writer = ActivationStore.for_activations(path, activations, batch.total, provenance)
        writer.append(activations)
    if writer is not None:
        writer.finish()
    return ActivationStore.open(path)


def _check_same_capture(begun: Provenance | None, now: Provenance, path: str | PathLike[str]) -> None:
    """Refuse to continue, or to hand out, a store that another capture has left in this place."""
    if begun is None or (begun.model, begun.arguments) != (now.model, now.arguments):
        raise StorageError(
            f"{path} holds another capture",
            expected="the same model, sites and inputs as in the capture that began the store",
            fix="give another path, or delete the folder",
        )
