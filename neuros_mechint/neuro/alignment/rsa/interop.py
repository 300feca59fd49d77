"""RDMs of rsatoolbox, to and fro, with their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.alignment.rsa.stack import CONDITION_AXES, rdm_stack, square

_CONDITION, _OTHER_CONDITION = CONDITION_AXES
_LEAD = "rdm"
_MEASURE = "dissimilarity_measure"
_CALLED = "condition_descriptor"
"""Attribute with the name that the conditions' descriptor has in rsatoolbox, where it is another than ours."""

_OF_CONDITIONS = (_CONDITION, "conds", "stimulus")
_OF_RDMS = ("subject", "model")
_INDEX = "index"


def to_rsatoolbox(rdms: Any) -> Any:
    """Return RDMs as rsatoolbox has them, labels included.

    Parameters
    ----------
    rdms : array_like, torch.Tensor, xarray.DataArray or RDMStack
        One RDM or several, see `compare_rdms`. Pairs may be NaN.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Coordinates along the conditions become pattern descriptors, those along the first axis RDM descriptors
        (``name`` where the axis is called ``rdm``), attributes descriptors, and the attribute ``dissimilarity_measure``
        the measure.

    Raises
    ------
    InputError
        As for `compare_rdms`.

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> rdm = nm.compute_rdm(np.eye(3), "euclidean", conditions=["face", "house", "car"])
    >>> toolbox = nm.to_rsatoolbox(rdm)
    >>> toolbox.pattern_descriptors["condition"], toolbox.dissimilarity_measure
    (['face', 'house', 'car'], 'squared euclidean')
    """
    from rsatoolbox.rdm.rdms import RDMs

    stack = rdm_stack(rdms, "rdms", missing="keep")
    of_patterns: dict[str, list[Any]] = {} if stack.conditions is None else {_CONDITION: list(stack.conditions)}
    of_rdms: dict[str, list[Any]] = {} if stack.names is None else {"name": list(stack.names)}
    about: dict[str, Any] = {}
    if isinstance(rdms, xr.DataArray):
        about = dict(rdms.attrs)
        lead = next((str(axis) for axis in rdms.dims if axis not in CONDITION_AXES), None)
        called = str(about.pop(_CALLED, _CONDITION))
        known = {_CONDITION: of_patterns[_CONDITION]} if of_patterns else {}
        known |= _along(rdms, (_CONDITION,))
        of_patterns = _renamed(known, {_CONDITION: called, f"{_CONDITION}_{_INDEX}": _INDEX})
        # of one RDM that was chosen from several, labels are left without an axis
        of_rdms = _renamed(_along(rdms, () if lead is None else (lead,)), {_LEAD: "name", f"{_LEAD}_{_INDEX}": _INDEX})
        about.pop("long_name", None)
    measure = about.pop(_MEASURE, None)
    return RDMs(stack.pairs.copy(), measure, about, of_rdms, of_patterns)


def from_rsatoolbox(rdms: Any) -> xr.DataArray:
    """Return RDMs of rsatoolbox as a labelled array.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs

    Returns
    -------
    xarray.DataArray of shape (n_rdms, n, n)
        Its last axes are ``("condition", "other_condition")``, labelled by the pattern descriptor ``condition``,
        ``conds`` or ``stimulus``, or the only one there is. The first is called ``subject`` or ``model`` where there is
        such an RDM descriptor, otherwise ``rdm``. All other descriptors are coordinates along these axes, or
        attributes; `to_rsatoolbox` makes descriptors of them again.

    Raises
    ------
    InputError
        Anything else, or descriptors of patterns and RDMs that have the same name.

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> from rsatoolbox.rdm import RDMs
    >>> subjects, conditions = {"subject": ["S1", "S2"]}, {"conds": list("abc")}
    >>> two = RDMs(np.ones((2, 3)), rdm_descriptors=subjects, pattern_descriptors=conditions)
    >>> labelled = nm.from_rsatoolbox(two)
    >>> labelled.dims, labelled.condition.values.tolist()
    (('subject', 'condition', 'other_condition'), ['a', 'b', 'c'])
    """
    from rsatoolbox.rdm.rdms import RDMs

    if not isinstance(rdms, RDMs):
        raise InputError("these are no RDMs of rsatoolbox", expected="rsatoolbox.rdm.RDMs", got=type(rdms).__name__)
    of_patterns = _descriptors(rdms.pattern_descriptors, _CONDITION)
    of_rdms = _descriptors(rdms.rdm_descriptors, _LEAD)
    key = next((name for name in _OF_CONDITIONS if name in of_patterns), None)
    named = [name for name in of_patterns if name != f"{_CONDITION}_{_INDEX}"]
    key = key or (named[0] if len(named) == 1 else None)
    lead = next((name for name in _OF_RDMS if name in of_rdms), _LEAD)
    coords = {_CONDITION if name == key else name: (_CONDITION, values) for name, values in of_patterns.items()}
    if key is not None:
        coords[_OTHER_CONDITION] = (_OTHER_CONDITION, of_patterns[key])
    along_rdms = {_LEAD if name == "name" and lead == _LEAD else name: (lead, of_rdms[name]) for name in of_rdms}
    clash = (coords.keys() & along_rdms.keys()) | (along_rdms.keys() & set(CONDITION_AXES))
    if clash:
        raise InputError(
            "descriptors of patterns and of RDMs have the same name",
            expected="a name for each",
            got=", ".join(sorted(clash)),
            fix="rename one of them in rdm_descriptors or pattern_descriptors",
        )
    attrs = {**rdms.descriptors}
    if rdms.dissimilarity_measure is not None:
        attrs[_MEASURE] = rdms.dissimilarity_measure
    if key not in (None, _CONDITION):
        attrs[_CALLED] = key
    values = square(np.asarray(rdms.dissimilarities, dtype=np.float64))
    dims = (lead, *CONDITION_AXES)
    return xr.DataArray(values, dims=dims, coords={**coords, **along_rdms}, attrs=attrs, name="dissimilarity")


def _along(rdms: xr.DataArray, dims: tuple[str, ...]) -> dict[str, list[Any]]:
    """Return the coordinates along an axis, or those that have none, as lists."""
    return {
        str(name): np.atleast_1d(coordinate.values).tolist()
        for name, coordinate in rdms.coords.items()
        if coordinate.dims == dims
    }


def _renamed(values: dict[str, list[Any]], names: dict[str, str]) -> dict[str, list[Any]]:
    return {names.get(name, name): value for name, value in values.items()}


def _descriptors(descriptors: Any, of: str) -> dict[str, list[Any]]:
    """Return descriptors as lists; the running number that rsatoolbox adds to all is kept only where it is another."""
    found = {str(name): np.asarray(values).tolist() for name, values in descriptors.items()}
    index = found.pop(_INDEX, None)
    if index is not None and index != list(range(len(index))):
        found[f"{of}_{_INDEX}"] = index
    return found
