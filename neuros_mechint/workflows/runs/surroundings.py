"""What code of others may change for the whole process: kept, and put back."""

from __future__ import annotations

import contextlib
import os
import random
from typing import Any, NamedTuple

import numpy as np
import torch


class Surroundings(NamedTuple):
    """What is the same for all code of a process, whoever changes it.

    Parameters
    ----------
    python, numpy : object
        States of the global random generators.
    processor : torch.Tensor
        That of PyTorch's generator on the CPU.
    floating : torch.dtype
        Of new tensors.
    gradients : bool
        Whether they are recorded.
    folder : str or None
        The working folder; None where it is gone.

    Examples
    --------
    >>> before = Surroundings.now()
    >>> torch.set_default_dtype(torch.float64)
    >>> before.put_back()
    >>> torch.get_default_dtype()
    torch.float32
    """

    python: Any
    numpy: Any
    processor: torch.Tensor
    floating: torch.dtype
    gradients: bool
    folder: str | None

    @classmethod
    def now(cls) -> Surroundings:
        """Return them as they are."""
        folder = None
        with contextlib.suppress(OSError):
            folder = os.getcwd()
        return cls(
            random.getstate(),
            np.random.get_state(),  # noqa: NPY002 - others may draw from it
            torch.random.get_rng_state(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            folder,
        )

    def put_back(self) -> None:
        """Make them again what they were."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002
        torch.random.set_rng_state(self.processor)
        torch.set_default_dtype(self.floating)
        torch.set_grad_enabled(self.gradients)
        if self.folder is not None:
            with contextlib.suppress(OSError):  # removed since
                os.chdir(self.folder)
