"""One netCDF file per `Result`: what HDF5 cannot hold is encoded, and all is checked by hash when read."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.errors import InputError, StorageError
from neuros_mechint.core.fingerprint import fingerprint_array

_FORMAT = "neuros-mechint result"
_VERSION = 1
_METADATA = "neuros_mechint_metadata"
_COMPLEX_DIMENSION = "real_and_imaginary"
_NUMERIC_KINDS = "iuf"


def write_dataset(path: Path, data: xr.Dataset, metadata: Mapping[str, Any]) -> None:
    """Write ``data`` and ``metadata`` (JSON-able) to ``path`` in one step: the file is complete or not there.

    Parameters
    ----------
    path : pathlib.Path
        Its folder is made where needed.
    data : xarray.Dataset
    metadata : mapping

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    variables = {str(name): variable for name, variable in data.variables.items()}
    encoded = {name: _encode(variable) for name, variable in variables.items()}
    description = {
        "format": _FORMAT,
        "version": _VERSION,
        "metadata": dict(metadata),
        "attributes": data.attrs,
        "coordinates": [str(name) for name in data.coords],
        "variables": {name: _describe(variable, encoded[name]) for name, variable in variables.items()},
    }
    # HDF5 attributes end at 64 KiB, so the description is a variable; its hash fits into an attribute.
    text = json.dumps(description)
    encoded[_METADATA] = xr.Variable((), text)
    flat = xr.Dataset(encoded, attrs={"format": _FORMAT, "metadata_hash": _text_hash(text)})
    # HDF5 that meets a full disk takes Python down with it: it writes into memory.
    content = flat.to_netcdf(engine="h5netcdf")
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def read_dataset(path: Path) -> tuple[xr.Dataset, dict[str, Any]]:
    """Read what `write_dataset` wrote.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    data : xarray.Dataset
        In memory; the file is closed.
    metadata : dict

    Raises
    ------
    StorageError
        If the file is missing, is not such a file, comes from a newer version, or was changed.
    """
    if not path.is_file():
        raise StorageError(f"no such file: {path}", fix="pass the path that Result.save returned")
    try:
        flat = xr.load_dataset(path, engine="h5netcdf", decode_cf=False)
    except Exception as error:
        # HDF5 reports damage through many exception types (OSError, RuntimeError, KeyError, ValueError).
        raise _unreadable(path, "HDF5 cannot read it") from error
    if flat.attrs.get("format") != _FORMAT or _METADATA not in flat:
        raise StorageError(
            f"{path} is not a saved result",
            expected="a file written by Result.save",
            got="another netCDF file",
        )
    text = str(flat[_METADATA].item())
    if _text_hash(text) != flat.attrs.get("metadata_hash"):
        raise _unreadable(path, "its metadata changed after it was written")
    description = json.loads(text)
    if description["version"] > _VERSION:
        raise StorageError(f"{path} was written by a newer version", fix="pip install -U neuros-mechint")
    data = xr.Dataset({name: _decode(path, name, flat, d) for name, d in description["variables"].items()})
    data = data.set_coords(description["coordinates"]).assign_attrs(description["attributes"])
    return data, description["metadata"]


def write_atomically(path: Path, write: Any) -> None:
    """Call ``write(temporary path)``, then move the result to ``path``; on failure nothing is left behind.

    Parameters
    ----------
    path : pathlib.Path
        Its folder is made where needed.
    write : callable
        Takes the temporary path, in the same folder.

    Raises
    ------
    StorageError
        If the operating system refuses.

    Examples
    --------
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_atomically(folder / "a.txt", lambda temporary: temporary.write_text("done") and None)
    >>> (folder / "a.txt").read_text()
    'done'
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        # mkstemp makes files only their owner can read; a result is as readable as any file of this user.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}", got=error, fix="check the folder and the free space") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_storable(data: xr.Dataset) -> None:
    """Raise unless every variable of ``data`` can be written.

    Parameters
    ----------
    data : xarray.Dataset

    Raises
    ------
    InputError
        If a name, dtype or attribute cannot be stored.

    Examples
    --------
    >>> check_storable(xr.Dataset({"effect": ("site", [0.5, 1.0])}))
    """
    for name in (*data.variables, *data.sizes):
        text = str(name)
        if not isinstance(name, str) or not text or "/" in text or text != text.strip() or not text.isprintable():
            raise InputError(f"{name!r} cannot name a variable or dimension", expected="printable text without '/'")
    if _METADATA in data.variables or _COMPLEX_DIMENSION in data.sizes:
        raise InputError(f"the names {_METADATA} and {_COMPLEX_DIMENSION} are taken", fix="rename yours")
    for name, index in data.xindexes.items():
        if isinstance(index, xr.indexes.PandasMultiIndex):
            raise InputError(f"{name!r} is a multi-index", fix=f"call data.reset_index({name!r}) first")
    for name, variable in data.variables.items():
        if not _is_storable(variable.values):
            raise InputError(
                f"variable {name!r} cannot be stored",
                expected="numbers, booleans, text, or dates",
                got=f"dtype {variable.dtype}",
            )


def _is_storable(values: np.ndarray) -> bool:
    if values.dtype.kind == "O":
        return all(isinstance(item, str) for item in values.ravel())
    return values.dtype.kind in "biufcUMm" and values.dtype.itemsize <= _widest(values.dtype.kind)


def _widest(kind: str) -> float:
    return {"f": 8, "c": 16}.get(kind, np.inf)


def _encode(variable: xr.Variable) -> xr.Variable:
    values = _native(variable.values)
    kind = values.dtype.kind
    if kind in "UO":
        return xr.Variable(variable.dims, _escape(values), encoding={"dtype": str})
    if kind == "c":
        pair = np.stack([np.real(values), np.imag(values)], axis=-1)
        return xr.Variable((*variable.dims, _COMPLEX_DIMENSION), pair, encoding={"_FillValue": None})
    if kind == "b":
        values = values.astype(np.uint8)
    elif kind in "Mm":
        values = values.view(np.int64)
    return xr.Variable(variable.dims, values, encoding={"_FillValue": None})


def _native(values: np.ndarray) -> np.ndarray:
    """Return the values in this machine's byte order, the only one in which files keep them."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _describe(variable: xr.Variable, encoded: xr.Variable) -> dict[str, Any]:
    return {
        "dims": [str(dimension) for dimension in variable.dims],
        "dtype": _native(variable.values).dtype.str,
        "attributes": variable.attrs,
        "hash": _content_hash(encoded.values),
    }


def _decode(path: Path, name: str, flat: xr.Dataset, description: Mapping[str, Any]) -> xr.Variable:
    values = flat[name].values if name in flat.variables else None
    if values is None or _content_hash(values) != description["hash"]:
        raise _unreadable(path, f"variable {name!r} changed after it was written")
    dtype = np.dtype(description["dtype"])
    if dtype.kind in "UO":
        values = _unescape(values).astype(dtype)
    elif dtype.kind == "c":
        values = np.ascontiguousarray(values).view(dtype)[..., 0]
    elif dtype.kind in "Mm":
        values = values.view(dtype)
    elif dtype.kind not in _NUMERIC_KINDS or values.dtype != dtype:
        values = values.astype(dtype)
    return xr.Variable(description["dims"], values, attrs=description["attributes"])


def _escape(values: np.ndarray) -> np.ndarray:
    """Return text in which no character is beyond what HDF5 strings hold (no NUL, no lone surrogates)."""
    escaped = np.empty(values.shape, dtype=object)
    for index, text in np.ndenumerate(values):
        escaped[index] = json.dumps(str(text))[1:-1]
    return escaped


def _unescape(values: np.ndarray) -> np.ndarray:
    plain = np.empty(values.shape, dtype=object)
    for index, text in np.ndenumerate(values):
        plain[index] = json.loads(f'"{text}"')
    return plain


def _content_hash(values: np.ndarray) -> str:
    # Text comes back as objects or as fixed width, so it is hashed by its characters alone.
    if values.dtype.kind in "UOT":
        return _text_hash(json.dumps([str(item) for item in values.ravel()]))
    return fingerprint_array(values)


def _text_hash(text: str) -> str:
    return fingerprint_array(np.frombuffer(text.encode(), dtype=np.uint8))


def _unreadable(path: Path, reason: str) -> StorageError:
    return StorageError(f"{path} is damaged or is not a saved result", got=reason, fix="restore it from a copy")
