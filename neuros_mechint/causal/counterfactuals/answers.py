"""The answer that a hypothesis predicts, and how it is read from a model's output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.outputs import logits_of

Read = Callable[[Any], torch.Tensor]
"""``read(output)`` gives the logits of the answer, ``(n_samples, n_classes)``."""


@dataclass(frozen=True, eq=False)
class Answers:
    """The class expected of each sample, and where the output shows its logits.

    Parameters
    ----------
    expected : torch.Tensor of shape (n_samples,)
    read : callable
        ``read(output)`` gives ``(n_samples, n_classes)`` logits.

    Examples
    --------
    >>> Answers.of([1, 0]).is_right(torch.tensor([[0.0, 2.0], [0.0, 2.0]]))
    tensor([1., 0.])
    """

    expected: torch.Tensor
    read: Read

    @classmethod
    def of(cls, expected: Any, read: Read | None = None) -> Answers:
        """Check the classes.

        Raises
        ------
        InputError
            No whole numbers of shape (n_samples,).
        """
        tensor = torch.as_tensor(np.asarray(expected) if not isinstance(expected, torch.Tensor) else expected).detach()
        whole = not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool
        if tensor.ndim != 1 or not tensor.numel() or not whole or bool((tensor < 0).any()):
            raise InputError(
                "counterfactual answers must be classes",
                expected="whole numbers from 0, one per sample, (n_samples,)",
                got=f"{tensor.dtype} of shape {tuple(tensor.shape)}",
            )
        return cls(tensor.long(), read_last if read is None else read)

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.expected.numel()

    def rows(self, start: int, stop: int) -> Answers:
        """Return the answers of the samples from ``start`` up to ``stop``."""
        return Answers(self.expected[start:stop], self.read)

    def is_right(self, output: Any) -> torch.Tensor:
        """Return 1 where the largest logit is that of the expected class and else 0, ``(n_samples,)``."""
        logits, expected = self._logits(output)
        return (logits.argmax(-1) == expected).to(logits.dtype)

    def loss(self, output: Any) -> torch.Tensor:
        """Return the cross-entropy of each sample in nats, ``(n_samples,)``."""
        logits, expected = self._logits(output)
        return torch.nn.functional.cross_entropy(logits, expected, reduction="none")

    def chance(self) -> float:
        """Return how often the most frequent class is expected: what ignoring all inputs can reach."""
        return float(self.expected.bincount().max() / len(self))

    def _logits(self, output: Any) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.read(output)
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or logits.shape[0] != len(self):
            raise InputError(
                "no class can be read from this output",
                expected=f"logits ({len(self)}, n_classes)",
                got=tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__,
                fix="give read=..., a function of the output that returns them, and one answer per sample",
            )
        if int(self.expected.max()) >= logits.shape[1]:
            raise InputError(
                "a counterfactual answer is no class of the output",
                expected=f"from 0 to {logits.shape[1] - 1}",
                got=int(self.expected.max()),
            )
        return logits, self.expected.to(logits.device)


def read_last(output: Any) -> torch.Tensor:
    """Return the logits of a model's output, at the last position where they have positions.

    Examples
    --------
    >>> read_last(torch.zeros(2, 5, 7)).shape
    torch.Size([2, 7])
    """
    logits = logits_of(output)
    return logits[:, -1] if logits.ndim == 3 else logits
