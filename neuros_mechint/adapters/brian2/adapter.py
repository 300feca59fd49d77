"""Brian2 networks: capture and edit variables and spikes in every time step, trial by trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from neuros_mechint.adapters.base import BaseAdapter, Dims, Edits, Tensors, edits_at_sites
from neuros_mechint.adapters.batches import Batch, join_outputs
from neuros_mechint.adapters.brian2.identity import fingerprint_network
from neuros_mechint.adapters.brian2.inputs import PlayedArray, as_namespace, checked_stimulus, find_input
from neuros_mechint.adapters.brian2.network import Lent, lent
from neuros_mechint.adapters.brian2.places import Kind, is_synapses, places_of, site_table
from neuros_mechint.adapters.brian2.trials import Trials
from neuros_mechint.adapters.brian2.units import edit_in_base_units, in_base_units, positive_seconds
from neuros_mechint.adapters.labelling import Labels
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError, whole
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.sites import SiteTable

if TYPE_CHECKING:
    from brian2 import Network


class Brian2Adapter(BaseAdapter):
    r"""Adapter for a ``brian2.Network``: variables ``GROUP.VARIABLE`` and spikes ``GROUP.spikes`` are sites.

    A sample is a trial. Every trial starts from the state in which the network is, with its own stream of random
    numbers: trial ``i`` has the same stream whatever is edited, so runs with and without an edit are paired. The
    network is handed back as it was, with its clocks, recordings and random state.

    Variables are read and edited at the beginning of a time step, just before the equations are integrated; that is
    where a ``StateMonitor(..., when='before_groups')`` reads. Spikes are edited after the threshold and before
    synapses and reset: a silenced cell is neither reset nor refractory, and sends nothing. An edit of what is
    integrated (``v``) is carried on by the dynamics; an edit of what is held (an input current ``I``) lasts for the
    steps that it names. What stays fixed during a trial (weights without plasticity, constants) has no axis of time
    and is edited before the trial. Plain numbers in edits are in base units (volts, amperes, seconds), as captured
    activations are; quantities are checked.

    Parameters
    ----------
    network : brian2.Network
        Used as it is.
    duration : Quantity, optional
        Length of a trial; without ``input`` it is needed, with it the stimulus says it.
    input : str, optional
        Where the inputs are played: ``"GROUP.VARIABLE"``, or the name of a TimedArray in the equations. Inputs are
        then stimuli of shape (trial, time, unit), one entry of time per time step; else the number of trials.
    unit : brian2 Unit, optional
        Of stimuli that are plain numbers.
    output : str or iterable of str, optional
        Sites that ``run(...).output`` holds; by default all spikes, or all states where no group spikes.
    namespace : dict, optional
        What names in the equations mean; by default the variables where the adapter is made, as for Brian2's ``run``.
    seed : int or numpy.random.Generator
        Of the random numbers of all trials.

    Raises
    ------
    InputError, SiteError, OptionError
        No network that can be adapted, or an input or output that it does not have.

    Notes
    -----
    Code is generated for numpy unless ``brian2.prefs.codegen.target`` is set. Cython is faster for large networks,
    but compiles for a minute the first time; to use it: ``brian2.prefs.codegen.target = "cython"``.
    What a network operation keeps in Python variables is its own: it is not put back between trials. The user's
    monitors rest during trials, unless there are network operations that may read them.

    Examples
    --------
    >>> import brian2 as b2
    >>> import neuros_mechint as nm
    >>> cells = b2.NeuronGroup(2, "dv/dt = (I - v) / (10*ms) : 1\nI : 1", threshold="v > 1", reset="v = 0",
    ...                        method="exact", name="cells")
    >>> model = nm.adapt(b2.Network(cells), duration=50 * b2.ms)
    >>> run = model.run(1, edits=[nm.Add("cells.I", 2.0), nm.Zero("cells.spikes[unit=1]")])
    >>> run.output["cells.spikes"].sum(1)
    tensor([[7, 0]])
    """

    def __init__(
        self,
        network: Network,
        duration: Any = None,
        input: str | None = None,
        unit: Any = None,
        output: Any = None,
        namespace: dict[str, Any] | None = None,
        seed: SeedLike = 0,
    ) -> None:
        self.network = network
        self.namespace = as_namespace(namespace)
        _check_adaptable(network)
        self._seconds = None if duration is None else positive_seconds(duration, "duration")
        self._unit = _checked_unit(unit)
        self._entropy = int(generator(seed).integers(2**63))
        self._input = None if input is None else find_input(network, self.namespace, input)
        self._output = None if output is None else self._whole_sites(output)

    def __repr__(self) -> str:
        groups = dict.fromkeys(place.group for place in places_of(self.network))
        sizes = [f"{group.name}: {len(group)} {'synapses' if is_synapses(group) else 'cells'}" for group in groups]
        return f"Brian2Adapter({', '.join(sizes)})"

    @property
    def capabilities(self) -> frozenset[str]:
        """Reading and editing over time; no gradients, for spikes have none here."""
        return frozenset({"capture", "intervene", "time"})

    def trial_seed(self, trial: int) -> int:
        """Return the seed of a trial: after ``brian2.seed(seed)``, ``network.run`` gives the same trial.

        Parameters
        ----------
        trial : int
            Number of the sample in the inputs.
        """
        number = whole("trial", trial, least=0)
        return int(np.random.SeedSequence([self._entropy, number]).generate_state(1)[0])

    def fingerprint(self) -> str:
        """Return a hash of equations, code, state, constants, duration, input and seed."""
        where = None if self._input is None else self._input.name
        return fingerprint_network(self.network, self.namespace, self._seconds, where, self._output, self._entropy)

    # -- sites -------------------------------------------------------------------------------------------------------

    def _table(self, wanted: Sequence[str], batch: Batch | None) -> SiteTable:
        return site_table(self.network, places_of(self.network))

    def _ready(self, edit: Edit) -> Edit:
        def dimensions() -> Any:
            return next(one.variable.dim for one in places_of(self.network) if one.name == edit.reference.name)

        return edit_in_base_units(edit, dimensions)

    def _whole_sites(self, output: Any) -> list[str]:
        references = self._expand(output, None)
        for one in references:
            if one.index:
                fix = f"output={one.name!r}, and pick the part in your metric"
                raise OptionError("the output is made of whole sites", expected="names", got=str(one), fix=fix)
        return [one.name for one in references]

    # -- inputs ------------------------------------------------------------------------------------------------------

    def _prepare(self, inputs: Any) -> Batch:
        if self._input is None:
            if hasattr(inputs, "__len__") or np.ndim(inputs):
                raise InputError(
                    "this network is driven from inside",
                    expected="the number of trials",
                    got=type(inputs).__name__,
                    fix="say where a stimulus goes: nm.adapt(network, input='GROUP.VARIABLE')",
                )
            n_trials = whole("the number of trials", inputs)
            if self._seconds is None:
                raise InputError("how long is a trial?", expected="nm.adapt(network, duration=100*ms), or an input")
            return Batch.of((np.arange(n_trials),), {})
        port = self._input
        checked_stimulus(inputs, port.shape, port.name, port.dt)
        batch = Batch.of((in_base_units(inputs, port.dim, f"the stimulus for {port.name!r}", self._unit),), {})
        n_times = batch.args[0].shape[1]
        if self._seconds is not None and abs(n_times * port.dt - self._seconds) > 1e-4 * port.dt:
            raise InputError(
                "the stimulus is not as long as a trial",
                expected=f"{self._seconds / port.dt:.6g} entries of {port.dt * 1e3:.6g} ms",
                got=f"{n_times} entries",
                fix="leave duration= out: the stimulus says it",
            )
        return batch

    # -- running -----------------------------------------------------------------------------------------------------

    def _trials(self, batch: Batch) -> Trials:
        places = {place.name: place for place in places_of(self.network)}
        seconds = self._seconds if self._input is None else batch.args[0].shape[1] * self._input.dt
        assert seconds is not None  # `_prepare` asks for it
        return Trials(places, float(self.network.t_), seconds, self.trial_seed, self._input)

    @contextmanager
    def _lent(self, batch: Batch) -> Generator[Lent]:
        if not isinstance(self._input, PlayedArray):
            with lent(self.network, self.namespace) as network:
                yield network
            return
        with (
            self._input.in_place(batch.args[0].shape[1], float(self.network.t_)) as played,
            lent(self.network, {**self.namespace, **played}) as network,
        ):
            yield network

    def _simulate(self, batch: Batch, interventions: Sequence[Edits], names: Sequence[str]) -> list[Tensors]:
        trials = self._trials(batch)
        with self._lent(batch) as network:
            network.check_step_size(list(trials.places.values()))
            return [trials.run(network, batch, edits, names) for edits in interventions]

    def _outputs(self) -> list[str]:
        if self._output is not None:
            return self._output
        places = places_of(self.network)
        spikes = [place.name for place in places if place.kind is Kind.SPIKES]
        return spikes or [place.name for place in places if place.kind is Kind.STATE]

    def _dims(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        dims = {place.name: place.dims for place in places_of(self.network)}
        return {name: dims[name] for name in names}

    def _execute(self, batch: Batch, edits: Edits, capture: Sequence[str]) -> tuple[Any, Tensors, Dims]:
        outputs = self._outputs()
        (found,) = self._simulate(batch, [edits], list(dict.fromkeys([*outputs, *capture])))
        return {name: found[name] for name in outputs}, {name: found[name] for name in capture}, self._dims(capture)

    def _read(self, batch: Batch, capture: Sequence[str]) -> tuple[Tensors, Dims]:
        (found,) = self._simulate(batch, [{}], capture)
        return found, self._dims(capture)

    def observe_copies(
        self, batch: Batch, interventions: Sequence[Sequence[Edit]], capture: Sequence[str]
    ) -> tuple[Any, Tensors]:
        """Return the output under each intervention, copy by copy, and what was captured, from one lent network."""
        outputs = self._outputs()
        names = list(dict.fromkeys([*outputs, *capture]))
        by_site = [edits_at_sites(edits) for edits in interventions]
        found = self._simulate(batch, by_site, names)
        sizes = [batch.n_samples] * len(found)
        joined = join_outputs([dict(one) for one in found], sizes)
        return {name: joined[name] for name in outputs}, {name: joined[name] for name in capture}

    # -- labels ------------------------------------------------------------------------------------------------------

    def _labels(self, name: str, batch: Batch) -> Labels:
        trials = self._trials(batch)
        place, found = trials.places[name], dict[str, Any]()
        if place.timed:
            found["time"] = (trials.start + float(place.group.clock.dt_) * np.arange(trials.n_steps(place))).tolist()
        if place.dims[-1] == "synapse":
            # numbers of cells in the whole groups, as sites count them, also where subgroups are connected
            ends = (place.group.variables[f"_synaptic_{end}"].get_value() for end in ("pre", "post"))
            found["synapse"] = [f"{i}->{j}" for i, j in zip(*ends, strict=True)]
        return found

    def _cannot(self, capability: str) -> CapabilityError:
        if capability != "gradient":
            return super()._cannot(capability)
        return CapabilityError(
            "a Brian2 network has no gradients: its simulator does not keep derivatives, and spikes have none",
            expected="a torch model",
            got=", ".join(sorted(self.capabilities)),
            fix="take gradients of its torch twin: train an nm.SpikingNeuralNetwork and export it with nm.to_brian2",
        )


def _check_adaptable(network: Any) -> None:
    from brian2 import MagicNetwork

    if isinstance(network, MagicNetwork):
        raise InputError(
            "Brian2's magic network collects its objects anew on every run",
            expected="a brian2.Network",
            fix="net = brian2.Network(brian2.collect()), before the first run()",
        )
    if not places_of(network):
        raise InputError("the network has no variables", expected="a brian2.Network with groups of cells")
    several = [name for name, n in Counter(one.name for one in network.sorted_objects).items() if n > 1]
    if several:
        raise InputError(
            "objects of the network have the same name",
            expected="a name of its own for each, by which its sites are called",
            got=", ".join(several),
            fix=f"make one of them with name='other_{several[0]}'",
        )


def _checked_unit(unit: Any) -> Any:
    from brian2 import Quantity

    if unit is not None and not (isinstance(unit, Quantity) and unit.size == 1):
        raise OptionError("unit is no unit of Brian2", expected="such as unit=brian2.nA", got=repr(unit))
    return unit
