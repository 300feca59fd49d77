"""Metrics: what to measure on a model's output. Each declares the positions it reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from neuros_mechint.adapters.tensors import named_tensors, put
from neuros_mechint.core.adapter import Metric
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.outputs import logits_of

TokenIds = int | torch.Tensor
"""One token for all samples, or one per sample, ``(batch,)``."""


def metric_values(metric: Metric, output: Any) -> torch.Tensor:
    """Return a metric of an output as ``(n_samples,)``, or ``(1,)`` for a scalar, in double precision on the CPU.

    Raises
    ------
    InputError
        The metric has too many axes, or is not finite.

    Examples
    --------
    >>> metric_values(lambda output: output.mean(), torch.ones(2, 3))
    tensor([1.], dtype=torch.float64)
    """
    with torch.no_grad():
        try:
            found = metric(output)
        except Exception as error:
            error.add_note(f"in the metric, which was called with the model's output, a {type(output).__name__}")
            raise
        if found is None or isinstance(found, str) or (isinstance(found, torch.Tensor) and found.is_complex()):
            raise InputError(
                "the metric returned no real number", expected="(batch,) or a scalar", got=repr(found)[:80]
            )
        value = torch.as_tensor(found).detach().double().cpu()
    if value.ndim > 1:
        raise InputError("the metric has too many axes", expected="(batch,) or a scalar", got=tuple(value.shape))
    if not value.numel() or not bool(torch.isfinite(value).all()):
        raise InputError("the metric is not finite", got=str(value.tolist()[:8]) if value.numel() else "no values")
    return value.reshape(-1)


def check_one_per_sample(values: torch.Tensor, n_samples: int) -> None:
    """Raise `InputError` unless a metric gave one value per sample, or one for all.

    Examples
    --------
    >>> check_one_per_sample(torch.zeros(3), 3)
    """
    if values.numel() not in (1, n_samples):
        raise InputError(
            "the metric does not give one value per sample",
            expected=f"({n_samples},) values for {n_samples} samples, or a scalar",
            got=f"{values.numel()} values",
            fix="reduce positions and tokens to one number for each sample",
        )


def check_dependence(metric: Metric, output: Any) -> None:
    """Raise `InputError` where a metric stays the same whatever the output's numbers are.

    Examples
    --------
    >>> check_dependence(lambda output: output.sum(-1), torch.ones(2, 3))
    """
    other = output
    for where, tensor in list(named_tensors(output)):
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0)).to(tensor)
            other = put(other, where, (1 + tensor.abs().mean()) * noise)
    before, after = metric_values(metric, output), metric_values(metric, other)
    if torch.equal(before, after):
        raise InputError(
            "the metric does not depend on the model's output",
            expected="metric(output) computed from the logits, or whatever else the model returns",
            got=f"{before.tolist()[:4]} for quite different outputs",
        )


class PositionMetric(ABC):
    """Base of metrics that read one position of each sample: an engine then computes no other logits.

    A subclass is a frozen dataclass with a field ``position``; its tensors have one entry per sample.
    """

    position: TokenIds

    @abstractmethod
    def read(self, logits: torch.Tensor) -> torch.Tensor:
        """Return ``(batch,)`` values of the logits ``(batch, n_tokens)`` at the position that is read."""

    def __call__(self, output: Any) -> torch.Tensor:
        """Return one value per sample, ``(batch,)``."""
        return self.read(read_position(logits_of(output), self.position))

    def check_reads_tokens(self, attention_mask: torch.Tensor | None) -> None:
        """Raise `InputError` where the position read is padding, by a mask ``(batch, n_positions)``."""
        if attention_mask is None:
            return
        n_samples, length = attention_mask.shape
        read = positions_read(self.position, n_samples, length).to(attention_mask.device)
        n_padded = int((~attention_mask.bool()[torch.arange(n_samples), read]).sum())
        if n_padded:
            raise InputError(
                f"the metric reads padding in {n_padded} of {n_samples} samples",
                expected="a position that holds a token in every sample",
                got=f"position={self.position}",
                fix="for the last token of each: position=attention_mask.sum(1) - 1 where padding is on the right",
            )

    def copies(self, n_copies: int) -> Self:
        """Return the same metric for ``n_copies`` copies of the samples, one after the other."""
        return self._with_tensors(lambda tensor: tensor.repeat(n_copies, *[1] * (tensor.ndim - 1)))

    def rows(self, start: int, stop: int) -> Self:
        """Return the same metric for the samples from ``start`` up to ``stop``."""
        return self._with_tensors(lambda tensor: tensor[start:stop])

    def take(self, samples: Sequence[int]) -> Self:
        """Return the same metric for some of the samples, in this order."""
        return self._with_tensors(lambda tensor: tensor[list(samples)])

    def _with_tensors(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        per_sample = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, torch.Tensor) and value.ndim
        }
        return replace(self, **per_sample) if per_sample else self  # type: ignore[type-var]


@dataclass(frozen=True)
class LogitDifference(PositionMetric):
    """``logit[correct] - logit[wrong]`` at one position; see `logit_difference`."""

    correct: TokenIds
    wrong: TokenIds
    position: TokenIds = -1
    units: str = "logit difference"

    def read(self, logits: torch.Tensor) -> torch.Tensor:
        """Return one value per sample, ``(batch,)``."""
        return _read_token(logits, self.correct) - _read_token(logits, self.wrong)


@dataclass(frozen=True)
class LogProbability(PositionMetric):
    """Log-probability of a token at one position; see `log_probability`."""

    token: TokenIds
    position: TokenIds = -1
    units: str = "log-probability (nats)"

    def read(self, logits: torch.Tensor) -> torch.Tensor:
        """Return one value per sample, ``(batch,)``."""
        return _read_token(logits.log_softmax(-1), self.token)


@dataclass(frozen=True)
class KLDivergence(PositionMetric):
    """Divergence of the output distribution from a reference at one position; see `kl_divergence`."""

    reference: torch.Tensor
    position: TokenIds = -1
    units: str = "KL divergence (nats)"

    def read(self, logits: torch.Tensor) -> torch.Tensor:
        """Return one value per sample, ``(batch,)``."""
        now = logits.log_softmax(-1)
        then = self.reference.to(now).log_softmax(-1)
        if then.shape != now.shape:
            raise InputError(
                "the reference has another shape than the output",
                expected=tuple(now.shape),
                got=tuple(then.shape),
            )
        return (then.exp() * (then - now)).sum(-1)


def logit_difference(correct: TokenIds, wrong: TokenIds, position: TokenIds = -1) -> LogitDifference:
    """Return the metric ``logit[correct] - logit[wrong]``.

    It is linear in the logits, so that effects of parts of a model add up, and it ignores what raises all logits
    alike.

    Parameters
    ----------
    correct, wrong : int or torch.Tensor of shape (batch,)
        Token ids.
    position : int or torch.Tensor of shape (batch,)
        Where the answer is read; one position for all samples or one for each.

    Returns
    -------
    LogitDifference
        ``metric(output) -> (batch,)``; reads only ``position``.

    References
    ----------
    Wang et al. 2022, Interpretability in the Wild, doi:10.48550/arXiv.2211.00593

    Examples
    --------
    >>> metric = logit_difference(correct=1, wrong=0)
    >>> metric(torch.tensor([[[0.0, 0.0], [1.0, 3.0]]]))
    tensor([2.])
    """
    return LogitDifference(correct, wrong, position)


def log_probability(token: TokenIds, position: TokenIds = -1) -> LogProbability:
    """Return the metric ``log p(token)`` in nats.

    Parameters
    ----------
    token : int or torch.Tensor of shape (batch,)
        Token ids.
    position : int or torch.Tensor of shape (batch,)
        Where it is read.

    Returns
    -------
    LogProbability
        ``metric(output) -> (batch,)``; reads only ``position``.

    Examples
    --------
    >>> log_probability(0)(torch.zeros(1, 1, 4)).exp()
    tensor([0.2500])
    """
    return LogProbability(token, position)


def kl_divergence(reference: Any, position: TokenIds = -1) -> KLDivergence:
    """Return the metric ``KL(reference || output)`` in nats, between next-token distributions.

    Parameters
    ----------
    reference : output of a model, or torch.Tensor of shape (batch, n_tokens)
        Run it is compared with (the clean run, usually), or its logits at ``position``.
    position : int or torch.Tensor of shape (batch,)
        Where it is read.

    Returns
    -------
    KLDivergence
        ``metric(output) -> (batch,)``; reads only ``position``.

    Examples
    --------
    >>> logits = torch.randn(2, 3, 5)
    >>> kl_divergence(logits)(logits).abs().max() < 1e-6
    tensor(True)
    """
    logits = logits_of(reference).detach()
    return KLDivergence(read_position(logits, position) if logits.ndim == 3 else logits, position)


def read_position(logits: torch.Tensor, position: TokenIds) -> torch.Tensor:
    """Return ``logits[sample, position[sample]]``, shape ``(batch, n_tokens)``.

    Raises
    ------
    InputError
        Not three axes, or a position out of range.
    """
    if logits.ndim != 3:
        raise InputError(
            "this metric reads a position",
            expected="logits (batch, position, n_tokens)",
            got=tuple(logits.shape),
        )
    n_samples, length = logits.shape[:2]
    positions = positions_read(position, n_samples, length).to(logits.device)
    return logits[torch.arange(n_samples, device=logits.device), positions]


def positions_read(position: TokenIds, n_samples: int, length: int) -> torch.Tensor:
    """Return the position that is read of each sample, counted from the start, ``(n_samples,)``.

    Raises
    ------
    InputError
        A position out of range.

    Examples
    --------
    >>> positions_read(-1, n_samples=2, length=5)
    tensor([4, 4])
    """
    positions = _per_sample("position", position, n_samples)
    if bool(((positions < -length) | (positions >= length)).any()):
        raise InputError(
            "position out of range", expected=f"between {-length} and {length - 1}", got=positions.tolist()
        )
    return positions % length


def _read_token(values: torch.Tensor, token: TokenIds) -> torch.Tensor:
    n_samples, n_tokens = values.shape
    tokens = _per_sample("token", token, n_samples).to(values.device)
    if bool(((tokens < 0) | (tokens >= n_tokens)).any()):
        raise InputError("token out of range", expected=f"between 0 and {n_tokens - 1}", got=tokens.tolist())
    return values.gather(-1, tokens[:, None])[:, 0]


def _per_sample(name: str, value: TokenIds, n_samples: int) -> torch.Tensor:
    tensor = torch.as_tensor(value)
    if tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise InputError(f"{name} must be whole numbers", expected="an int or an integer tensor", got=tensor.dtype)
    if tensor.ndim == 0:
        return tensor.expand(n_samples)
    if tensor.shape != (n_samples,):
        raise InputError(
            f"{name} does not match the samples",
            expected=f"one number or shape ({n_samples},)",
            got=tuple(tensor.shape),
        )
    return tensor
