"""The 92 object images: pictures, and how human and monkey inferior temporal cortex tell them apart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.datasets.fetch import fetch

_BRAINS = "92_brainRDMs.mat"
_PICTURES = "Kriegeskorte_Neuron2008_supplementalData.mat"
_MODELS = "92_modelRDMs.mat"
_PAIR = ("condition", "other_condition")
_KINDS = ("human", "face", "animal", "natural")


def load_92images(download: bool = True, progress: bool = True) -> xr.Dataset:
    """Return 92 images of objects with the dissimilarities of their responses in human and monkey IT.

    People and monkeys saw the same images: faces, bodies, animals, natural and artificial objects. Dissimilarities are
    one minus the correlation over voxels (human, functional MRI) or over 674 neurons (monkey).

    Parameters
    ----------
    download : bool
        False never touches the network; see `neuros_mechint.datasets.fetch.fetch`, which checks the files' sha256.
    progress : bool
        Show a bar while downloading, 4 MB in all.

    Returns
    -------
    xarray.Dataset
        ``image`` ``(condition, height, width, channel)``, 175 x 175 x 3 bytes on a grey ground; ``human_it``
        ``(subject, session, condition, other_condition)``, 4 subjects in 2 sessions; ``human_it_mean`` and
        ``monkey_it`` ``(condition, other_condition)``; ``reference`` ``(model, condition, other_condition)``, 8 RDMs of
        models from the literature. Along ``condition`` lie ``category`` and whether an image shows something
        ``human``, a ``face``, an ``animal``, something ``natural``.

    Raises
    ------
    StorageError
        If files are not there and cannot be downloaded, or are not the expected ones.

    References
    ----------
    Kriegeskorte et al. 2008, Matching categorical object representations in inferior temporal cortex of man and
    monkey, doi:10.1016/j.neuron.2008.10.043; Kiani et al. 2007, doi:10.1152/jn.00024.2007

    Examples
    --------
    >>> load_92images(download=False)["human_it"].sizes  # doctest: +SKIP
    Frozen({'subject': 4, 'session': 2, 'condition': 92, 'other_condition': 92})
    """
    brains, pictures, models = (_read(fetch(name, download, progress)) for name in (_BRAINS, _PICTURES, _MODELS))
    stimuli, averages, reference = pictures["stimuli_92objs"], pictures["RDMs_mIT_hIT_fig1"], models["Models"]
    sessions = brains["RDMs"]
    monkey, human = (_square(rdm) for rdm in averages["RDM"])
    data = xr.Dataset(
        {
            "image": (("condition", "height", "width", "channel"), np.stack(list(stimuli["image"]))),
            "human_it": (("subject", "session", *_PAIR), _rdms(sessions["RDM"])),
            "human_it_mean": (_PAIR, human),
            "monkey_it": (_PAIR, monkey),
            "reference": (("model", *_PAIR), _rdms(reference["RDM"])),
        },
        coords={
            "subject": [name.split(" | ")[1] for name in sessions["name"][:, 0]],
            "session": [1, 2],
            "model": [str(name) for name in reference["name"]],
            **dict.fromkeys(_PAIR, _numbered([str(name) for name in stimuli["category"]])),
            "category": ("condition", [str(name) for name in stimuli["category"]]),
            **{kind: ("condition", stimuli[kind].astype(bool)) for kind in _KINDS},
        },
    )
    for name in ("human_it", "human_it_mean", "monkey_it", "reference"):
        data[name].attrs = {
            "long_name": "dissimilarity",
            "units": "1 - correlation",
            "dissimilarity_measure": "correlation",
        }
        if name != "reference":  # of models, which no drift reaches
            data[name].attrs["shown_in"] = "random order"
    return data


def _read(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    return loadmat(path, squeeze_me=True)


def _rdms(cells: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return an array of matrices as one array, symmetric to the last bit."""
    stacked = np.stack([np.asarray(rdm, dtype=np.float64) for rdm in cells.ravel()])
    stacked = (stacked + stacked.swapaxes(1, 2)) / 2
    return stacked.reshape(*cells.shape, *stacked.shape[1:])


def _square(pairs: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    from scipy.spatial.distance import squareform

    return squareform(np.asarray(pairs, dtype=np.float64))


def _numbered(categories: list[str]) -> list[str]:
    """Return a name for each image: its category, and which of this category it is."""
    seen: Counter[str] = Counter()
    names: list[str] = []
    for category in categories:
        seen[category] += 1
        names.append(f"{category} {seen[category]}")
    return names
