"""Metrics: what to measure on a model's output. Each declares the positions it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from neuros_mechint.core.adapter import Metric
from neuros_mechint.core.errors import InputError

TokenIds = int | torch.Tensor
"""One token for all samples, or one per sample, ``(batch,)``."""


def logits_of(output: Any) -> torch.Tensor:
    """Return the logits in a model's output: the tensor itself, its ``logits`` field, or the first item of a tuple.

    Raises
    ------
    InputError
        The output holds none.

    Examples
    --------
    >>> logits_of({"logits": torch.zeros(1, 2, 3)}).shape
    torch.Size([1, 2, 3])
    """
    if isinstance(output, torch.Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, torch.Tensor):
        return logits
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], torch.Tensor):
        return output[0]
    raise InputError(
        "the model's output holds no logits",
        expected="a tensor, an output with a `logits` field, or a tuple that starts with the logits",
        got=type(output).__name__,
        fix="write the metric as a function of the output you have",
    )


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
        value = torch.as_tensor(metric(output)).detach().double().cpu()
    if value.ndim > 1:
        raise InputError("the metric has too many axes", expected="(batch,) or a scalar", got=tuple(value.shape))
    if not bool(torch.isfinite(value).all()):
        raise InputError("the metric is not finite", got=str(value.tolist()[:8]))
    return value.reshape(-1)


@dataclass(frozen=True)
class LogitDifference:
    """``logit[correct] - logit[wrong]`` at one position; see `logit_difference`."""

    correct: TokenIds
    wrong: TokenIds
    position: TokenIds = -1
    units: str = "logit difference"

    def __call__(self, output: Any) -> torch.Tensor:
        """Return one value per sample, ``(batch,)``."""
        logits = read_position(logits_of(output), self.position)
        return _read_token(logits, self.correct) - _read_token(logits, self.wrong)


@dataclass(frozen=True)
class LogProbability:
    """Log-probability of a token at one position; see `log_probability`."""

    token: TokenIds
    position: TokenIds = -1
    units: str = "log-probability (nats)"

    def __call__(self, output: Any) -> torch.Tensor:
        """Return one value per sample, ``(batch,)``."""
        logits = read_position(logits_of(output), self.position)
        return _read_token(logits.log_softmax(-1), self.token)


@dataclass(frozen=True)
class KLDivergence:
    """Divergence of the output distribution from a reference at one position; see `kl_divergence`."""

    reference: torch.Tensor
    position: TokenIds = -1
    units: str = "KL divergence (nats)"

    def __call__(self, output: Any) -> torch.Tensor:
        """Return one value per sample, ``(batch,)``."""
        now = read_position(logits_of(output), self.position).log_softmax(-1)
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
    positions = _per_sample("position", position, n_samples).to(logits.device)
    if bool(((positions < -length) | (positions >= length)).any()):
        raise InputError(
            "position out of range", expected=f"between {-length} and {length - 1}", got=positions.tolist()
        )
    return logits[torch.arange(n_samples, device=logits.device), positions]


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
