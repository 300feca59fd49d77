"""What a tracker has measured so far, in memory and in a file from which it can go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import StorageError
from neuros_mechint.core.labels import as_numpy
from neuros_mechint.core.result_files import read_dataset, write_dataset
from neuros_mechint.training.continuation import weight_sample
from neuros_mechint.training.metrics import SIMILARITY

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
    sample : numpy.ndarray of shape (n_sampled,), optional
        Some of the weights when this was saved, until training goes on: see `weight_sample`.

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
    sample: Floats | None = None

    @classmethod
    def empty(cls, seed: int, names: Sequence[str]) -> State:
        """Return the state before the first look."""
        return cls(seed, {name: [] for name in names})


def write_state(
    path: Path, state: State, description: dict[str, Any], seen: int | None, weights: Sequence[torch.Tensor]
) -> Path:
    """Write a state in one step.

    Parameters
    ----------
    path : pathlib.Path
    state : State
    description : dict
        Of the tracker: what must be the same where the state is read.
    seen : int or None
        Last step that the tracker was told of.
    weights : sequence of torch.Tensor
        The model's, as they are now.
    """
    variables: dict[str, Any] = {"step": ("step", np.array(state.steps, np.int64))}
    variables["sample"] = ("of the weights", weight_sample(weights))
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
    if not path.is_file():
        raise StorageError(f"no such file: {path}", fix="pass the path that the tracker's save() returned")
    data, metadata = read_dataset(path)
    if metadata.get("kind") != _KIND:
        raise StorageError(f"{path} holds no state of a tracker", expected="a file that its save() wrote")
    try:
        _refuse_other(path, dict(metadata["description"]), description)
        return _state_of(data, metadata, description["metrics"], weights)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise StorageError(
            f"{path} holds no complete state of a tracker", expected="a file as save() wrote it", got=str(error)[:80]
        ) from error


def _refuse_other(path: Path, saved: dict[str, Any], description: dict[str, Any]) -> None:
    other = [name for name in description if saved.get(name) != description[name]]
    if other:
        raise StorageError(
            f"{path} is of another tracker",
            expected=f"the same {' and '.join(other)}",
            got="; ".join(f"{name}: {_told(saved.get(name), description[name])}" for name in other),
            fix="make the tracker with the arguments it had when it was saved",
        )


def changed_names(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the names under which two mappings differ, in order.

    Examples
    --------
    >>> changed_names({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4})
    ['b', 'c']
    """
    missing = object()
    return sorted(name for name in one.keys() | other.keys() if one.get(name, missing) != other.get(name, missing))


def _told(saved: Any, own: Any) -> str:
    """Return what is other in a file: of mappings, the first names."""
    if isinstance(saved, dict) and isinstance(own, dict):
        return "changes at " + ", ".join(changed_names(saved, own)[:5])
    return str(saved)[:80]


def _state_of(
    data: xr.Dataset, metadata: dict[str, Any], names: Sequence[str], weights: Sequence[torch.Tensor]
) -> tuple[State, int | None]:
    """Return the state in a file, and the last step seen."""
    copies = None
    if "weight 0" in data:
        arrays = [data[f"weight {index}"].values for index in range(len(weights))]
        copies = [torch.from_numpy(a.copy()).view(w.shape).to(w) for a, w in zip(arrays, weights, strict=True)]
    looking, training = map(float, metadata["seconds"])
    steps, seen = [int(step) for step in data["step"].values], metadata["seen"]
    values = {name: [] for name in names}
    if steps:
        values |= {name: list(data[f"metric {name}"].values) for name in names if name != SIMILARITY}
    kernels = list(data["kernels"].values) if steps and SIMILARITY in names else []
    told, sample = list(metadata["warnings"]), data["sample"].values
    return (
        State(int(metadata["seed"]), values, steps, kernels, copies, looking, training, told, sample),
        None if seen is None else int(seen),
    )
