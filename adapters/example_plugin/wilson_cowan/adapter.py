"""The adapter: five short methods, and `step` because the model has time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from neuros_mechint.adapters.base import BaseAdapter, Dims, Edits, Tensors
from neuros_mechint.adapters.batches import Batch
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.fingerprint import fingerprint_array
from neuros_mechint.core.sites import Site, SiteTable
from wilson_cowan.network import WilsonCowanNetwork

DIMS = ("sample", "time", "unit")


class WilsonCowanAdapter(BaseAdapter):
    """Adapter for a `WilsonCowanNetwork`: the rates of each population are a site.

    Parameters
    ----------
    network : WilsonCowanNetwork
        Used as it is, and left as it was.

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> adapter = WilsonCowanAdapter(WilsonCowanNetwork())
    >>> silenced = adapter.run(np.ones((3, 20, 2)), edits=nm.Zero("inhibitory"), capture="excitatory")
    >>> silenced.activations["excitatory"].shape
    torch.Size([3, 20, 6])
    """

    def __init__(self, network: WilsonCowanNetwork) -> None:
        self.network = network

    def __repr__(self) -> str:
        return f"WilsonCowanAdapter({len(self.network.recurrent)} units)"

    @property
    def capabilities(self) -> frozenset[str]:
        """Reading, editing, and single steps; no gradients, for numpy has none."""
        return frozenset({"capture", "intervene", "step", "time"})

    def fingerprint(self) -> str:
        """Return a hash of the weights."""
        return fingerprint_array(np.hstack([self.network.recurrent, self.network.input]))

    def _prepare(self, inputs: Any) -> Batch:
        array = np.asarray(inputs, dtype=np.float64)
        n_inputs = self.network.input.shape[1]
        if array.ndim != 3 or array.shape[2] != n_inputs:
            raise InputError("inputs of the wrong shape", expected=f"(batch, time, {n_inputs})", got=array.shape)
        return Batch.of((array,), {})

    def _table(self, wanted: Sequence[str], batch: Batch | None) -> SiteTable:
        return SiteTable(
            [
                Site(
                    name,
                    native=f"rates[:, {units.start}:{units.stop}]",
                    dims=DIMS,
                    shape=(None, None, units.stop - units.start),
                    check="the rates of this population",
                )
                for name, units in self.network.populations.items()
            ],
            title="sites of WilsonCowanNetwork",
        )

    def _execute(self, batch: Batch, edits: Edits, capture: Sequence[str]) -> tuple[Any, Tensors, Dims]:
        (inputs,) = batch.args
        n_times = inputs.shape[1]
        rates = np.zeros((batch.n_samples, len(self.network.recurrent)))
        history = []
        for time in range(n_times):
            rates = self.network.step(rates, inputs[:, time])
            window = {**batch.window, "time": (time, n_times)}  # this piece is one time step of all
            for name, functions in edits.items():
                units = self.network.populations[name]
                values = torch.from_numpy(rates[:, None, units].copy())
                for edit in functions:
                    values = edit(values, DIMS, window)
                rates[:, units] = values[:, 0].numpy()
            history.append(rates.copy())
        output = torch.from_numpy(np.stack(history, axis=1))
        tensors = {name: output[:, :, self.network.populations[name]] for name in capture}
        return output, tensors, dict.fromkeys(capture, DIMS)

    def step(self, state: torch.Tensor, inputs: torch.Tensor | None = None) -> torch.Tensor:
        """Return the rates of all units, ``(batch, n_units)`` or ``(n_units,)``, one time step later."""
        given = torch.zeros(self.network.input.shape[1]) if inputs is None else inputs
        return torch.from_numpy(self.network.step(state.numpy(), given.numpy()))
