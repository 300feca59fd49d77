"""How well a model does induction, and which of its attention heads look like doing it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.datasets.tasks import repeated_tokens


@torch.no_grad()
def accuracy_by_lag(
    predict: Callable[[torch.Tensor], torch.Tensor],
    lags: Iterable[int],
    n_sequences: int = 256,
    n_tokens: int = 64,
    vocabulary: int = 64,
    seed: SeedLike = 0,
) -> dict[int, float]:
    """Return, per lag, how often the most likely next token is the right one on fresh repeated sequences.

    Only positions count whose token has occurred before. A model that copies from one fixed distance is right
    at a single lag; induction is right at all of them, also at lags it was not trained on.

    Parameters
    ----------
    predict : callable
        Tokens ``(n_sequences, n_tokens)`` to logits ``(n_sequences, n_tokens, vocabulary)``.
    lags : iterable of int
        Periods to test.
    n_sequences, n_tokens, vocabulary : int
        Of the sequences, as in `repeated_tokens`.
    seed : int or numpy.random.Generator
        Source of randomness.

    Returns
    -------
    dict of int to float
        Accuracy at each lag, 0 to 1; guessing gives ``1 / (vocabulary - 1)``.

    Examples
    --------
    >>> def always_the_same_token(tokens):
    ...     return torch.zeros(*tokens.shape, 64)
    >>> accuracy_by_lag(always_the_same_token, [8])
    {8: 0.0}
    """
    random = generator(seed)
    accuracies = {}
    for lag in lags:
        trials = repeated_tokens(n_sequences, n_tokens, vocabulary, lag=lag, seed=random)
        right = predict(trials.inputs).argmax(dim=-1) == trials.targets
        accuracies[lag] = right[trials.mask].double().mean().item()
    return accuracies


def previous_token_score(pattern: torch.Tensor) -> torch.Tensor:
    """Return per head the mean attention that a position pays to the one before it.

    Parameters
    ----------
    pattern : torch.Tensor
        ``(batch, head, query, key)`` attention weights.

    Returns
    -------
    torch.Tensor
        ``(head,)``, 0 to 1.

    Raises
    ------
    InputError
        If ``pattern`` is not square attention in four dimensions.

    Examples
    --------
    >>> pattern = torch.diag(torch.ones(4), -1)[None, None]
    >>> previous_token_score(pattern)
    tensor([1.])
    """
    _check_pattern(pattern)
    return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, 2))


def induction_score(pattern: torch.Tensor, lag: int | np.ndarray | torch.Tensor) -> torch.Tensor:
    """Return per head the mean attention paid to whatever followed earlier occurrences of the present token.

    Parameters
    ----------
    pattern : torch.Tensor
        ``(batch, head, query, key)`` attention weights on sequences of `repeated_tokens`.
    lag : int, numpy.ndarray or torch.Tensor
        Period of the sequences, one for all or ``(batch,)``: ``trials.conditions["lag"]``.

    Returns
    -------
    torch.Tensor
        ``(head,)``, 0 to 1, over the positions whose token has occurred before.

    Raises
    ------
    InputError
        If ``pattern`` is not square attention in four dimensions, ``lag`` does not fit the batch, or no
        position has a token that occurred before.

    References
    ----------
    Olsson et al. 2022, In-context learning and induction heads. doi:10.48550/arXiv.2209.11895

    Examples
    --------
    >>> pattern = torch.diag(torch.ones(8 - 2), -2)[None, None]
    >>> induction_score(pattern, lag=3)
    tensor([1.])
    """
    _check_pattern(pattern)
    batch, _, n_tokens, _ = pattern.shape
    lags = torch.as_tensor(lag, device=pattern.device).reshape(-1)
    if lags.numel() not in (1, batch):
        raise InputError("lag does not fit the pattern", expected=f"1 or {batch} lags", got=lags.numel())
    lags = lags.expand(batch)[:, None, None]
    query = torch.arange(n_tokens, device=pattern.device)[:, None]
    distance = query - query.T
    after_earlier_occurrence = (distance >= 0) & ((distance + 1) % lags == 0) & (query.T > 0)
    occurred_before = (query > lags)[:, :, 0]
    if not occurred_before.any():
        raise InputError("no token occurs twice in these sequences", expected=f"lag < {n_tokens - 1}", got=lag)
    attention = (pattern * after_earlier_occurrence[:, None]).sum(dim=-1)
    return attention.transpose(0, 1)[:, occurred_before].mean(dim=1)


def _check_pattern(pattern: torch.Tensor) -> None:
    if pattern.ndim != 4 or pattern.shape[-1] != pattern.shape[-2]:
        raise InputError(
            "this is no attention pattern",
            expected="shape (batch, head, query, key) with as many queries as keys",
            got=f"shape {tuple(pattern.shape)}",
        )
