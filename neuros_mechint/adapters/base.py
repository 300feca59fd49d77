"""What all adapters share: names, indices, batching, checks. An adapter for a new kind of model adds four methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import torch

from neuros_mechint.adapters.batches import Batch, check_batch_size, join_outputs
from neuros_mechint.adapters.copies import edits_by_site, repeated
from neuros_mechint.adapters.hooks import EditFunction
from neuros_mechint.adapters.labelling import Labels, labelled
from neuros_mechint.adapters.streaming import stream_to_store
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.adapter import CAPABILITIES, Metric, Run
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import CapabilityError, InputError
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike
from neuros_mechint.core.sites import SiteReference, SiteTable
from neuros_mechint.core.stores.store import ActivationStore

Tensors = Mapping[str, torch.Tensor]
Dims = Mapping[str, tuple[str, ...]]
Edits = Mapping[str, Sequence[EditFunction]]


class BaseAdapter(ABC):
    """Base of every adapter.

    A subclass gives `capabilities`, `fingerprint`, `_prepare`, `_table` and `_execute`, and, where the kind of model
    can, `_differentiate`, ``generate`` and ``step``.
    """

    @property
    @abstractmethod
    def capabilities(self) -> frozenset[str]:
        """Names from `neuros_mechint.core.adapter.CAPABILITIES`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a short stable identity of the model and its weights."""

    @abstractmethod
    def _prepare(self, inputs: Any) -> Batch:
        """Return the inputs as the model takes them; raise `InputError` on what it cannot take."""

    @abstractmethod
    def _table(self, wanted: Sequence[str], batch: Batch | None) -> SiteTable:
        """Return the sites; ``batch`` may be run to prove the ``wanted`` names. Empty ``wanted`` means all."""

    @abstractmethod
    def _execute(self, batch: Batch, edits: Edits, capture: Sequence[str]) -> tuple[Any, Tensors, Dims]:
        """Run one batch; return the model's output, and the captured tensors with the names of their axes."""

    def _read(self, batch: Batch, capture: Sequence[str]) -> tuple[Tensors, Dims]:
        """Run one batch for what is captured alone: the output is not needed."""
        return self._execute(batch, {}, capture)[1:]

    def _differentiate(self, batch: Batch, edits: Edits, sites: Sequence[str], metric: Metric) -> tuple[Tensors, Dims]:
        """Return the derivative of the metric with respect to the activation at each site, after its edits."""
        raise self._cannot("gradient")

    def sites(self, pattern: str | None = None) -> SiteTable:
        """Return the sites of the model, in order of execution.

        Parameters
        ----------
        pattern : str, optional
            Names to list, ``*`` matches anything.

        Raises
        ------
        SiteError
            No name matches.
        """
        table = self._table([pattern] if pattern else [], None)
        return table if pattern is None else table.select(pattern)

    def run(
        self,
        inputs: Any,
        edits: Edit | Sequence[Edit] = (),
        capture: Any = (),
        batch_size: int | None = None,
    ) -> Run:
        """Run the model with ``edits``, and return its output and what was captured.

        Parameters
        ----------
        inputs : tensor, tuple, dict or list of str
            What the model takes.
        edits : Edit or sequence of Edit
            Applied in order; a pattern edits every site it matches.
        capture : str or iterable of str
            Sites to read, after their edits.
        batch_size : int, optional
            Samples per call of the model; the result does not depend on it.

        Returns
        -------
        Run
            ``.output`` and ``.activations``.

        Raises
        ------
        SiteError, InputError, CapabilityError
            Unknown sites, values that do not fit, or a model that cannot be edited.
        """
        found = self.observe(inputs, edits, capture, batch_size)
        if not len(found.activations):
            return found
        return Run(found.output, found.activations.with_provenance(Provenance.record(model=self.fingerprint())))

    def observe(
        self,
        inputs: Any,
        edits: Edit | Sequence[Edit] = (),
        capture: Any = (),
        batch_size: int | None = None,
    ) -> Run:
        """Do what `run` does for an analysis that records the provenance itself: hashing the weights takes time."""
        batch = self._prepare(inputs)
        edits = self._expand_edits(edits, batch)
        references = self._expand(capture, batch)
        outputs: list[Any] = []
        pieces: list[Activations] = []
        sizes: list[int] = []
        for part in self._progress(batch, batch_size, "run"):
            output, activations = self._run_part(part, edits, references)
            outputs.append(output)
            pieces.append(activations)
            sizes.append(part.n_samples)
        activations = _samples_picked(Activations.concatenate(pieces), references)
        activations = self._labelled(activations.with_attention_mask(batch.attention_mask), batch)
        return Run(self._join_outputs(outputs, sizes, batch.sample_axis), activations)

    def capture(
        self,
        inputs: Any,
        sites: Any,
        batch_size: int | None = None,
        to: str | PathLike[str] | None = None,
    ) -> Activations | ActivationStore:
        """Run the model and return the activations at ``sites``.

        Parameters
        ----------
        inputs : tensor, tuple, dict or list of str
            What the model takes.
        sites : str or iterable of str
            Names, patterns or indexed names.
        batch_size : int, optional
            Samples per call of the model; the result does not depend on it.
        to : path, optional
            Folder of an `ActivationStore`: the batches are streamed there and the store is returned. A store that
            an earlier, interrupted capture left there is continued. `ActivationStore.open` opens it again.

        Returns
        -------
        Activations or ActivationStore

        Raises
        ------
        SiteError, InputError, StorageError
        """
        batch = self._prepare(inputs)
        references = self._expand(sites, batch)
        if not references:
            raise InputError("no sites to capture", expected="at least one name or pattern, see `model.sites()`")

        def in_parts(samples: Batch) -> Iterable[Batch]:
            return self._progress(samples, batch_size, "capture")

        def read(part: Batch) -> Activations:
            return _picked(*self._read(part, _base_names(references)), references)

        if to is not None:
            return stream_to_store(to, batch, references, self.fingerprint(), in_parts, read)
        return self._joined([read(part) for part in in_parts(batch)], references, batch)

    def gradients(
        self,
        inputs: Any,
        sites: Any,
        metric: Metric,
        batch_size: int | None = None,
        edits: Edit | Sequence[Edit] = (),
    ) -> Activations:
        """Return the derivative of a metric with respect to the activation at each site.

        Parameters
        ----------
        inputs : tensor, tuple, dict or list of str
            What the model takes.
        sites : str or iterable of str
            Names, patterns or indexed names.
        metric : callable
            ``metric(output)`` gives ``(batch,)`` values, whose sum is differentiated, or a scalar.
        batch_size : int, optional
            Samples per call; only for metrics that give one value per sample.
        edits : Edit or sequence of Edit
            Under which the model runs; the derivative at an edited site is that with respect to its edited value.

        Returns
        -------
        Activations
            One gradient per site, shaped like the activation.

        Raises
        ------
        CapabilityError
            The model has no gradients.
        InputError
            The metric is not finite or does not depend on the output.
        """
        self._require("gradient")
        batch = self._prepare(inputs)
        by_site = edits_at_sites(self._expand_edits(edits, batch))
        references = self._expand(sites, batch)
        pieces: list[Activations] = []
        split = batch_size is not None and batch_size < batch.n_samples

        def per_sample(output: Any) -> torch.Tensor:
            value = metric(output)
            if split and isinstance(value, torch.Tensor) and value.ndim == 0:
                raise InputError(
                    "a scalar metric cannot be differentiated batch by batch",
                    expected="a metric that gives (batch,) values, or no batch_size",
                )
            return value

        for part in self._progress(batch, batch_size, "gradients"):
            tensors, dims = self._differentiate(part, by_site, _base_names(references), per_sample)
            pieces.append(_picked(tensors, dims, references))
        return self._joined(pieces, references, batch)

    def prepared(self, inputs: Any, interventions: Sequence[Sequence[Edit]]) -> tuple[Batch, list[list[Edit]]]:
        """Return the inputs as the model takes them, and the edits of each intervention on single sites that exist.

        Raises
        ------
        SiteError, InputError, CapabilityError
            Unknown sites, or what is no edit.
        """
        batch = self._prepare(inputs)
        expanded: dict[str, list[SiteReference]] = {}  # the same few sites are named over and over

        def resolved(edit: Any) -> list[Edit]:
            if not isinstance(edit, Edit):
                return self._expand_edits([edit], batch)  # says what is wrong with it
            name = edit.reference.name
            if name not in expanded:
                self._require("intervene")
                expanded[name] = self._expand(name, batch)
            found = expanded[name]
            if len(found) == 1 and found[0].name == name:
                return [self._ready(edit)]
            places = [SiteReference(one.name, edit.reference.index) for one in found]
            return [self._ready(replace(edit, site=str(place))) for place in places]

        return batch, [[one for edit in edits for one in resolved(edit)] for edits in interventions]

    def run_copies(self, batch: Batch, interventions: Sequence[Sequence[Edit]]) -> Any:
        """Return the output for copies of the samples, each under its own edits, from one call of the model.

        The samples and the edits of each copy come from `prepared`; rows of the output are ordered copy by copy (see
        `neuros_mechint.adapters.copies`).
        """
        return self.observe_copies(batch, interventions, ())[0]

    def observe_copies(
        self, batch: Batch, interventions: Sequence[Sequence[Edit]], capture: Sequence[str]
    ) -> tuple[Any, Tensors]:
        """Return what `run_copies` does, and the tensors at the sites to capture, with their rows in the same order."""
        edits = edits_by_site(interventions, batch.window, batch.n_samples)
        return self._execute(repeated(batch, len(interventions)), edits, capture)[:2]

    def generate(
        self,
        inputs: Any,
        edits: Edit | Sequence[Edit] = (),
        max_new_tokens: int = 20,
        seed: SeedLike = 0,
        **options: Any,
    ) -> torch.Tensor:
        """Continue a sequence under edits, where the kind of model can.

        Raises
        ------
        CapabilityError
            The model does not generate.
        """
        raise self._cannot("generate")

    def _run_part(
        self, part: Batch, edits: Sequence[Edit], references: Sequence[SiteReference]
    ) -> tuple[Any, Activations]:
        output, tensors, dims = self._execute(part, edits_at_sites(edits), _base_names(references))
        return output, _picked(tensors, dims, references)

    def _expand(self, sites: Any, batch: Batch | None) -> list[SiteReference]:
        """Turn names, patterns and references into references to single sites that exist, each once."""
        names = [sites] if isinstance(sites, (str, SiteReference)) else _listed(sites, "sites", "names of sites")
        references = [SiteReference.parse(name) for name in names]
        if not references:
            return []
        table = self._table([reference.name for reference in references], batch)
        found: dict[str, SiteReference] = {}
        for reference in references:
            if "*" in reference.name or "?" in reference.name:
                matches = list(table.select(reference.name))
                if not matches:
                    raise table.unknown(reference.name)
            else:
                matches = [table[reference.name].name]
            for name in matches:
                one = replace(reference, name=name)
                found[str(one)] = one
        return list(found.values())

    def _expand_edits(self, edits: Any, batch: Batch) -> list[Edit]:
        expanded: list[Edit] = []
        for edit in [edits] if isinstance(edits, Edit) else _listed(edits, "edits", "edit objects"):
            if not isinstance(edit, Edit):
                raise InputError(
                    "edits must be edit objects",
                    expected="nm.Zero, Replace, Mean, Resample, Add, Scale, Project, SetComponent, Clamp or Apply",
                    got=type(edit).__name__,
                )
            self._require("intervene")
            expanded += [self._ready(replace(edit, site=str(one))) for one in self._expand(edit.site, batch)]
        return expanded

    def _ready(self, edit: Edit) -> Edit:
        """Return an edit in the form in which it can be applied where the model runs."""
        return edit

    def _progress(self, batch: Batch, batch_size: int | None, description: str) -> Iterable[Batch]:
        check_batch_size(batch_size)
        if batch_size is not None and batch_size < batch.n_samples:
            self._check_splittable()
        parts = list(batch.parts(batch_size))
        return progress_bar(parts, description=description, enabled=len(parts) > 1)

    def _check_splittable(self) -> None:
        """Raise where it is not known which axis of the inputs counts the samples."""
        return

    def _join_outputs(self, outputs: Sequence[Any], sizes: Sequence[int], sample_axis: int) -> Any:
        return join_outputs(outputs, sizes, sample_axis)

    def _joined(self, pieces: Sequence[Activations], references: Sequence[SiteReference], batch: Batch) -> Activations:
        joined = _samples_picked(Activations.concatenate(pieces), references)
        joined = self._labelled(joined.with_attention_mask(batch.attention_mask), batch)
        return joined.with_provenance(Provenance.record(model=self.fingerprint())) if references else joined

    def _labelled(self, activations: Activations, batch: Batch) -> Activations:
        return labelled(activations, lambda name: self._labels(name, batch))

    def _labels(self, name: str, batch: Batch) -> Labels:
        """Return the labels along axes of a whole site, where the model knows them: ``time`` in seconds."""
        return {}

    def _require(self, capability: str) -> None:
        if capability not in self.capabilities:
            raise self._cannot(capability)

    def _cannot(self, capability: str) -> CapabilityError:
        return CapabilityError(
            f"{self!r} does not offer {capability!r} ({CAPABILITIES[capability]})",
            expected=f"a model with {capability!r} among `model.capabilities`",
            got=", ".join(sorted(self.capabilities)),
        )


def _listed(values: Any, name: str, expected: str) -> list[Any]:
    try:
        return list(values)
    except TypeError as error:
        raise InputError(f"{name} are no list", expected=expected, got=repr(values)) from error


def edits_at_sites(edits: Sequence[Edit]) -> dict[str, list[EditFunction]]:
    """Return what edits do, in their order, by the site that each is about."""
    by_site: dict[str, list[EditFunction]] = {}
    for edit in edits:
        by_site.setdefault(edit.reference.name, []).append(edit.apply)
    return by_site


def _base_names(references: Sequence[SiteReference]) -> list[str]:
    return list(dict.fromkeys(reference.name for reference in references))


def _picked(tensors: Tensors, dims: Dims, references: Sequence[SiteReference]) -> Activations:
    """Cut captured tensors down to what each reference selects, of every sample."""
    picked: dict[str, torch.Tensor] = {}
    picked_dims: dict[str, tuple[str, ...]] = {}
    for reference in references:
        tensor, axes = tensors[reference.name], dims[reference.name]
        # samples are picked once all are there; where no axis counts them, the index is refused here
        here = _with_index(reference, lambda axis: axis != "sample") if "sample" in axes else reference
        picked[str(reference)], picked_dims[str(reference)] = _block(here, tensor, axes)
    return Activations(picked, picked_dims)


def _samples_picked(activations: Activations, references: Sequence[SiteReference]) -> Activations:
    """Pick the samples that references ask for: in the order asked for, whatever the batches."""
    by_sample = [reference for reference in references if "sample" in reference.index]
    if not by_sample:
        return activations
    tensors, dims = dict(activations), {name: activations.dims(name) for name in activations}
    for reference in by_sample:
        name = str(reference)
        samples = _with_index(reference, lambda axis: axis == "sample")
        tensors[name], dims[name] = _block(samples, tensors[name], dims[name])
    return Activations(tensors, dims, provenance=activations.provenance)


def _with_index(reference: SiteReference, keep: Callable[[str], bool]) -> SiteReference:
    return replace(reference, index={axis: entry for axis, entry in reference.index.items() if keep(axis)})


def _block(
    reference: SiteReference, tensor: torch.Tensor, axes: tuple[str, ...]
) -> tuple[torch.Tensor, tuple[str, ...]]:
    selection = reference.locate(axes, tensor.shape)
    assert selection is not None  # no axis is seen in pieces here
    return selection.pick(tensor), tuple(selection.sizes)
