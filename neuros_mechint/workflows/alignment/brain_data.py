"""What a model is compared with: a recording or the dissimilarities of several subjects, and what was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.core.errors import InputError, StorageError
from neuros_mechint.core.recordings.frames import is_frame, labelled_frame
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.datasets.images92 import load_92images
from neuros_mechint.neuro.alignment.rsa.rdm import compute_rdm
from neuros_mechint.neuro.alignment.rsa.stack import CONDITION_AXES, rdm_array, rdm_stack
from neuros_mechint.neuro.alignment.samples import SAMPLE_AXES, samples
from neuros_mechint.workflows.alignment.measures import other_rdm, without_means
from neuros_mechint.workflows.alignment.order import shown_at_random
from neuros_mechint.workflows.alignment.tables import SEPARATORS, read_archive, read_table, table_of
from neuros_mechint.workflows.runs.identity import identity
from neuros_mechint.workflows.runs.sources import EMBEDDED, FOLDER, OBJECT, Given, Source, open_array, opened, read_from

IMAGES92 = "92images"
"""Name of the recording that can be downloaded, see `load_92images`."""

FEWEST_STIMULI = 8
"""So many give 28 pairs: of fewer, similarities of dissimilarities are noise."""

_SIDE, _MEAN, _SD = 224, 0.498, 0.502
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
_REPEATED = "repetition"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_READ = ".csv, .tsv, .npy or .npz (stimuli, units), .nc (a DataArray that xarray wrote), .nwb"
_NAME_AXES = (
    "say which axis holds stimuli, which repetitions (or time) and which units, by names such as ('repetition', "
    "'stimulus', 'unit'): in Python nm.Recording(array, names); as a file xarray.DataArray(array, None, names), saved "
    "by .to_netcdf('responses.nc', engine='h5netcdf')"
)


@dataclass(frozen=True)
class BrainData:
    """A recording as the comparison needs it.

    Parameters
    ----------
    rdms : numpy.ndarray of shape (n_rdms, n, n), or xarray.DataArray with labels
        Dissimilarities, one matrix for each subject, each repetition, or one.
    counted : {"subject", "repetition", "recording"}
        What the matrices are of.
    responses : numpy.ndarray of shape (n_stimuli, n_units), xarray.DataArray or None
        Means over repetitions and time; None where there are only dissimilarities.
    series : Recording or None
        The recording, where it has an axis of time.
    told : str
        In words.
    shown_at_random : bool
        Whether stimuli were shown in random order, whatever order they have here.
    centred : bool
        Whether dissimilarities are correlation distances of units without their means over stimuli, because the
        recording came without them, see `neuros_mechint.workflows.alignment.measures.without_means`.
    other : BrainData or None
        The same by the other one of correlation and euclidean distance, where there are responses that have it.
    """

    rdms: Any
    counted: str
    responses: Any
    series: Recording | None
    told: str
    shown_at_random: bool = False
    centred: bool = False
    other: BrainData | None = None

    @property
    def n_stimuli(self) -> int:
        """How many stimuli were shown."""
        return int(self.rdms.shape[-1])

    @property
    def labels(self) -> tuple[Any, ...] | None:
        """Of the stimuli, where they are known."""
        return rdm_stack(self.rdms).conditions


def open_recording(given: Any) -> Given[Any]:
    """Open what was recorded.

    Parameters
    ----------
    given : Recording, xarray.DataArray, pandas.DataFrame, array_like, str or pathlib.Path
        Responses ``(stimulus, unit)``, and maybe ``repetition``, ``time``; or dissimilarities ``(subject, n, n)``. The
        index of a DataFrame names the stimuli. Text is ``"92images"``, or the path of a ``.nc`` file that xarray wrote
        from a DataArray, of a ``.csv``, ``.tsv``, ``.npy`` or ``.npz`` file (see
        `neuros_mechint.workflows.alignment.tables`), or of an NWB file, whose trials need a column ``stimulus``.

    Returns
    -------
    Given

    Raises
    ------
    StorageError
        No such file, or none that can be read.

    Examples
    --------
    >>> open_recording(Recording([[1.0], [2.0]], ("stimulus", "unit"))).source.name
    'Recording'
    """
    if isinstance(given, Given):
        return given
    if isinstance(given, str) and given == IMAGES92:
        rdms = load_92images()["human_it"].mean("session", keep_attrs=True)
        return opened(rdms, EMBEDDED, IMAGES92)
    if isinstance(given, xr.DataArray):
        return opened(given, OBJECT, "DataArray")
    if is_frame(given):
        return opened(table_of(given), OBJECT, "DataFrame")
    if not isinstance(given, (str, Path)):
        return open_array(given)
    path = Path(given)
    if not path.is_file():
        raise StorageError(f"there is no file {path}", expected=f"{IMAGES92!r}, or a file: {_READ}")
    kind = path.suffix.lower()
    if kind == ".npy":
        return open_array(path)
    if kind == ".nwb":
        return read_from(path, Recording.from_nwb(path))
    read = read_table if kind in SEPARATORS else read_archive if kind == ".npz" else _labelled_file
    return read_from(path, read(path))


def open_stimuli(given: Any) -> Given[Any]:
    """Open what was shown, as the model takes it.

    Parameters
    ----------
    given : array_like, torch.Tensor, xarray.DataArray, pandas.DataFrame, sequence of str, str or pathlib.Path
        One entry for each stimulus; labels of the first axis of a DataArray, or the index of a DataFrame, join them to
        a recording. Text is
        ``"92images"``, the path of a ``.npy`` or ``.nc`` file, or a folder of pictures, which are labelled by their
        names without ending, resized to 224 x 224, and scaled as most networks expect: ``(x - .498) / .502`` of values
        from 0 to 1, ``(stimulus, channel, height, width)``.

    Returns
    -------
    Given

    Raises
    ------
    StorageError
        No such file or folder, or no pictures in it.
    """
    if isinstance(given, Given):
        return given
    if isinstance(given, xr.DataArray):
        return opened(given, OBJECT, "DataArray")
    if is_frame(given):
        return opened(labelled_frame(given, ("stimulus", "feature")), OBJECT, "DataFrame")
    if isinstance(given, (list, tuple)) and given and all(isinstance(one, str) for one in given):
        return opened(list(given), OBJECT, f"{len(given)} texts")
    if not isinstance(given, (str, Path)):
        return open_array(given)
    if str(given) == IMAGES92:
        images = load_92images()["image"]
        return Given(_pictures(images), Source(EMBEDDED, IMAGES92, identity(images)))
    path = Path(given)
    if path.is_dir():
        return opened(_pictures(_folder(path)), FOLDER, str(path.resolve()))
    if path.suffix == ".nc" and path.is_file():
        return read_from(path, _labelled_file(path))
    return open_array(path)


def stimuli_as_taken(
    stimuli: Any, labels: Sequence[Any] | None, precision: torch.dtype | None = None
) -> tuple[Any, tuple[Any, ...] | None]:
    """Return stimuli as the model takes them, and their labels.

    Parameters
    ----------
    stimuli : array_like, torch.Tensor, xarray.DataArray or sequence of str
    labels : sequence or None
    precision : torch.dtype or None
        Of the model, see `neuros_mechint.workflows.runs.sources.precision_of`: real numbers are cast to it. Without it
        arrays become single precision.

    Raises
    ------
    InputError
        Labels twice, or not one for each stimulus.

    Examples
    --------
    >>> stimuli_as_taken(np.zeros((2, 3)), ["a", "b"])[1]
    ('a', 'b')
    """
    own = None
    if isinstance(stimuli, xr.DataArray):
        first = stimuli.dims[0]
        own = tuple(stimuli[first].values.tolist()) if first in stimuli.coords else None
        stimuli = stimuli.values
    if own is not None and labels is not None and own != tuple(labels):
        raise InputError("these stimuli have labels of their own", expected="no labels=", got=f"{list(own[:3])} ...")
    own = own if labels is None else tuple(labels)
    if own is not None and len(own) != len(stimuli):
        raise InputError("not every stimulus has a label", expected=f"{len(stimuli)} labels", got=len(own))
    if isinstance(stimuli, np.ndarray):
        stimuli = torch.from_numpy(np.array(stimuli))  # arrays of files cannot be written to, and torch warns of it
        precision = precision or torch.float32
    if precision is not None and isinstance(stimuli, torch.Tensor) and stimuli.is_floating_point():
        stimuli = stimuli.to(precision)
    return stimuli, own


def brain_data(recorded: Any, region: str | None, rdm: str) -> BrainData:
    """Return a recording, or dissimilarities, as the comparison needs them.

    Parameters
    ----------
    recorded : Recording, xarray.DataArray or array_like
        See `open_recording`.
    region : str or None
        Which region, where the recording has several.
    rdm : str
        How patterns become dissimilarities, see `neuros_mechint.compute_rdm`.

    Raises
    ------
    InputError
        Several regions and none chosen, fewer than 8 stimuli, axes that belong to nothing, values that are missing.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> recording = Recording(random.normal(size=(3, 10, 5)), ("repetition", "stimulus", "unit"))
    >>> data = brain_data(recording, None, "euclidean")
    >>> data.counted, data.rdms.shape, data.responses.shape
    ('repetition', (3, 10, 10), (10, 5))
    """
    found = _of_rdms(recorded) if _is_rdms(recorded) else _by_both(_as_recording(recorded), region, rdm)
    if found.n_stimuli < FEWEST_STIMULI:
        raise InputError(
            "there are too few stimuli to compare dissimilarities",
            expected=f"at least {FEWEST_STIMULI}, better 50",
            got=found.n_stimuli,
        )
    return found


def _is_rdms(recorded: Any) -> bool:
    if isinstance(recorded, Recording):
        return False
    if isinstance(recorded, xr.DataArray):
        return set(CONDITION_AXES) <= set(recorded.dims)
    values = np.asarray(recorded)
    square = values.ndim in (2, 3) and values.shape[-1] == values.shape[-2]
    return bool(square and not np.diagonal(values, axis1=-2, axis2=-1).any())


def _of_rdms(recorded: Any) -> BrainData:
    stack = rdm_stack(recorded, "the recorded dissimilarities")
    rdms = rdm_array(stack.pairs, stack.conditions, stack.names)
    counted = "subject" if len(stack) > 1 else "recording"
    if isinstance(recorded, xr.DataArray) and recorded.ndim == 3 and _REPEATED in recorded.dims:
        counted = _REPEATED
    told = f"dissimilarities of {stack.n_conditions} stimuli in {len(stack)} {_plural(counted, len(stack))}"
    return BrainData(rdms, counted, None, None, told, shown_at_random(getattr(recorded, "attrs", {})))


def _as_recording(recorded: Any) -> Recording:
    if isinstance(recorded, Recording):
        return recorded
    if isinstance(recorded, xr.DataArray):
        return Recording(recorded)
    if np.ndim(recorded) > 2:
        raise InputError(
            "nothing says what the axes of this array are",
            expected="responses (stimulus, unit); or axes with names; or dissimilarities (subject, n, n)",
            got=f"shape {np.shape(recorded)}",
            fix=_NAME_AXES,
        )
    return Recording(samples(recorded, "the recording").values, ("stimulus", "unit"))


def _by_both(recording: Recording, region: str | None, rdm: str) -> BrainData:
    found = _of_responses(recording, region, rdm)
    try:
        return replace(found, other=_of_responses(recording, region, other_rdm(rdm)))
    except InputError:  # one unit has no correlation distance
        return found


def _of_responses(recording: Recording, region: str | None, rdm: str) -> BrainData:
    recording = _one_region(recording, region)
    told = [f"{recording.data.sizes['unit']} units" + (f" of {region}" if region else "")]
    series = recording if "time" in recording.data.dims else None
    static = recording if series is None else recording.average("time")
    if "trial" in static.data.dims:
        static = static.repetitions() if _evenly_repeated(static) else static.average(by="stimulus")
    mean = static.average(_REPEATED) if _REPEATED in static.data.dims else static
    axis = next((name for name in SAMPLE_AXES if name in mean.dims), mean.dims[0])
    responses = mean.data.drop_vars("time", errors="ignore").transpose(axis, ...)
    centred = rdm == "correlation" and without_means(responses)
    if centred:  # of selected stimuli a little may be left of means that were taken out
        static, mean = (_without(one, responses.mean(axis)) for one in (static, mean))
    counted, members = _members(static, mean)
    rdms = [compute_rdm(one.data.drop_vars("time", errors="ignore"), method=rdm) for one in members.values()]
    if isinstance(rdms[0], xr.DataArray):
        stacked: Any = xr.concat(rdms, dim=xr.Variable(counted, list(members)), coords="minimal", compat="override")
    else:
        stacked = np.stack([np.asarray(one) for one in rdms])
    told.append(f"{stacked.shape[-1]} stimuli")
    told += [f"{len(members)} {_plural(counted, len(members))}"] if counted != "recording" else []
    at_random = shown_at_random(recording.data.attrs)
    return BrainData(stacked, counted, responses, series, ", ".join(told), at_random, centred)


def _without(recording: Recording, means: xr.DataArray) -> Recording:
    """Return a recording less a number for each unit."""
    return Recording((recording.data - means).assign_attrs(recording.data.attrs))


def _one_region(recording: Recording, region: str | None) -> Recording:
    names = [name for name in recording.regions if name]
    if region is not None:
        return recording.select(region=region)
    if len(names) > 1:
        raise InputError(
            "the recording has several regions, and their units make one geometry only within each",
            expected="region=, one of " + ", ".join(map(str, names)),
            fix="run it for each region; in Python, nm.layer_region_map scores all layers against all regions",
        )
    return recording


def _evenly_repeated(recording: Recording) -> bool:
    shown = recording.data.coords.get("stimulus")
    if shown is None:
        raise InputError(
            "nothing says which trial showed which stimulus",
            expected="a coordinate 'stimulus' along the trials",
            got=", ".join(map(str, recording.data.coords)) or "no coordinates",
        )
    counts = np.unique(shown.values, return_counts=True)[1]
    return bool((counts == counts[0]).all() and counts[0] > 1)


def _members(static: Recording, mean: Recording) -> tuple[str, dict[str, Recording]]:
    """Return what has a matrix of its own: subjects, or else repetitions, or else the whole."""
    subjects = mean.data.coords.get("subject")
    names = [] if subjects is None or subjects.dims != ("unit",) else list(dict.fromkeys(subjects.values.tolist()))
    if len(names) > 1:
        return "subject", {str(name): mean.select(subject=name) for name in names}
    if _REPEATED in static.data.dims and static.data.sizes[_REPEATED] > 1:
        each = range(static.data.sizes[_REPEATED])
        return _REPEATED, {str(one): Recording(static.data.isel({_REPEATED: one}, drop=True)) for one in each}
    return "recording", {"0": mean}


def _labelled_file(path: Path) -> xr.DataArray:
    with path.open("rb") as file:
        is_hdf5 = file.read(len(_HDF5)) == _HDF5
    if not is_hdf5:
        raise StorageError(
            f"{path} is of a kind that is not read",
            expected=_READ,
            fix="load it in Python, and pass the array to align, or save it by numpy.save('responses.npy', array)",
        )
    try:
        return xr.load_dataarray(path, engine="h5netcdf")
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(
            f"{path} cannot be read",
            expected="one DataArray, written by .to_netcdf(path, engine='h5netcdf')",
            got=error,
        ) from error


def _folder(path: Path) -> xr.DataArray:
    from PIL import Image, UnidentifiedImageError

    files = sorted(one for one in path.iterdir() if one.suffix.lower() in _PICTURES)
    if not files:
        raise StorageError(f"there are no pictures in {path}", expected="files such as " + ", ".join(_PICTURES[:3]))
    pictures = []
    for file in files:
        try:
            with Image.open(file) as picture:
                pictures.append(np.asarray(picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)))
        except (UnidentifiedImageError, OSError) as error:
            raise StorageError(f"{file} is no picture", got=str(error)[:100]) from error
    names = [file.stem for file in files]
    return xr.DataArray(np.stack(pictures), {"stimulus": names}, ("stimulus", "height", "width", "channel"))


def _pictures(images: xr.DataArray) -> xr.DataArray:
    """Return images of bytes as networks take them."""
    values = torch.tensor(images.values).permute(0, 3, 1, 2).float() / 255
    resized = torch.nn.functional.interpolate(
        values, (_SIDE, _SIDE), mode="bicubic", antialias=True, align_corners=False
    )
    scaled = (resized.clamp(0, 1) - _MEAN) / _SD
    labels = {"stimulus": images[images.dims[0]].values}
    return xr.DataArray(scaled.numpy(), labels, ("stimulus", "channel", "height", "width"))


def _plural(noun: str, number: int) -> str:
    return noun if number == 1 else f"{noun}s"
