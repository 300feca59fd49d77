"""Populations: which units of a site an experiment touches, and random ones to compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuros_mechint.causal.experiments.readouts import Observation
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.sites import SiteReference


@dataclass(frozen=True)
class Population:
    """Entries of one site along one axis.

    Parameters
    ----------
    name : str
        Of the site.
    axis : str
        Along which the entries lie.
    entries : numpy.ndarray of int
        Which are touched.
    n_entries : int
        How many there are.
    index : mapping
        Of the site along other axes.
    """

    name: str
    axis: str
    entries: np.ndarray
    n_entries: int
    index: Mapping[str, Any]

    @classmethod
    def at(cls, found: Observation, site: str, axis: str) -> Population:
        """Return the entries that a site with an index names.

        Raises
        ------
        SiteError, InputError
            Entries that do not exist, or are named twice.
        """
        reference, name = SiteReference.parse(site), found.name_of(site)
        dims, shape = found.dims[name], found.tensors[name].shape
        n_entries = shape[dims.index(axis)]
        index = dict(reference.index)
        chosen = index.pop(axis, slice(None))
        here = {axis: (chosen,) if isinstance(chosen, int) else chosen}
        selection = SiteReference(name, here).locate(dims, shape)
        assert selection is not None  # of a whole activation something is always selected
        entries = np.arange(n_entries)[selection.here[dims.index(axis)]]
        if np.unique(entries).size < entries.size:
            raise InputError(
                f"{site!r} names a {axis} twice", expected="different ones", got=f"{entries.tolist()!s:.80}"
            )
        return cls(name, axis, entries, n_entries, index)

    def site(self, entries: np.ndarray, index: Mapping[str, Any]) -> str:
        """Return the site with these entries, and an index along further axes."""
        chosen = tuple(int(one) for one in entries)
        return str(SiteReference(self.name, {**self.index, **index, self.axis: chosen}))

    def random_ones(
        self, n: int, others: np.ndarray, random: np.random.Generator
    ) -> tuple[list[np.ndarray], tuple[str, ...]]:
        """Return random populations of the same size, and what to warn of where there are none.

        Parameters
        ----------
        n : int
            How many populations.
        others : numpy.ndarray of int
            Entries that must stay as they are, since they are read.
        random : numpy.random.Generator
        """
        free = np.setdiff1d(np.arange(self.n_entries), others)
        if not n or free.size > self.entries.size:
            return [np.sort(random.permutation(free)[: self.entries.size]) for _ in range(n)], ()
        return [], (
            f"no random controls: of {self.n_entries} at {self.name!r} only {free.size} are not read, and "
            f"{self.entries.size} of them are touched already",
        )

    def check_apart(self, found: Observation, readouts: Mapping[str, Any]) -> None:
        """Raise `InputError` where a readout of the same site holds entries that are touched."""
        for name, readout in readouts.items():
            if not isinstance(readout, str) or found.name_of(readout) != self.name:
                continue
            shared = np.intersect1d(self.entries, Population.at(found, readout, self.axis).entries)
            if shared.size:
                free = np.setdiff1d(np.arange(self.n_entries), self.entries)
                rest = f", such as '{self.name}[{self.axis}={free[0]}:{free[-1] + 1}]'" if _in_a_row(free) else ""
                raise InputError(
                    f"the readout {name!r} overlaps with the population",
                    expected="other units: what is done to these would pass for its effect",
                    got=f"{shared.size} shared by {self.name!r} and {readout!r}",
                    fix=f"read the rest{rest}" if free.size else "silence a part, and read the rest",
                )

    def read_cells(self, found: Observation, readouts: Sequence[Any]) -> np.ndarray:
        """Return which of the same cells are read, at any site of their group."""
        read = [np.zeros(0, dtype=int)]
        for readout in readouts:
            if isinstance(readout, str) and _same_cells(found, self, found.name_of(readout)):
                read.append(Population.at(found, readout, self.axis).entries)
        return np.unique(np.concatenate(read))


def _same_cells(found: Observation, population: Population, name: str) -> bool:
    """Whether a site is another variable of the same group, such as ``E.I`` and ``E.spikes``."""
    dims = found.dims[name]
    if population.axis not in dims or found.tensors[name].shape[dims.index(population.axis)] != population.n_entries:
        return False
    return name.rpartition(".")[0] == population.name.rpartition(".")[0]


def _in_a_row(entries: np.ndarray) -> bool:
    return bool(entries.size) and int(entries[-1] - entries[0]) == entries.size - 1
