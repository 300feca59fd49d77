"""What a tracker has measured so far, in memory and in a file from which it can go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.core.errors import StorageError
from neuros_mechint.core.labels import as_numpy
from neuros_mechint.core.result_files import read_dataset, write_dataset

_KIND = "state of a MetaDynamicsTracker"


@dataclass
class State:
    """All that a tracker needs to go on.

    Parameters
    ----------
    seed : int
        What is drawn at a step depends on it and on the step alone.
    values : dict of str to list
        What was measured at each look, by metric.
    steps : list of int
    kernels : list of numpy.ndarray of shape (n_sites, n_pairs)
        Of each look.
    weights : list of torch.Tensor, optional
        Copy of the weights at the last look.
    looking, training : float
        Seconds.
    warnings : list of str

    Examples
    --------
    >>> State.empty(3, ["loss"]).values
    {'loss': []}
    """

    seed: int
    values: dict[str, list[Any]]
    steps: list[int] = field(default_factory=list)
    kernels: list[Any] = field(default_factory=list)
    weights: list[torch.Tensor] | None = None
    looking: float = 0.0
    training: float = 0.0
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls, seed: int, names: Sequence[str]) -> State:
        """Return the state before the first look."""
        return cls(seed, {name: [] for name in names})


def write_state(path: Path, state: State, description: dict[str, Any], seen: int | None) -> Path:
    """Write a state in one step.

    Parameters
    ----------
    path : pathlib.Path
    state : State
    description : dict
        Of the tracker: what must be the same where the state is read.
    seen : int or None
        Last step that the tracker was told of.
    """
    variables: dict[str, Any] = {"step": ("step", np.array(state.steps, np.int64))}
    for name, measured in state.values.items():
        if measured:
            array = np.array(measured, float)
            variables[f"metric {name}"] = (("step", f"of {name}")[: array.ndim], array)
    if state.kernels:
        variables["kernels"] = (("step", "site", "pair"), np.array(state.kernels))
    for index, weight in enumerate(state.weights or []):
        # bfloat16 has no type in NumPy, and fits into float32 as it is
        whole = weight.float() if weight.dtype in (torch.bfloat16, torch.float16) else weight
        variables[f"weight {index}"] = (f"of weight {index}", as_numpy(whole.reshape(-1)))
    metadata = {
        "kind": _KIND,
        "description": description,
        "seed": state.seed,
        "seen": seen,
        "seconds": [state.looking, state.training],
        "warnings": state.warnings,
    }
    write_dataset(path, xr.Dataset(variables), metadata)
    return path


def read_state(path: Path, description: dict[str, Any], weights: Sequence[torch.Tensor]) -> tuple[State, int | None]:
    """Return a state and the last step seen, for a tracker of this description.

    Parameters
    ----------
    path : pathlib.Path
    description : dict
    weights : sequence of torch.Tensor
        The model's: saved ones get their shapes, types and devices.

    Raises
    ------
    StorageError
        The file is missing or damaged, is no state, or is one of another tracker.
    """
    data, metadata = read_dataset(path)
    if metadata.get("kind") != _KIND:
        raise StorageError(f"{path} holds no state of a tracker", expected="a file that its save() wrote")
    saved = metadata["description"]
    other = [name for name in description if saved.get(name) != description[name]]
    if other:
        raise StorageError(
            f"{path} is of another tracker",
            expected=f"the same {' and '.join(other)}",
            got="; ".join(f"{name}: {str(saved.get(name))[:80]}" for name in other),
            fix="make the tracker with the arguments it had when it was saved",
        )
    copies = None
    if "weight 0" in data:
        arrays = [data[f"weight {index}"].values for index in range(len(weights))]
        copies = [torch.from_numpy(a.copy()).view(w.shape).to(w) for a, w in zip(arrays, weights, strict=True)]
    values = {name: _listed(data, f"metric {name}") for name in description["metrics"]}
    looking, training = metadata["seconds"]
    kernels = list(data["kernels"].values) if "kernels" in data else []
    steps = [int(step) for step in data["step"].values]
    return State(
        metadata["seed"], values, steps, kernels, copies, looking, training, list(metadata["warnings"])
    ), metadata["seen"]


def _listed(data: xr.Dataset, name: str) -> list[Any]:
    return list(data[name].values) if name in data else []
