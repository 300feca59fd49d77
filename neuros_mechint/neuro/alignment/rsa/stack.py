"""Stacks of RDMs: every form they come in, checked and brought to one vector of pairs each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.joining import label_array
from neuros_mechint.core.labels import as_numpy
from neuros_mechint.core.numbers import as_array
from neuros_mechint.neuro.alignment.samples import Labels, label_order, same_kind

CONDITION_AXES = ("condition", "other_condition")
"""The last two axes of a labelled RDM."""

_FEWEST_CONDITIONS = 3
_SYMMETRIC = 1e-6
"""By how much of its largest entry an RDM may differ from its mirror image: files hold rounded numbers."""


@dataclass(frozen=True)
class RDMStack:
    """Representational dissimilarity matrices as vectors of pairs.

    Parameters
    ----------
    pairs : numpy.ndarray of shape (n_rdms, n_pairs)
        In the order of ``numpy.triu_indices(n_conditions, 1)``, in float64.
    n_conditions : int
    conditions, names : tuple or None
        Labels of the conditions and of the RDMs, where they are known.
    """

    pairs: Floats
    n_conditions: int
    conditions: Labels | None = None
    names: Labels | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def take(self, order: Sequence[int] | npt.NDArray[np.intp]) -> RDMStack:
        """Return the stack with the conditions at these places, in this order.

        Examples
        --------
        >>> rdm_stack([1.0, 2.0, 3.0]).take([2, 1, 0]).pairs.tolist()
        [[3.0, 2.0, 1.0]]
        """
        places = np.asarray(order, dtype=np.intp)
        conditions = None if self.conditions is None else tuple(self.conditions[place] for place in places)
        chosen = vectors(square(self.pairs)[:, places][:, :, places])
        return RDMStack(chosen, len(places), conditions, self.names)


def rdm_stack(rdms: Any, name: str = "rdms", missing: str = "raise") -> RDMStack:
    """Return one RDM or several as a stack.

    Parameters
    ----------
    rdms : array_like, torch.Tensor, xarray.DataArray, rsatoolbox RDMs or RDMStack
        ``(n, n)``, ``(n_pairs,)``, ``(n_rdms, n, n)`` or ``(n_rdms, n_pairs)``; labelled ones end in the axes
        `CONDITION_AXES`. A matrix that is square, symmetric and zero on its diagonal is one RDM.
    name : str
        What to call them in errors.
    missing : {"raise", "keep"}
        What to do about pairs that are NaN: nobody measured them.

    Returns
    -------
    RDMStack

    Raises
    ------
    InputError
        RDMs that are not symmetric, not zero on the diagonal, infinite, of fewer than three conditions, or of a
        number of pairs that no number of conditions has.

    Examples
    --------
    >>> rdm_stack([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]]).pairs.tolist()
    [[1.0, 2.0, 3.0]]
    """
    check_option("missing", missing, ("raise", "keep"))
    if isinstance(rdms, RDMStack):
        stack = rdms
    elif (toolbox := sys.modules.get("rsatoolbox")) is not None and isinstance(rdms, toolbox.rdm.RDMs):
        stack = _from_toolbox(rdms)
    else:
        values, conditions, names = _labels(rdms, name)
        pairs = _as_pairs(values, name)
        stack = RDMStack(pairs, n_conditions(pairs.shape[-1], name), conditions, names)
    _check_pairs(stack, name, missing)
    return stack


def same_conditions(
    first: RDMStack, second: RDMStack, names: tuple[str, str] = ("models", "data")
) -> tuple[RDMStack, RDMStack]:
    """Return two stacks with the conditions of the first, in its order; see `paired` for what is refused.

    Examples
    --------
    >>> one = RDMStack(np.array([[1.0, 2.0, 3.0]]), 3, ("a", "b", "c"))
    >>> same_conditions(one, one.take([2, 1, 0]))[1].pairs.tolist()
    [[1.0, 2.0, 3.0]]
    """
    sizes = (first.n_conditions, second.n_conditions)
    order = label_order(first.conditions, second.conditions, sizes, names)
    return first, second if order is None or order == list(range(len(order))) else second.take(order)


def square(pairs: npt.ArrayLike) -> Floats:
    """Return vectors of pairs ``(..., n_pairs)`` as symmetric matrices ``(..., n, n)`` with zeros on the diagonal.

    Examples
    --------
    >>> square([1.0, 2.0, 3.0]).tolist()
    [[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]]
    """
    values = np.asarray(pairs, dtype=np.float64)
    size = n_conditions(values.shape[-1], "pairs")
    rows, columns = np.triu_indices(size, 1)
    matrix = np.zeros((*values.shape[:-1], size, size))
    matrix[..., rows, columns] = values
    matrix[..., columns, rows] = values
    return matrix


def vectors(matrices: Floats) -> Floats:
    """Return matrices ``(..., n, n)`` as vectors of the pairs above the diagonal ``(..., n_pairs)``.

    Examples
    --------
    >>> vectors(square([1.0, 2.0, 3.0])).tolist()
    [1.0, 2.0, 3.0]
    """
    rows, columns = np.triu_indices(matrices.shape[-1], 1)
    return matrices[..., rows, columns]


def n_conditions(n_pairs: int, name: str) -> int:
    """Return how many conditions have so many pairs.

    Raises
    ------
    InputError
        No number of conditions has.

    Examples
    --------
    >>> n_conditions(4186, "data")
    92
    """
    size = round((1 + (1 + 8 * n_pairs) ** 0.5) / 2)
    if size * (size - 1) // 2 != n_pairs or not n_pairs:
        raise InputError(
            f"{name} holds no vectors of pairs",
            expected="n (n - 1) / 2 pairs of n conditions, or square matrices",
            got=f"{n_pairs} values each",
        )
    return size


def rdm_array(pairs: Floats, conditions: Labels | None = None, names: Labels | None = None, like: Any = None) -> Any:
    """Return pairs as square RDMs: labelled where there are labels, otherwise of the kind of ``like``.

    Parameters
    ----------
    pairs : numpy.ndarray of shape (n_pairs,) or (n_rdms, n_pairs)
    conditions, names : tuple or None
        Labels of the conditions and of the RDMs.
    like : array_like, torch.Tensor, xarray.DataArray or Recording
        What they were computed from; see `same_kind`.

    Examples
    --------
    >>> rdm_array(np.array([1.0, 2.0, 3.0]), ("a", "b", "c")).sel(condition="a", other_condition="c").item()
    2.0
    """
    matrices = same_kind(square(pairs), like)
    if conditions is None:
        return matrices
    lead = ("rdm",) if matrices.ndim == 3 else ()
    coords: dict[str, Any] = {axis: label_array(conditions) for axis in CONDITION_AXES}
    if lead and names is not None:
        coords["rdm"] = list(names)
    values = as_numpy(matrices) if isinstance(matrices, torch.Tensor) else matrices
    return xr.DataArray(values, dims=(*lead, *CONDITION_AXES), coords=coords, name="dissimilarity")


def _labels(rdms: Any, name: str) -> tuple[Floats, Labels | None, Labels | None]:
    """Return values in float64, labels of the conditions, and names of the RDMs."""
    conditions = names = None
    array = rdms
    if isinstance(array, xr.DataArray):
        if not set(CONDITION_AXES) <= set(array.dims) or array.ndim > 3:
            raise InputError(
                f"{name} has no axes of conditions",
                expected=f"(..., {', '.join(CONDITION_AXES)}) with at most one axis before them",
                got=f"axes {tuple(map(str, array.dims))}",
                fix="rename the axes, choose one entry of the others or average over it, or pass .values",
            )
        array = array.transpose(..., *CONDITION_AXES)
        conditions = _condition_labels(array, name)
        lead = array.dims[0] if array.ndim == 3 else None
        names = _names(array[lead].values) if lead is not None and lead in array.coords else None
        array = array.values
    values = as_array(array, name)
    if values.dtype.kind not in "biuf" or not 1 <= values.ndim <= 3:
        raise InputError(
            f"{name} holds no RDMs",
            expected="real numbers: (n, n), (n_pairs,), (n_rdms, n, n) or (n_rdms, n_pairs)",
            got=f"dtype {values.dtype}, shape {values.shape}",
        )
    return values.astype(np.float64), conditions, names


def _names(labels: npt.NDArray[Any]) -> Labels:
    """Return one name for each RDM; of stacked axes (subject and session, say) their labels, joined."""
    return tuple(", ".join(map(str, label)) if isinstance(label, tuple) else label for label in labels.tolist())


def _condition_labels(array: xr.DataArray, name: str) -> Labels | None:
    found = [tuple(array[axis].values.tolist()) if axis in array.coords else None for axis in CONDITION_AXES]
    rows, columns = found[0] or found[1], found[1] or found[0]
    if rows != columns:
        raise InputError(
            f"rows and columns of {name} have different labels",
            expected="the same labels in the same order on both axes",
            got=f"{rows[:3] if rows else None}... and {columns[:3] if columns else None}...",
        )
    return rows


def _as_pairs(values: Floats, name: str) -> Floats:
    if values.ndim == 1 or (values.ndim == 2 and not _is_matrix(values)):
        return np.atleast_2d(values)
    matrices = values if values.ndim == 3 else values[None]
    if matrices.shape[-1] != matrices.shape[-2]:
        raise InputError(f"{name} are not square", expected="(n_rdms, n, n)", got=f"shape {values.shape}")
    diagonal = np.diagonal(matrices, axis1=1, axis2=2)
    if diagonal.any():
        raise InputError(
            f"the diagonal of {name} is not zero",
            expected="0 between a condition and itself",
            got=f"up to {np.abs(diagonal).max():g}",
            fix="pass dissimilarities, such as 1 - correlation, not similarities",
        )
    largest = np.nanmax(np.abs(matrices), initial=0.0)
    mirrored = np.swapaxes(matrices, 1, 2)
    if not np.allclose(matrices, mirrored, rtol=0, atol=_SYMMETRIC * largest, equal_nan=True):
        raise InputError(
            f"{name} are not symmetric",
            expected="the same dissimilarity in both directions",
            got=f"differences up to {np.nanmax(np.abs(matrices - mirrored)):g}",
            fix="average with the transpose, if both directions measure the same",
        )
    return vectors(matrices)


def _is_matrix(values: Floats) -> bool:
    """Return whether a table is one matrix, rather than as many vectors of pairs as these have entries."""
    if values.shape[0] != values.shape[1]:
        return False
    several = values.shape[0] in (3, 6, 10, 15, 21, 28, 36, 45, 55, 66, 78, 91)  # numbers of pairs
    return not several or not np.diagonal(values).any() or np.allclose(values, values.T)


def _check_pairs(stack: RDMStack, name: str, missing: str) -> None:
    if stack.n_conditions < _FEWEST_CONDITIONS:
        raise InputError(
            f"{name} have too few conditions to compare",
            expected=f"at least {_FEWEST_CONDITIONS}",
            got=f"{stack.n_conditions}, which is {stack.pairs.shape[-1]} pair",
        )
    if stack.conditions is not None and len(stack.conditions) != stack.n_conditions:
        raise InputError(
            f"the labels of {name} do not fit", expected=f"{stack.n_conditions} labels", got=len(stack.conditions)
        )
    if np.isinf(stack.pairs).any():
        raise InputError(f"{name} are not finite", got=f"{int(np.isinf(stack.pairs).sum())} infinite pairs")
    absent = np.isnan(stack.pairs)
    if missing == "raise" and absent.any():
        raise InputError(
            f"{name} have pairs that are NaN",
            expected="a dissimilarity for every pair",
            got=f"{int(absent.sum())} of {absent.size} missing, in RDMs {np.flatnonzero(absent.any(1))[:5].tolist()}",
            fix="select the conditions that all of them have",
        )


def _from_toolbox(rdms: Any) -> RDMStack:
    """Return RDMs of rsatoolbox, with the labels that its data sets call ``conds`` or ``index``."""
    descriptors = {key: tuple(np.asarray(values).tolist()) for key, values in rdms.pattern_descriptors.items()}
    key = next((key for key in ("condition", "conds", "stimulus") if key in descriptors), None)
    others = [key for key in descriptors if key != "index"]
    key = key or (others[0] if len(others) == 1 else None)
    return RDMStack(
        np.asarray(rdms.dissimilarities, dtype=np.float64),
        int(rdms.n_cond),
        descriptors[key] if key else None,
        tuple(np.asarray(rdms.rdm_descriptors["name"]).tolist()) if "name" in rdms.rdm_descriptors else None,
    )
