"""Spiking networks: synapses, spikes and membrane of every layer, read and edited in each time step."""

from __future__ import annotations

from typing import Any

from neuros_mechint.adapters.batches import Batch
from neuros_mechint.adapters.inference import SiteMap
from neuros_mechint.adapters.labelling import Labels
from neuros_mechint.adapters.taps import Tap
from neuros_mechint.adapters.torch_module import TorchAdapter
from neuros_mechint.core.sites import Site, SiteTable
from neuros_mechint.neuro.biophysics.spiking.network import SpikingNeuralNetwork

_DIMS = ("sample", "time", "unit")
_CHECK = "the value in each time step"


class SpikingAdapter(TorchAdapter):
    """Adapter for `neuros_mechint.SpikingNeuralNetwork`.

    Sites, by layer: ``layers.0.synapses`` is what the synapses give in a step (current or conductance),
    ``layers.0.spikes`` what leaves the neurons, and ``layers.0.membrane`` the potential after the reset. An edit of
    spikes reaches all targets, the layer itself included, but not the reset of the neuron that fired; an edit of the
    membrane acts from the next time step on. Gradients go through the network's surrogate: they are no derivatives of
    spikes, which have none. Activations are labelled with the times in seconds at which steps begin.

    Parameters
    ----------
    network : SpikingNeuralNetwork
        Used as it is, and left as it was.

    Examples
    --------
    >>> import torch
    >>> adapter = SpikingAdapter(SpikingNeuralNetwork([3, 8, 2]))
    >>> list(adapter.sites())[:3]
    ['layers.0.synapses', 'layers.0.spikes', 'layers.0.membrane']
    >>> adapter.capture(torch.ones(4, 10, 3), "layers.1.membrane").xarray("layers.1.membrane").dims
    ('sample', 'time', 'unit')
    """

    def __init__(self, network: SpikingNeuralNetwork) -> None:
        super().__init__(network)
        self._prove(None)  # nothing has to be run for it

    @property
    def capabilities(self) -> frozenset[str]:
        """As for torch modules, with time."""
        return super().capabilities | {"time"}

    def _arguments(self, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = super()._arguments(inputs)
        for value in args:
            self.module.check_inputs(value)
        return args, dict(kwargs)

    def _labels(self, name: str, batch: Batch) -> Labels:
        dt = self.module.spiking_layers[0].dt / 1000  # s, as Brian2's
        inputs = next(iter((*batch.args, *batch.kwargs.values())))
        return {"time": [dt * step for step in range(inputs.shape[1])]}

    def _prove(self, batch: Batch | None) -> None:
        if self._map is not None:
            return
        taps: dict[str, Tap] = {}
        sites: list[Site] = []
        for layer, part in enumerate(self.module.spiking_layers):
            for probe, units in {"synapses": part.synapse.unit, "spikes": "", "membrane": "mV"}.items():
                name = f"layers.{layer}.{probe}"
                tap = taps[name] = Tap(name, "out", None, None, check=_CHECK, dims=_DIMS)
                shape = (None, None, part.n_units)
                sites.append(Site(name, tap.native, _DIMS, shape, None, layer, len(sites), tap.check, units))
        self._map = SiteMap(taps, {})
        self._named = SiteTable(sites, {}, f"sites of {type(self.module).__name__}")
