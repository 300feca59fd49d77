"""What a unit answers to stimuli put at one place of a model, and its gradient there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from neuros_mechint.adapters.base import BaseAdapter
from neuros_mechint.adapters.batches import Batch
from neuros_mechint.adapters.copies import repeated
from neuros_mechint.causal.attribution.place import INPUT, SiteFunction, Unit, find_place
from neuros_mechint.causal.interventions import check_differentiable
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.edits import Edit, Replace
from neuros_mechint.core.errors import CapabilityError, InputError, SiteError, check_option
from neuros_mechint.core.sites import SiteReference

EMBEDDING = "embed"
_ROWS_PER_CALL = 256
_SAME = 1e-3


class Response:
    """The activation of a unit as a function of the stimulus at a place; what lies elsewhere stays as in one sample.

    Parameters
    ----------
    model : Adapter
    site : str
        The unit, with an index of every axis but the samples unless ``reduce`` says what to do with the rest.
    like : inputs of the model
        One sample.
    at : str, optional
        Place of the stimulus; the input of the model by default, or the embedding of tokens.
    reduce : {None, "mean"}
        Average over what the index leaves.

    Raises
    ------
    InputError
        Several samples; several units and nothing that says what to do with them.
    SiteError
        Unknown site, or several.
    CapabilityError
        A model without edits or gradients.
    """

    def __init__(self, model: Any, site: str, like: Any, at: str | None, reduce: str | None) -> None:
        check_option("reduce", reduce, (None, "mean"))
        self.model, self.reduce = _differentiable(model), reduce
        self.batch, _ = self.model.prepared(like, ())
        if self.batch.n_samples != 1:
            raise InputError(
                "several samples to take what is not optimised from",
                expected="one sample: all stimuli are put into copies of it",
                got=f"{self.batch.n_samples} samples",
                fix="pass like=inputs[:1]",
            )
        self.takes_tokens = not next(_tensors(self.batch)).is_floating_point()
        self.place = find_place(self.model, like, _single(at or (EMBEDDING if self.takes_tokens else INPUT)))
        captured = self.model.capture(like, _single(site))
        assert isinstance(captured, Activations)
        (self.site,) = captured
        self._check_one_unit(captured)
        self.sample_axis = captured.dims(self.site).index("sample")

    def function(self, n_stimuli: int) -> tuple[SiteFunction, Mean]:
        """Return the response as a differentiable function of so many stimuli, and what reads its values."""
        unit = Mean(self.site, self.sample_axis)
        return SiteFunction(self.model, self._copies(n_stimuli), self.place, unit), unit

    def gradient(self, stimuli: torch.Tensor) -> torch.Tensor:
        """Return the gradient of each response with respect to its stimulus."""
        return self.function(len(stimuli))[0].gradient(stimuli)

    def values(self, stimuli: torch.Tensor) -> torch.Tensor:
        """Return the activations, ``(n_stimuli,)``, in double precision on the CPU."""
        found: list[torch.Tensor] = []
        for rows in stimuli.split(_ROWS_PER_CALL):
            edit = Replace(self.place.name, self.place.native(rows))
            run = self.model.observe(self._copies(len(rows)), edits=[edit], capture=self.site)
            found.append(self._of(run.activations))
        return torch.cat(found)

    def to_inputs(self, inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the activations that inputs of the model give, ``(n_samples,)``, and what they put at the place.

        Raises
        ------
        InputError
            Inputs that are not finite, or of another shape than the stimulus.
        """
        n_samples = self.model.prepared(inputs, ())[0].n_samples
        batch_size = _ROWS_PER_CALL if n_samples > _ROWS_PER_CALL else None
        captured = self.model.capture(inputs, [self.site, self.place.name], batch_size=batch_size)
        assert isinstance(captured, Activations)
        placed = captured[self.place.name].movedim(self.place.sample_axis, 0)
        if placed.shape[1:] != self.place.values.shape[1:]:
            raise InputError(
                "the examples are of another shape than the stimulus",
                expected=f"{tuple(self.place.values.shape[1:])} per sample at {self.place.name!r}",
                got=tuple(placed.shape[1:]),
                fix="cut them to one size, and take `like` from them",
            )
        return self._of(captured), placed

    def tokens_and_embeddings(self) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the token ids of the sample, ``(1, n_positions)``, and the whole activation where stimuli are put."""
        name = SiteReference.parse(self.place.name).name
        captured = self.model.capture(self._copies(1), name)
        values = next(iter(captured.values()))
        tokens = (one for one in _tensors(self.batch) if one.shape == values.shape[:-1] and not one.is_floating_point())
        return next(tokens, None), values

    def check_each_alone(self, stimuli: torch.Tensor, values: torch.Tensor) -> None:
        """Raise where a stimulus drives the unit differently when it is by itself."""
        alone = self.values(stimuli[:1])
        if not torch.allclose(alone, values[:1], rtol=_SAME, atol=_SAME * float(values.abs().max())):
            raise CapabilityError(
                "a stimulus gives another response by itself than in a batch",
                expected="a model without randomness that treats each sample by itself",
                got=f"{float(alone):.6g} alone, {float(values[0]):.6g} in a batch",
            )

    def _of(self, activations: Activations) -> torch.Tensor:
        return _means(activations[self.site], self.sample_axis).detach().double().cpu()

    def _copies(self, n_stimuli: int) -> Any:
        copies = repeated(self.batch, n_stimuli)
        return dict(copies.kwargs) if copies.kwargs else copies.args

    def _check_one_unit(self, captured: Activations) -> None:
        sizes = dict(zip(captured.dims(self.site), captured[self.site].shape, strict=True))
        if "sample" not in sizes:
            raise SiteError(f"{self.site!r} is not per sample", expected="an axis 'sample'", got=", ".join(sizes))
        left = [f"{axis}={size}" for axis, size in sizes.items() if axis != "sample"]
        if left and self.reduce is None:
            indexed = ", ".join(f"{axis.split('=')[0]}=0" for axis in left)
            reference = SiteReference.parse(self.site)
            raise InputError(
                f"{self.site!r} is not one unit",
                expected="an index of every axis but the samples, or reduce='mean'",
                got=f"left over: {', '.join(left)}",
                fix=f"for instance {reference.name}[{indexed}]" if not reference.index else f"add {indexed}",
            )


class Mean(Unit):
    """The average over the picked part of a site: of one unit, itself.

    Parameters
    ----------
    target : str
        Site, maybe with an index.
    sample_axis : int
        Which axis of the picked part counts the samples.
    """

    def __init__(self, target: str, sample_axis: int) -> None:
        super().__init__(target)
        self.sample_axis = sample_axis
        self.values: torch.Tensor | None = None
        self._pieces: list[torch.Tensor] = []

    @property
    def edits(self) -> list[Edit]:
        """What a run needs for the average to be read from it."""
        self._pieces = []
        return super().edits

    def _see(self, values: torch.Tensor) -> torch.Tensor:
        # states come one time step at a time
        self._pieces.append(values.movedim(self.sample_axis, 0).reshape(values.shape[self.sample_axis], -1))
        self._seen = _means(torch.cat(self._pieces, 1), 0)
        self.values = self._seen.detach()
        return values


def _means(values: torch.Tensor, sample_axis: int) -> torch.Tensor:
    rows = values.movedim(sample_axis, 0)
    return rows.reshape(len(rows), -1).mean(1)


def _differentiable(model: Any) -> BaseAdapter:
    check_differentiable(model)
    if not isinstance(model, BaseAdapter):
        raise CapabilityError(f"{model!r} cannot be run on copies of a sample", expected="an adapter on BaseAdapter")
    return model


def _single(site: str) -> str:
    reference = SiteReference.parse(site)
    if "*" in reference.name or "?" in reference.name:
        raise SiteError("a pattern names several sites", expected="one site", got=site)
    if "sample" in reference.index:
        raise SiteError("an index of samples", expected="one sample, given as `like`", got=site)
    return str(reference)


def _tensors(batch: Batch) -> Any:
    values: Sequence[Any] = (*batch.args, *batch.kwargs.values())
    return (value for value in values if isinstance(value, torch.Tensor))
