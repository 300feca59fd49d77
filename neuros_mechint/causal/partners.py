"""Clean and corrupted inputs: whether they are partners, and whether they differ in what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from neuros_mechint.adapters.base import BaseAdapter
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.errors import InputError

_SMALLEST_RELATIVE_DIFFERENCE = 1e-4


def check_partners(model: Adapter, clean: Any, corrupted: Any) -> None:
    """Raise `InputError` unless the inputs have the same shapes and the same padding."""
    plain = isinstance(clean, torch.Tensor) and isinstance(corrupted, torch.Tensor)
    if not isinstance(model, BaseAdapter) or (plain and clean.shape == corrupted.shape):
        return
    ours, theirs = (model.prepared(inputs, ())[0] for inputs in (clean, corrupted))
    if ours.shapes() != theirs.shapes():
        raise InputError(
            "clean and corrupted inputs are not partners",
            expected=f"inputs of shape {_shapes_text(ours.shapes())}, as in the clean run",
            got=_shapes_text(theirs.shapes()),
            fix="give as many samples, of the same length",
        )
    masks = [batch.kwargs.get("attention_mask") for batch in (ours, theirs)]
    if masks[0] is not None and not torch.equal(torch.as_tensor(masks[0]), torch.as_tensor(masks[1])):
        raise InputError(
            "clean and corrupted inputs are padded differently, so that their answers stand at different positions",
            fix="pair inputs of the same number of tokens",
        )


def difference_between(clean: float, corrupted: float) -> float:
    """Return ``clean - corrupted``, by which effects are normalized.

    Raises
    ------
    InputError
        The two hardly differ, so that fractions of their difference would be noise.

    Examples
    --------
    >>> difference_between(3.0, 1.0)
    2.0
    """
    difference = clean - corrupted
    if difference == 0 or abs(difference) <= _SMALLEST_RELATIVE_DIFFERENCE * max(abs(clean), abs(corrupted)):
        raise InputError(
            "clean and corrupted hardly differ in the metric, so effects cannot be normalized",
            expected="a clear difference between the two baselines",
            got=f"clean {clean:.6g}, corrupted {corrupted:.6g}",
            fix="choose a corruption that changes the answer, or read `.values`",
        )
    return difference


def difference_warnings(clean: torch.Tensor, corrupted: torch.Tensor) -> tuple[str, ...]:
    """Warn where the two runs differ less than their differences vary: fractions of that difference are noise.

    Examples
    --------
    >>> difference_warnings(torch.tensor([1.0, 1.1, 0.9]), torch.zeros(3))
    ()
    """
    if clean.shape != corrupted.shape or clean.numel() < 2:
        return ()
    paired = clean - corrupted
    mean, error = float(paired.mean()), float(paired.std() / paired.numel() ** 0.5)
    if abs(mean) >= 2 * error and mean != 0:
        return ()
    return (
        f"the two runs differ by {mean:.3g} with a standard error of {error:.3g} over {paired.numel()} samples: "
        "this corruption hardly changes the metric, and normalized effects are not to be trusted",
    )


def _shapes_text(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name}: {shape}" for name, shape in shapes.items())
