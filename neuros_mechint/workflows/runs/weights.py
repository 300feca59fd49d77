"""Weights of networks: whether they are numbers, and in the folder of a run, as safetensors."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from neuros_mechint.core.errors import StorageError
from neuros_mechint.core.numbers import refuse_not_finite

_WEIGHTS = "weights.safetensors"
Module = TypeVar("Module", bound=nn.Module)


def check_weights(module: Any) -> None:
    """Raise `InputError` where a weight of a module is NaN or infinite: all that is computed with it would be.

    What is no module has no weights to look at.

    Examples
    --------
    >>> check_weights(nn.Linear(2, 3))
    """
    for name, one in module.named_parameters() if isinstance(module, nn.Module) else ():
        refuse_not_finite(one.detach(), f"the weights {name} of the model")


def save_weights(module: nn.Module, folder: Path) -> None:
    """Write the parameters and buffers of a module into a folder.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    values = {name: one.detach().cpu().contiguous().clone() for name, one in module.state_dict().items()}
    try:
        save_file(values, folder / _WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise StorageError(f"cannot write weights into {folder}", got=error, fix="check the free space") from error


def load_weights(module: Module, folder: Path) -> Module:
    """Return a copy of a module with the weights that `save_weights` wrote.

    Raises
    ------
    StorageError
        No such file, or weights of another module.

    Examples
    --------
    >>> import tempfile, torch
    >>> folder = Path(tempfile.mkdtemp())
    >>> layer = nn.Linear(2, 3)
    >>> save_weights(layer, folder)
    >>> torch.equal(load_weights(nn.Linear(2, 3), folder).weight, layer.weight)
    True
    """
    copy = deepcopy(module)
    try:
        copy.load_state_dict(load_file(folder / _WEIGHTS))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise StorageError(f"the weights in {folder} cannot be read", got=str(error).splitlines()[0]) from error
    return copy
