"""A Brian2 network lent for trials: each starts from the same state, and the network is handed back as it was."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neuros_mechint.adapters.brian2.places import BrianObject, Place, is_monitor, is_operation
from neuros_mechint.core.errors import CapabilityError, InputError, NeurosMechintError

if TYPE_CHECKING:
    from brian2 import Network

Call = Callable[[], None]
_NUDGE = 1e-6
"""How far a variable is pushed, relative to its value, to see how one time step answers."""


@dataclass(frozen=True)
class Step:
    """What happens within a time step beside the network's own objects.

    Parameters
    ----------
    calls : list of (place, call)
        Each is called in every step of the clock of the place's group, at the moment at which the place stands.
    last : list of (place, call)
        Called at the end of the step.
    """

    calls: Sequence[tuple[Place, Call]]
    last: Sequence[tuple[Place, Call]] = ()


class Lent:
    """A network whose code has been generated: runs trials.

    Brian2's ``Network.run`` collects garbage and generates the code anew on every call, 0.2 s for a small network.
    Here that is done once for all trials; the steps themselves are Brian2's own objects, in Brian2's own order.

    Parameters
    ----------
    network : brian2.Network
    namespace : dict
        What names in equations mean that the groups do not define themselves.
    """

    def __init__(self, network: Network, namespace: Mapping[str, Any]) -> None:
        _generate_code(network, namespace)
        self.network = network
        objects = network.sorted_objects
        if not any(is_operation(one) for one in objects):  # nothing can read what monitors record
            objects = [one for one in objects if not is_monitor(one)]
        self._state = _State(network, objects)
        self._objects = objects = [one for one in objects if one.active]
        self._clocks = list({id(one.clock): one.clock for one in objects}.values())

    def restart(self, seed: int) -> None:
        """Put the network into the state in which it was lent, and Brian2's random numbers at their start."""
        import brian2

        self._state.restore()
        brian2.seed(seed)

    def run(self, seconds: float, step: Step) -> None:
        """Simulate from the present state.

        Raises
        ------
        InputError
            The network stopped itself, or Python code of the network raised an error.
        """
        from brian2 import Network, second

        start = self.network.t_
        for clock in self._clocks:
            clock.set_interval(start * second, (start + seconds) * second)
        calls = self._in_order(step)
        with np.errstate(over="ignore", invalid="ignore"):  # a simulation that diverges is reported as such
            for time in _ticks(self.network, self._clocks, calls):
                if self.network._stopped or Network._globally_stopped:
                    raise InputError(
                        f"the network stopped itself at t = {time:.6g} s",
                        expected=f"a network that runs until {start + seconds:.6g} s, so that trials are of one length",
                        fix="take the call of stop() out, or give a shorter duration",
                    )
        self.network.after_run()

    def check_step_size(self, places: Sequence[Place]) -> None:
        """Raise `InputError` where a time step throws a variable further to the other side than it was off.

        No differential equation does that; an explicit method does when dt is more than twice the time constant.
        """
        updaters = [one for one in self._objects if type(one).__name__ == "StateUpdater"]
        for updater in updaters:
            integrated = getattr(getattr(updater.group, "equations", None), "diff_eq_names", ())
            for place in places:
                own = place.group.name == updater.group.name and place.name.rpartition(".")[2] in integrated
                if own and place.timed and place.size and place.variable.dtype == np.float64:
                    self._check_answer(updater, place)
        self.restart(0)

    def _check_answer(self, updater: BrianObject, place: Place) -> None:
        self.restart(0)
        before = place.variable.get_value()
        nudge = _NUDGE * np.where(before == 0, 1e-3, np.abs(before))
        ends = []
        for shift in (0.0, nudge):
            self.restart(0)
            values = place.variable.get_value()
            values += shift
            pushed = values.copy()
            with np.errstate(all="ignore"):
                _telling(updater)()
            ends.append((pushed, place.variable.get_value().copy()))
        (low, after_low), (high, after_high) = ends
        answer = (after_high - after_low) / (high - low)
        worst = float(np.nanmin(answer)) if np.isfinite(answer).any() else 0.0
        if worst < -1:
            dt = float(place.group.clock.dt_)
            raise InputError(
                f"dt is too large: {dt * 1e3:.6g} ms turn a deviation of {place.name} into {worst:.3g} times itself",
                expected="a time step below twice the shortest time constant",
                fix=f"set a smaller dt, method='exact' or method='exponential_euler' on {place.group.name!r}",
            )

    def _in_order(self, step: Step) -> list[tuple[BrianObject, Call]]:
        """Return (clock, call) of the network's objects and of what happens beside them."""
        objects, network = self._objects, self.network
        position = {id(one): index for index, one in enumerate(objects)}
        ranks = {name: 3 * index for index, name in enumerate(network.schedule)}

        def integrates(one: BrianObject) -> bool:
            base = one.when.removeprefix("before_").removeprefix("after_")
            shift = -1 if one.when.startswith("before_") else 1 if one.when.startswith("after_") else 0
            return ranks[base] + shift >= ranks["groups"]

        begin = next((index for index, one in enumerate(objects) if integrates(one)), len(objects))
        inserted: list[list[tuple[BrianObject, Call]]] = [[] for _ in range(len(objects) + 1)]
        for place, call in step.calls:
            run = [position[id(one)] + 1 for one in place.after if id(one) in position]
            if run or not place.after:  # what does not run, is not seen
                inserted[max(run, default=begin)].append((place.group.clock, call))
        ordered: list[tuple[BrianObject, Call]] = []
        for index, one in enumerate(objects):
            ordered += [*inserted[index], (one.clock, _telling(one))]
        return [*ordered, *inserted[-1], *((place.group.clock, call) for place, call in step.last)]


@contextmanager
def lent(network: Network, namespace: Mapping[str, Any]) -> Generator[Lent]:
    """Lend a network for trials, and hand it back as it was, whatever happens.

    Kept are its variables, clocks, undelivered spikes, recordings and attributes, Brian2's and numpy's random state,
    and Brian2's preferences. Code is generated for numpy unless ``brian2.prefs.codegen.target`` was set.

    Raises
    ------
    CapabilityError
        A device that compiles whole simulations.
    InputError
        Names that are not defined, or units that do not fit.
    """
    from brian2 import Network, prefs
    from brian2.devices.device import RuntimeDevice, get_device

    device = get_device()
    if not isinstance(device, RuntimeDevice):
        raise CapabilityError(
            f"Brian2's device {type(device).__name__} compiles whole simulations, which cannot be edited as they run",
            expected="the device 'runtime'",
            fix="brian2.set_device('runtime') before the network is built",
        )
    with ExitStack() as kept:
        kept.callback(setattr, Network, "_globally_stopped", Network._globally_stopped)
        kept.callback(device.set_random_state, device.get_random_state())
        for one in (network, *_with_clocks(network)):
            kept.callback(_put_back, one, dict(vars(one)), list(getattr(one, "_code_objects", ())))
        kept.callback(_State(network, network).restore)
        if prefs.codegen.target == "auto":
            kept.callback(setattr, prefs.codegen, "target", "auto")
            prefs.codegen.target = "numpy"
        yield Lent(network, namespace)


def steps_until(seconds: float, dt: float) -> int:
    """Return how many time steps begin before a time, as Brian2's clocks count them.

    Examples
    --------
    >>> steps_until(0.0010000000001, 1e-4), steps_until(0.00105, 1e-4)
    (10, 11)
    """
    nearest = int(np.round(seconds / dt))
    exact = abs(nearest * dt - seconds) / dt <= 1e-4
    return nearest if exact else int(np.ceil(seconds / dt))


class _State:
    """The time of a network, and the values of all variables, clocks and queues of objects in it."""

    def __init__(self, network: Network, objects: Iterable[BrianObject]) -> None:
        self._network, self._time = network, network.t_
        parts = (one for one in _with_clocks(objects) if hasattr(one, "_full_state"))
        self._stored = [(one, one._full_state()) for one in parts]

    def restore(self) -> None:
        self._network.t_ = self._time
        for one, state in self._stored:
            one._restore_from_full_state(state)


def _with_clocks(objects: Iterable[BrianObject]) -> list[BrianObject]:
    listed = list(objects)
    return [*listed, *{id(one.clock): one.clock for one in listed}.values()]


def _put_back(one: BrianObject, attributes: dict[str, Any], code_objects: list[Any]) -> None:
    """Give an object its attributes back, but for the network that it has run in.

    Brian2 warns of objects that were never run when they are deleted.
    """
    now = vars(one)
    for name in now.keys() - attributes.keys():
        del now[name]
    now.update({name: value for name, value in attributes.items() if name != "_network"})
    if hasattr(one, "_code_objects"):
        one._code_objects[:] = code_objects


def _telling(one: BrianObject) -> Call:
    """Return the call of an object's code, which may be the user's Python, whose errors say where they come from."""

    def run() -> None:
        try:
            one.run()
        except NeurosMechintError:
            raise
        except Exception as error:
            cause = _cause(error)
            raise InputError(
                f"{one.name!r} raised {type(cause).__name__} in the network: {cause}",
                expected="code that runs through every trial, each of which starts from the same state",
                fix="what a network operation keeps in Python variables is not put back" if is_operation(one) else None,
            ) from error

    return run


def _generate_code(network: Network, namespace: Mapping[str, Any]) -> None:
    from brian2 import BrianObjectException, DimensionMismatchError, SpikeGeneratorGroup

    for one in network:
        if isinstance(one, SpikeGeneratorGroup):  # Brian2's restore() leaves these as set_spikes() has set them last
            one._spike_time, one._neuron_index = (
                one.variables[name].get_value() for name in ("spike_time", "neuron_index")
            )
    # what `before_run` expects of `run`: the default clock may stand where another network has left it
    network._clocks = {one.clock for one in network}
    for clock in network._clocks:
        clock.set_interval(network.t, network.t)
    try:
        network.before_run(dict(namespace))
    except BrianObjectException as error:
        about, cause = f"in {getattr(error, '_brian_objname', 'an object')!r}", _cause(error)
        if isinstance(cause, DimensionMismatchError):
            problem, fix = f"the units do not fit {about}: {cause}", "give every constant its unit, such as tau = 10*ms"
        elif isinstance(cause, KeyError):
            problem = f"a name is not defined {about}: {cause.args[0]}"
            fix = "define the name where the adapter is made, or pass namespace={'tau': 10*ms}"
        else:
            problem, fix = f"Brian2 cannot run the network, for what is {about}: {cause}", None
        raise InputError(problem, fix=fix) from error


def _cause(error: BaseException) -> BaseException:
    """Return what Brian2's error is about: units, a name, or else the first of the errors that led to it."""
    from brian2 import DimensionMismatchError

    while error.__cause__ is not None and not isinstance(error, (DimensionMismatchError, KeyError)):
        error = error.__cause__
    return error


def _ticks(
    network: Network, clocks: Sequence[BrianObject], calls: Sequence[tuple[BrianObject, Call]]
) -> Generator[float]:
    """Run time steps until the clocks reach their ends, as ``Network.run`` does; yield the time of each."""
    if len(clocks) == 1:
        (clock,) = clocks
        timestep, time = (clock.variables[name].get_value() for name in ("timestep", "t"))
        alone, advance = [call for _, call in calls], _advancing(clock)
        for _ in range(int(clock._i_end - timestep[0])):
            network.t_ = now = time[0]
            for call in alone:
                call()
            advance()
            yield now
        return
    arrays = {id(clock): [clock.variables[name].get_value() for name in ("timestep", "t")] for clock in clocks}
    while True:
        first = min(clocks, key=lambda clock: arrays[id(clock)][1][0])
        timestep, time = arrays[id(first)]
        if timestep[0] >= first._i_end:
            return
        network.t_ = now = time[0]
        due = [clock for clock in clocks if _at_same_time(clock, first)]
        keys = {id(clock) for clock in due}
        for clock, call in calls:
            if id(clock) in keys:
                call()
        for clock in due:
            _advancing(clock)()
        yield now


def _advancing(clock: BrianObject) -> Call:
    if hasattr(clock, "advance"):  # from Brian2 2.10 on
        return clock.advance
    timestep, time, dt = (clock.variables[name].get_value() for name in ("timestep", "t", "dt"))

    def advance() -> None:
        timestep[0] += 1
        time[0] = timestep[0] * dt[0]

    return advance


def _at_same_time(one: BrianObject, other: BrianObject) -> bool:
    if hasattr(one, "same_time"):  # from Brian2 2.10 on, where some clocks have no dt
        return one.same_time(other)
    times, steps = ([clock.variables[name].get_value()[0] for clock in (one, other)] for name in ("t", "dt"))
    return abs(times[0] - times[1]) / min(steps) < one.epsilon_dt
