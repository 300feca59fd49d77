"""What makes one recording from another: selecting, averaging, laying out repetitions, joining sessions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import xarray as xr

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.recordings.groups import average, query_labels, repetitions
from neuros_mechint.core.recordings.joining import concatenate
from neuros_mechint.core.recordings.labels import check_recording, select_labels


class RecordingVerbs:
    """Base of `Recording`: its array, its provenance, and the verbs that return another recording."""

    _data: xr.DataArray
    _provenance: Provenance

    @classmethod
    def _from_labelled(cls, array: xr.DataArray, provenance: Provenance, allow_missing: bool = True) -> Self:
        """Return a recording around an array that is ours already, without copying it."""
        recording = cls.__new__(cls)
        recording._data = check_recording(array, allow_missing)
        recording._provenance = provenance
        return recording

    def _made(self, array: xr.DataArray, key: str, *steps: str) -> Self:
        """Return a recording made from this one, with the steps added to its provenance."""
        before = self._provenance.arguments
        arguments = {**before, key: [*before.get(key, ()), *steps]}
        return self._from_labelled(array, dataclasses.replace(self._provenance, arguments=arguments))

    def select(self, **labels: Any) -> Self:
        """Return the part with the given labels.

        Parameters
        ----------
        **labels
            For any axis or coordinate along one: a label, a list of labels, or a slice of labels with both
            ends included, as in xarray. A single label drops its axis where it names one entry, except for
            ``unit``; other coordinates keep every match. Where an axis has no labels, positions count, and a
            slice leaves out its end.

        Returns
        -------
        Recording
            Along an axis whose labels are unique, in the order of the list: ``select(stimulus=labels)`` puts the
            stimuli in the order of a model's inputs.

        Raises
        ------
        InputError
            If there is no such coordinate or label, or nothing is left.

        Examples
        --------
        >>> import numpy as np, neuros_mechint as nm
        >>> recording = nm.Recording(np.eye(3), ("stimulus", "unit"), {"stimulus": ["face", "house", "face"]})
        >>> recording.select(stimulus="face").shape
        (2, 3)
        """
        array = self._data
        for name, label in labels.items():
            array = select_labels(array, name, label)
        return self._made(array, "selected", *(f"{name}={label!r}" for name, label in labels.items()))

    def query(self, condition: str) -> Self:
        """Return the part whose labels fulfil a condition.

        Parameters
        ----------
        condition : str
            Comparisons of coordinates with numbers, text or lists, joined by ``and``, ``or``, ``not``: ``"region ==
            'V1' and depth > 0.5"``. Parts joined by ``and`` may be about different axes, each about one. It is parsed,
            never run as code.

        Returns
        -------
        Recording
            With all its axes.

        Raises
        ------
        InputError
            A condition that cannot be read, names no coordinate, is about several axes at once, or leaves nothing.

        Examples
        --------
        >>> import numpy as np, neuros_mechint as nm
        >>> labels = {"stimulus": ["face", "car"], "depth": ("unit", [0.1, 0.6, 0.9])}
        >>> recording = nm.Recording(np.zeros((2, 3)), ("stimulus", "unit"), labels)
        >>> recording.query("depth > 0.5 and stimulus in ['face', 'house']").shape
        (1, 2)
        """
        return self._made(query_labels(self._data, condition), "selected", condition)

    def average(self, axis: str | None = None, by: str | None = None) -> Self:
        """Return means over an axis, or over those of its entries that share a label.

        Missing values (NaN) are left out of a mean; it is missing where all are. Means of spike counts are numbers of
        spikes too, so that the unit of measure stays; what was averaged stands in the attribute ``cell_methods``.

        Parameters
        ----------
        axis : str, optional
            Which axis; ``by`` implies it. Not ``unit``.
        by : str, optional
            A coordinate along it: there is one mean for each of its labels, in order of appearance, and it names the
            new axis. Other coordinates stay where they are the same within each mean; ``n_averaged`` counts what
            went into each.

        Returns
        -------
        Recording

        Raises
        ------
        InputError
            There is no such axis or coordinate, or they do not belong together.

        Examples
        --------
        >>> import numpy as np, neuros_mechint as nm
        >>> shown = {"stimulus": ("trial", ["face", "car", "face"])}
        >>> trials = nm.Recording([[1], [5], [2]], ("trial", "unit"), shown, unit_of_measure="spikes")
        >>> trials.average(by="stimulus")
        <Recording: 2 stimulus x 1 unit, mean spikes>
        >>> trials.average("trial", by="stimulus").matrix().tolist()
        [[1.5], [5.0]]
        """
        step = ", ".join(f"{name}={value!r}" for name, value in (("axis", axis), ("by", by)) if value is not None)
        return self._made(average(self._data, axis, by), "derived", f"average({step})")

    def repetitions(self, by: str = "stimulus", allow_missing: bool = False) -> Self:
        """Return the trials of each stimulus as repetitions, ``(repetition, stimulus, ..., unit)``.

        Parameters
        ----------
        by : str
            A coordinate along the axis of trials; its labels become an axis, in order of appearance, and their first,
            second, ... trial the first, second, ... repetition.
        allow_missing : bool
            Where some were repeated less often than others, fill up with NaN.

        Returns
        -------
        Recording
            Coordinates of the trials stay where they are the same for all trials of a stimulus.

        Raises
        ------
        InputError
            There is no such coordinate, an axis ``repetition`` already, or numbers of repetitions differ.

        Examples
        --------
        >>> import numpy as np, neuros_mechint as nm
        >>> shown = {"stimulus": ("trial", ["face", "car", "car", "face"])}
        >>> nm.Recording([[1], [5], [6], [2]], ("trial", "unit"), shown).repetitions().tensor()[..., 0]
        tensor([[1, 5],
                [2, 6]])
        """
        array = repetitions(self._data, by, allow_missing)
        return self._made(array, "derived", f"repetitions(by={by!r}, allow_missing={allow_missing})")

    @classmethod
    def concatenate(cls, recordings: Mapping[str, Self] | Sequence[Self], along: str = "unit") -> Self:
        """Return several recordings as one, such as sessions with other units and the same stimuli.

        Along ``along`` they are put one after the other. Along all other axes they are joined by label: the same
        labels, in any order. Times have to be the same; the i-th repetition of one session is put beside the i-th of
        the others, although they were not recorded together: noise is not shared across sessions.

        Parameters
        ----------
        recordings : mapping of str to Recording, or sequence of Recording
            The names in a mapping become the coordinate ``session``.
        along : str
            The axis that grows.

        Returns
        -------
        Recording
            Attributes and coordinates of other axes stay where all agree.

        Raises
        ------
        InputError
            Nothing to concatenate; other axes, units of measure, times or numbers of repetitions; labels that are
            missing on one side, repeated, or absent.

        Examples
        --------
        >>> import numpy as np, neuros_mechint as nm
        >>> monday = nm.Recording([[1], [2]], ("stimulus", "unit"), {"stimulus": ["face", "car"]})
        >>> tuesday = nm.Recording([[20, 21], [10, 11]], ("stimulus", "unit"), {"stimulus": ["car", "face"]})
        >>> both = nm.Recording.concatenate({"monday": monday, "tuesday": tuesday})
        >>> both.matrix().tolist(), both.sessions
        ([[1, 10, 11], [2, 20, 21]], ('monday', 'tuesday'))
        """
        named = isinstance(recordings, Mapping)
        members = list(recordings.values()) if isinstance(recordings, Mapping) else list(recordings)
        wrong = next((member for member in members if not isinstance(member, RecordingVerbs)), None)
        if not members or wrong is not None:
            got = "none" if not members else f"{type(wrong).__name__} among them"
            raise InputError("nothing to concatenate", expected="recordings", got=got)
        names = list(map(str, recordings)) if named else [f"recording {number}" for number in range(len(members))]
        array = concatenate([member._data for member in members], names, along)
        if named:
            labels = [name for name, one in zip(names, members, strict=True) for _ in range(one._data.sizes[along])]
            array = array.assign_coords(session=(along, labels))
        made_from = {name: dict(one._provenance.arguments) for name, one in zip(names, members, strict=True)}
        record = Provenance.record(arguments={"method": "concatenate", "along": along, "recordings": made_from})
        return cls._from_labelled(array, record)
