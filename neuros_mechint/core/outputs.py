"""What models return: where the logits are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from neuros_mechint.core.errors import InputError


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
