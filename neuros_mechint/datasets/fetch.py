"""Public data by name and checksum: from a folder of yours, from the cache, or over the network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neuros_mechint.core.errors import StorageError, check_option

DATA_VARIABLE = "NEUROS_MECHINT_DATA"
"""Environment variable with a folder that is searched first; a file lies in it as ``folder/name``."""


@dataclass(frozen=True)
class DataFile:
    """Where a public file is found and how it is known to be the right one.

    Parameters
    ----------
    folder : str
        Folder of the data set, below the data folder and below the cache.
    url : str
        Address of one fixed version.
    sha256 : str
        Checksum of the content.
    description : str
        What the file holds, and from which paper.

    Examples
    --------
    >>> data_files()["92_brainRDMs.mat"].folder
    '92images'
    """

    folder: str
    url: str
    sha256: str
    description: str


_RSATOOLBOX = (
    "https://raw.githubusercontent.com/rsagroup/rsatoolbox/f1f83cadb7243492a1aae7460466e0f0140b20ac/demos/92imageData/"
)
_FILES: Mapping[str, DataFile] = {
    "92_brainRDMs.mat": DataFile(
        "92images",
        _RSATOOLBOX + "92_brainRDMs.mat",
        "1743f90a15e895798a94318649e80e1123a7e5943a1703fa1dd7c31ea5780b7c",
        "RDMs (92 x 92) of human inferior temporal cortex, 4 subjects x 2 sessions. Kriegeskorte et al. 2008,"
        " doi:10.1016/j.neuron.2008.10.043",
    ),
    "Kriegeskorte_Neuron2008_supplementalData.mat": DataFile(
        "92images",
        _RSATOOLBOX + "Kriegeskorte_Neuron2008_supplementalData.mat",
        "06f21214399a5d43dc264eed19a7f4b8daf11c8622a59eec3e106064ce5e3504",
        "The 92 images (175 x 175 x 3), their categories, and mean RDMs of human and monkey inferior temporal"
        " cortex. Kriegeskorte et al. 2008, doi:10.1016/j.neuron.2008.10.043; Kiani et al. 2007,"
        " doi:10.1152/jn.00024.2007",
    ),
    "92_modelRDMs.mat": DataFile(
        "92images",
        _RSATOOLBOX + "92_modelRDMs.mat",
        "e1d2b58bb2f9508bc13da4c81b94d1ab07823b25ed30b9563bd9d6d730c2a00a",
        "8 reference model RDMs: animacy, V1, HMAX and others. Kriegeskorte et al. 2008,"
        " doi:10.1016/j.neuron.2008.10.043",
    ),
}


def data_files() -> dict[str, DataFile]:
    """Return the files that `fetch` knows, by name.

    Returns
    -------
    dict of str to DataFile

    Examples
    --------
    >>> "92_modelRDMs.mat" in data_files()
    True
    """
    return dict(_FILES)


def fetch(name: str, download: bool = True, progress: bool = True) -> Path:
    """Return the path of a public data file, after its checksum was found right.

    Looked for in the folder that the environment variable ``NEUROS_MECHINT_DATA`` names, then in the cache of
    this user, then downloaded into the cache.

    Parameters
    ----------
    name : str
        One of `data_files`.
    download : bool
        False never touches the network.
    progress : bool
        Show a bar while downloading.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    OptionError
        If the name is unknown.
    StorageError
        If the file is not there and cannot be downloaded, or its content is not the expected one.

    Examples
    --------
    >>> fetch("92_brainRDM.mat")
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.OptionError: unknown name '92_brainRDM.mat'
    ...
    """
    check_option("name", name, _FILES)
    entry = _FILES[name]
    local = os.environ.get(DATA_VARIABLE)
    if local and (path := Path(local) / entry.folder / name).is_file():
        return _checked(path, entry)
    import pooch

    cache = Path(pooch.os_cache("neuros-mechint")) / entry.folder
    if (cache / name).is_file():
        return _checked(cache / name, entry)
    advice = f"put the file into a folder {entry.folder} and name the folder above it in {DATA_VARIABLE}"
    if not download:
        raise StorageError(f"{name} is not on this machine", got=f"nothing at {cache / name}", fix=advice)
    try:
        return Path(pooch.retrieve(entry.url, f"sha256:{entry.sha256}", name, cache, progressbar=progress))
    # Errors of the connection are OSErrors; a wrong checksum is a ValueError.
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{name} could not be downloaded from {entry.url}",
            expected=f"a file with sha256 {entry.sha256}",
            got=error,
            fix=f"try again, or {advice}",
        ) from error


def _checked(path: Path, entry: DataFile) -> Path:
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    if checksum != entry.sha256:
        raise StorageError(
            f"{path} is not the expected file",
            expected=f"sha256 {entry.sha256}",
            got=checksum,
            fix=f"delete it and fetch again; the original is at {entry.url}",
        )
    return path
