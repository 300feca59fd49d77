"""Runs in which every node but the changed ones sends what it sends in the clean run: direct contributions only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from neuros_mechint.causal.paths.wiring import Node, Receiver, Wiring
from neuros_mechint.core.ablations import Mean
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.edits import Edit, Replace, Zero
from neuros_mechint.core.errors import CapabilityError, InputError, check_option
from neuros_mechint.core.sites import Selection, SiteReference

ABLATIONS = ("resample", "zero", "mean")


@dataclass(frozen=True, eq=False)
class Record(Edit):
    """Leave the activation as it is and keep a copy: what a node would send, before it is held fixed."""

    seen: list[torch.Tensor] = field(default_factory=list[torch.Tensor])

    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        self.seen.append(block.detach().clone())
        return block


@dataclass(frozen=True)
class Received:
    """What arrives in one run.

    Parameters
    ----------
    values : dict of str to torch.Tensor
        By receiver, or by node whose response was asked for.
    output : object
        Of the model.
    stream : torch.Tensor or None
        The last residual stream.
    """

    values: Mapping[str, torch.Tensor]
    output: Any
    stream: torch.Tensor | None


class DirectRuns:
    """Run a model on its clean input with all nodes held at their clean values, except for given changes.

    What then arrives anywhere differs from the clean run by the direct contributions of the changed nodes alone.

    Parameters
    ----------
    model : Adapter
    clean : inputs of the model
    wiring : Wiring
    receivers : sequence of Receiver
        Those to read; the wiring's receivers or some of them.
    batch_size : int, optional
        Samples per call of the model.
    """

    def __init__(
        self, model: Adapter, clean: Any, wiring: Wiring, receivers: Sequence[Receiver], batch_size: int | None
    ) -> None:
        self.model, self.inputs, self.wiring, self.receivers = model, clean, wiring, receivers
        self.batch_size = batch_size
        self.sent = base_names([*wiring.frozen, *(node.site for node in wiring.nodes)])
        stream = [wiring.stream] if wiring.stream else []
        sites = [*self.sent, *base_names([one.site for one in receivers]), *stream]
        self.activations = model.run(clean, capture=sites, batch_size=batch_size).activations
        self._frozen = [Replace(site, self.value(site)) for site in wiring.frozen]
        self._entering = {one.name: one.site for one in receivers if not one.is_response}
        self._reads = base_names(self._entering.values()) + stream

    def reading(self, receivers: Sequence[Receiver]) -> DirectRuns:
        """Return the same runs, of which fewer receivers are read."""
        return DirectRuns(self.model, self.inputs, self.wiring, receivers, self.batch_size)

    def value(self, site: str) -> torch.Tensor:
        """Return the clean value at a site, indexed or not."""
        return block(self.activations, site)[0]

    def dims(self, site: str) -> tuple[str, ...]:
        """Return the axes of the value at a site, indexed or not."""
        return block(self.activations, site)[1]

    def receive(self, changes: Sequence[Edit], respond: Sequence[Node] = ()) -> Received:
        """Return what arrives at the receivers while ``changes`` are made.

        Parameters
        ----------
        changes : sequence of Edit
            Of what nodes send, or of what they receive.
        respond : sequence of Node
            Nodes whose responses are wanted too.
        """
        sites = {one.name: one.site for one in self.receivers if one.is_response}
        sites |= {node.name: node.site for node in respond}
        records = {name: Record(site) for name, site in sites.items()}
        edits = [*records.values(), *self._frozen, *changes]
        run = self.model.run(self.inputs, edits=edits, capture=self._reads, batch_size=self.batch_size)
        values = {name: block(run.activations, site)[0] for name, site in self._entering.items()}
        values |= {name: self._joined(record) for name, record in records.items()}
        stream = run.activations[self.wiring.stream] if self.wiring.stream else None
        return Received(values, run.output, stream)

    def _joined(self, record: Record) -> torch.Tensor:
        if not record.seen:
            raise CapabilityError(
                f"what arrives at {record.site!r} cannot be seen while {self.model!r} runs",
                expected="a model that runs in this process",
            )
        dims = self.dims(record.site)
        return torch.cat(record.seen, dims.index("sample")) if len(record.seen) > 1 else record.seen[0]


def ablation_edits(
    runs: DirectRuns, nodes: Sequence[Node], ablation: str, reference: Activations | None
) -> dict[str, Edit]:
    """Return, for each node, the edit that takes its information away.

    Parameters
    ----------
    runs : DirectRuns
    nodes : sequence of Node
    ablation : {"resample", "zero", "mean"}
        Put the value of the partner input there, nothing, or the mean over samples and positions of ``reference``.
    reference : Activations, optional
        Of the corrupted input; without it means are taken over the clean one.

    Raises
    ------
    OptionError
        Unknown ablation.
    InputError
        ``"resample"`` without a corrupted input, or one that is no partner of the clean input.
    """
    check_option("ablation", ablation, ABLATIONS)
    if ablation == "zero":
        return {node.name: Zero(node.site) for node in nodes}
    if ablation == "mean":
        values = reference if reference is not None else runs.activations
        return {node.name: Mean(node.site, values) for node in nodes}
    if reference is None:
        raise InputError("resampling needs a second input", expected="corrupted inputs, or ablation='zero' or 'mean'")
    for site in runs.sent:
        if reference[site].shape != runs.activations[site].shape:
            raise InputError(
                "clean and corrupted inputs are not partners",
                expected=f"activations of shape {tuple(runs.activations[site].shape)} at {site!r}, as in the clean run",
                got=tuple(reference[site].shape),
                fix="give as many samples, of the same length",
            )
    return {node.name: Replace(node.site, block(reference, node.site)[0]) for node in nodes}


def base_names(sites: Iterable[str]) -> list[str]:
    """Return the names of the whole sites, each once.

    Examples
    --------
    >>> base_names(["blocks.0.z[head=0]", "blocks.0.z[head=1]"])
    ['blocks.0.z']
    """
    return list(dict.fromkeys(SiteReference.parse(site).name for site in sites))


def block(activations: Activations, site: str) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Return the value at an indexed site, and its axes, out of activations that hold the whole site.

    Examples
    --------
    >>> held = Activations({"z": torch.zeros(2, 5, 4, 3)}, {"z": ("sample", "position", "head", "unit")})
    >>> block(held, "z[head=1]")[1]
    ('sample', 'position', 'unit')
    """
    reference = SiteReference.parse(site)
    tensor = activations[reference.name]
    selection = reference.locate(activations.dims(reference.name), tensor.shape)
    assert selection is not None  # a whole tensor is never outside its own window
    return selection.pick(tensor), tuple(selection.sizes)


def sum_per_sample(values: torch.Tensor, dims: Sequence[str], *, keep_samples: bool = True) -> torch.Tensor:
    """Return the sum over all axes but the samples, ``(n_samples,)``, or over all, ``(1,)``, in double precision.

    Raises
    ------
    InputError
        No axis counts the samples.

    Examples
    --------
    >>> sum_per_sample(torch.ones(2, 3), ("sample", "unit"))
    tensor([3., 3.], dtype=torch.float64)
    """
    values = values.double().cpu()
    if not keep_samples:
        return values.sum().reshape(1)
    if "sample" not in dims:
        raise InputError(
            "a receiver's values cannot be told apart by sample",
            expected="a site with an axis 'sample'",
            got=", ".join(dims),
            fix="give a metric that is one number for all samples",
        )
    return values.movedim(list(dims).index("sample"), 0).flatten(1).sum(1)
