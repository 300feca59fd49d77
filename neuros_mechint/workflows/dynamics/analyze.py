"""The whole look at the dynamics of a recurrent network: fixed points, latent circuit, energy landscape."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import CapabilityError, InputError
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.random import SeedLike
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.dynamics.analysis.analyzer import DynamicsAnalyzer
from neuros_mechint.neuro.dynamics.analysis.portrait import PhasePortrait, phase_portrait
from neuros_mechint.neuro.dynamics.fixed_points.finder import FixedPointFinder
from neuros_mechint.neuro.dynamics.fixed_points.results import FixedPoints
from neuros_mechint.neuro.dynamics.systems import as_system
from neuros_mechint.neuro.information.energy.landscape import EnergyLandscape
from neuros_mechint.report.about_runs import own_name
from neuros_mechint.workflows.dynamics.driven import DrivenSystem, drive, open_system
from neuros_mechint.workflows.dynamics.network_circuit import NetworkCircuit, network_circuit
from neuros_mechint.workflows.dynamics.words import in_short
from neuros_mechint.workflows.runs.in_short import IN_SHORT
from neuros_mechint.workflows.runs.run import WorkflowOutcome, WorkflowRun
from neuros_mechint.workflows.runs.sources import open_array

_N_STARTS = 1024
_N_LYAPUNOV = 500
_CIRCUIT_TRIALS, _CIRCUIT_TIMES = 30, 40
_PARTS = ("lyapunov_spectrum", "limit_cycle")
_CAPTIONS = {
    "fixed_points": "States that the model stays in with the inputs held, in the plane of two principal components of "
    "these points. Filled: nothing grows away from them. Open: directions grow, as between two memories.",
    "energy_landscape": "How rarely states are visited, in two principal components of the trajectories: valleys are "
    "where the model stays. It is an energy only where detailed balance holds; see the verdict.",
    IN_SHORT: "How many fixed points there are of each kind, with the inputs held.",
    "lyapunov_and_cycles": "Where the model settles with the inputs held, and whether neighbouring states part.",
}


def analyze_dynamics(
    model: Any,
    inputs: Any = None,
    trajectories: Any = None,
    held_inputs: Sequence[float] | None = None,
    seed: SeedLike = 0,
    folder: str | Path | None = None,
    progress: bool = True,
) -> WorkflowOutcome:
    """Analyze the dynamics of a recurrent network, or of any other system: all steps, one report.

    The network is run on inputs. Then: its fixed points with their stability and index; a phase portrait; Lyapunov
    exponents and cycles; the latent circuit behind its activity, with tests; and the landscape of the states it visits,
    with the verdict on detailed balance. A step that does not apply is left out, and the report says why.

    Parameters
    ----------
    model : str, torch.nn.Module, Adapter or callable
        A module with one recurrent layer (``nn.RNN``, ``nn.GRU``, ``nn.LSTM``) or cell; the name of an embedded model;
        ``file.py:function``, which builds one; an adapter with ``step``; or a function ``step(states)`` or
        ``step(states, inputs)`` in torch, for rows of states, together with ``trajectories``.
    inputs : array_like of shape (n_trials, n_times, n_inputs), or path of a .npy file, optional
        What the model is run on. By default trials of the task of an embedded model; of another one, random values.
    trajectories : array_like of shape (n_trials, n_times, n_states), or path of a .npy file, optional
        States of the system, instead of a run.
    held_inputs : sequence of float, optional
        Inputs of the recurrent layer that are held while fixed points are searched; zeros by default.
    seed : int or numpy.random.Generator
    folder : str or pathlib.Path, optional
        For ``report.html``, ``manifest.json`` and the results. A run that was cut off goes on where it stopped.
    progress : bool
        Tell what is being done.

    Returns
    -------
    WorkflowOutcome
        Its ``results``: ``fixed_points``, ``phase_portrait``, ``lyapunov_and_cycles``, ``latent_circuit``,
        ``energy_landscape`` and ``in_short``, as far as they apply.

    Raises
    ------
    CapabilityError
        A model without steps.
    InputError
        Inputs or trajectories that do not fit the model, or both.
    StorageError
        A folder that holds another run.

    References
    ----------
    Sussillo and Barak 2013, Opening the black box, doi:10.1162/NECO_a_00409; Langdon and Engel 2025, Latent circuit
    inference from heterogeneous neural responses during cognitive tasks, doi:10.1038/s41593-025-01869-7; Wang, Xu and
    Wang 2008, Potential landscape and flux framework of nonequilibrium networks, doi:10.1073/pnas.0800579105

    Examples
    --------
    A damped rotation has one fixed point:

    >>> import neuros_mechint as nm
    >>> turn = torch.tensor([[0.9, 0.2], [-0.2, 0.9]], dtype=torch.float64)
    >>> step = lambda states: states @ turn.T
    >>> seen = nm.simulate(step, np.random.default_rng(0).normal(size=(20, 2)), n_steps=40)
    >>> found = analyze_dynamics(step, trajectories=seen, progress=False)
    >>> found.results["fixed_points"].stability, list(found.left_out)
    (['stable'], ['latent_circuit'])
    """
    if inputs is not None and trajectories is not None:
        raise InputError(
            "states of a run come either from inputs or from trajectories",
            expected="inputs=, which the model is run on; or trajectories=, for which no model is run",
            got="both",
            fix="leave out one of the two; held_inputs= says what is held while fixed points are searched",
        )
    given = open_system(model)
    opened = {"inputs": inputs, "trajectories": trajectories}
    data = {name: open_array(one) for name, one in opened.items() if one is not None}
    held = None if held_inputs is None else real_array(held_inputs, "held_inputs").ravel()
    run = WorkflowRun(
        "dynamics",
        {"held_inputs": None if held is None else held.tolist()},
        {"model": given.source} | {name: one.source for name, one in data.items()},
        seed,
        folder,
        progress,
    )
    values = {name: one.value for name, one in data.items()}
    system = drive(given, values.get("inputs"), values.get("trajectories"), run.seed("inputs"))
    held = system.input_at_rest if held is None else held
    points = run.step("fixed_points", lambda: _fixed_points(system, held, run))
    run.attempt("phase_portrait", lambda: _portrait(system, held, points))
    run.attempt("lyapunov_and_cycles", lambda: _settling(system, held, run))
    run.attempt("latent_circuit", lambda: _circuit(system, run))
    run.attempt("energy_landscape", lambda: _landscape(system, run))
    run.step(IN_SHORT, lambda: in_short(run.results, run.left_out, given.source.fingerprint))
    portrait = run.results.get("phase_portrait")
    seen = {"phase_portrait": portrait.caption} if isinstance(portrait, PhasePortrait) else {}
    return run.finish(
        f"Dynamics of {own_name(given.source.name)}",
        f"{len(system.states.trials)} trajectories of {system.states.n_units} units, from {system.driven_by}.",
        _CAPTIONS | seen,
    )


def _fixed_points(system: DrivenSystem, held: Floats | None, run: WorkflowRun) -> FixedPoints:
    finder = FixedPointFinder(system.step, n_starts=_N_STARTS, seed=run.seed("fixed_points"), progress=run.progress)
    return finder.find(system.states.joined(), held)


def _portrait(system: DrivenSystem, held: Floats | None, points: Result) -> PhasePortrait:
    """Draw the fixed points among the trajectories and the flow of the model."""
    if system.states.n_units < 2:
        raise CapabilityError("one dimension is no plane")
    checked, rows = as_system(system.step, system.states.joined()[:1], held, differentiable=False)

    def onward(states: Floats) -> Floats:
        with torch.no_grad():
            given = torch.from_numpy(np.ascontiguousarray(states)).to(rows.dtype)
            inputs = None if checked.inputs is None else checked.inputs[:1].expand(len(given), -1)
            return checked.raw(given, inputs).double().numpy()

    found = (points.states, points.n_unstable) if isinstance(points, FixedPoints) and len(points.states) else None
    return phase_portrait(system.states, onward, found)


def _settling(system: DrivenSystem, held: Floats | None, run: WorkflowRun) -> Result:
    analyzer = DynamicsAnalyzer(
        system.step, _PARTS, n_steps=_N_LYAPUNOV, seed=run.seed("lyapunov_and_cycles"), progress=run.progress
    )
    return analyzer.analyze(list(system.states.trials), held)


def _circuit(system: DrivenSystem, run: WorkflowRun) -> NetworkCircuit:
    if system.inputs is None:
        raise CapabilityError("trajectories alone do not tell which inputs drive what: pass a network and its inputs")
    if system.activity is None:
        raise CapabilityError("the network has several layers or a cell state: a circuit is one of one layer")
    if system.outputs is None:
        raise CapabilityError("the network has no outputs: put the layer into a module that reads some from its states")
    trials, times = slice(_CIRCUIT_TRIALS), slice(_CIRCUIT_TIMES)
    seen = (values[trials, times] for values in (system.inputs, system.activity, system.outputs))
    seed = run.seed("latent_circuit")
    return network_circuit(system.module, *seen, alpha=system.alpha, seed=seed, progress=run.progress)


def _landscape(system: DrivenSystem, run: WorkflowRun) -> Result:
    landscape = EnergyLandscape(seed=run.seed("energy_landscape"))
    return landscape.fit(list(system.states.trials)).landscape_
