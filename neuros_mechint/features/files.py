"""Autoencoders on disk, in the folder that SAELens reads and writes, with the checksums of its files beside them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from neuros_mechint.core.errors import StorageError
from neuros_mechint.core.json_text import parse_json

_CHECKSUMS = "checksums.json"


def write_folder(sae: Any, target: Path) -> None:
    """Write a SAELens autoencoder file by file, each in one step, the checksums last.

    Raises
    ------
    StorageError
        The files could not be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as draft:
            sae.save_model(draft)
            written = sorted(Path(draft).iterdir())
            checksums = Path(draft) / _CHECKSUMS
            checksums.write_text(json.dumps({path.name: _checksum(path) for path in written}), encoding="utf-8")
            target.mkdir(exist_ok=True)
            for path in (*written, checksums):
                path.replace(target / path.name)
    except OSError as error:
        raise StorageError(f"could not write {target}: {error}", fix="check the path and the space") from error


def read_folder(folder: Path) -> Any:
    """Open a folder written by `write_folder` or by SAELens.

    Raises
    ------
    StorageError
        Missing or damaged, or files that were not saved together.
    """
    from sae_lens import SAE

    if not folder.is_dir():
        raise StorageError(f"there is no folder {folder}", fix="give the folder that was saved to")
    changed = _changed_files(folder)
    if changed:
        raise StorageError(
            f"{', '.join(changed)} in {folder} changed after it was saved",
            expected="the files of one save, whole",
            fix=f"save again; if the change was meant, delete {_CHECKSUMS}",
        )
    try:
        return SAE.load_from_disk(folder, device="cpu")
    except Exception as error:  # whatever a damaged file makes of json, safetensors and SAELens
        raise StorageError(
            f"no autoencoder could be read from {folder}: {error}",
            expected="a folder with cfg.json and sae_weights.safetensors",
            fix="save it again",
        ) from error


def _changed_files(folder: Path) -> list[str]:
    """Return which files are not those whose checksums were written, which only folders of ours have."""
    record = folder / _CHECKSUMS
    if not record.exists():
        return []
    try:
        known = parse_json(record.read_text(encoding="utf-8"))
        return [name for name, checksum in known.items() if _checksum(folder / name) != checksum]
    except (OSError, ValueError, AttributeError):
        return [_CHECKSUMS]


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
