"""Checks on token ids, before an embedding fails on them far from the cause."""

from __future__ import annotations

import torch

from neuros_mechint.core.errors import InputError


def check_token_ids(name: str, ids: torch.Tensor, vocabulary: int | None) -> None:
    """Raise `InputError` unless ``ids`` are integers ``(batch, position)`` within the vocabulary.

    Examples
    --------
    >>> check_token_ids("input_ids", torch.tensor([[3, 900]]), vocabulary=100)
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.InputError: input_ids are outside the vocabulary
      expected: 0 ... 99
      got:      3 ... 900
    """
    if ids.dtype not in (torch.int64, torch.int32):
        raise InputError(
            f"{name} must be token ids",
            expected="an integer tensor (batch, position)",
            got=f"{str(ids.dtype).removeprefix('torch.')} {tuple(ids.shape)}",
            fix="give token ids, or strings to a model with a tokenizer",
        )
    if ids.ndim != 2:
        raise InputError(
            f"{name} must have two axes",
            expected="(batch, position)",
            got=tuple(ids.shape),
            fix="unsqueeze a batch axis",
        )
    if vocabulary is not None and not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
        raise InputError(
            f"{name} are outside the vocabulary",
            expected=f"0 ... {vocabulary - 1}",
            got=f"{int(ids.min())} ... {int(ids.max())}",
        )
