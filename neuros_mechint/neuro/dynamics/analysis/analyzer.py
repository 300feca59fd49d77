"""DynamicsAnalyzer: everything this package knows of a system, in one call."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import xarray as xr

from neuros_mechint.core.composite import pack
from neuros_mechint.core.errors import InputError, OptionError, check_option, whole
from neuros_mechint.core.parameters import Parameterised
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.dynamics.analysis.plan import Material, Part, material, plan_for
from neuros_mechint.neuro.dynamics.analysis.result import PORTRAIT, DynamicsAnalysis


class DynamicsAnalyzer(Parameterised):
    """The whole analysis of a recurrent network, of any other system, or of recorded trajectories, in one call.

    Of a model: its fixed points with their eigenvalues, how it can be controlled there, the cycle it settles on, its
    Lyapunov exponents. Of the trajectories, those of a model too: spectrum of the Koopman operator, intrinsic
    dimension, tangling, rotations and slow features. Without a model also the largest Lyapunov exponent and
    recurrence; of a single unit, both from states that are rebuilt from its past. And a phase portrait.

    Parameters
    ----------
    model : callable, or an object with a method ``step``, optional
        ``step(states)`` or ``step(states, inputs)`` in torch, for rows ``(batch, n_states)``; also `rk4` of a
        derivative, and adapted models with the capability "step". Without it, trajectories are all there is.
    parts : sequence of str, optional
        Which parts to do; all by default.
    n_steps : int
        Steps over which Lyapunov exponents of a model are measured.
    seed : int or numpy.random.Generator
    progress : bool
        Show which part is at work.

    Examples
    --------
    >>> import numpy as np, torch, neuros_mechint as nm
    >>> step = lambda state: torch.tanh(state @ torch.tensor([[0.0, 1.2], [-1.2, 0.0]], dtype=state.dtype))
    >>> seen = nm.simulate(step, np.random.default_rng(0).normal(size=(4, 2)), n_steps=100)
    >>> found = nm.DynamicsAnalyzer(step, parts=["fixed_points"]).analyze(seen)
    >>> list(found.parts), found.failures
    (['fixed_points'], {})
    """

    def __init__(
        self,
        model: Any = None,
        parts: Sequence[str] | None = None,
        n_steps: int = 2000,
        seed: SeedLike = 0,
        progress: bool = True,
    ) -> None:
        self.model = model
        self.parts = parts
        self.n_steps = n_steps
        self.seed = seed
        self.progress = progress

    def analyze(self, trajectories: Any, inputs: Any = None) -> DynamicsAnalysis:
        """Do all parts of the analysis; one that fails says why in the result.

        Parameters
        ----------
        trajectories : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of arrays
            ``(time,)``, ``(time, unit)``, ``(trial, time, unit)``, or a list of trials ``(time, unit)``: states of the
            model, or what was recorded.
        inputs : array_like of shape (n_inputs,), optional
            Held, of a model: its fixed points, cycles, exponents and flow are those with these inputs.

        Returns
        -------
        DynamicsAnalysis
            With ``parts`` and ``failures``; `Report.add` shows each part with its figure.

        Raises
        ------
        InputError
            Trajectories that are none, not of the model's width, or too short for anything (20 times); a model that is
            no step, or inputs that do not fit it.
        OptionError
            Unknown parts, or inputs without a model.
        """
        whole("n_steps", self.n_steps, 100)
        given = material(self.model, trajectories, inputs, self.n_steps, generator(self.seed))
        plan = plan_for(given)
        chosen = self._chosen(plan)
        reasons: dict[str, str] = {}
        shown = [name for name in plan if name in chosen]
        # the portrait shows what other parts find, and comes first in the report
        order = sorted(shown, key=lambda name: name == PORTRAIT)
        for name in progress_bar(order, description="dynamics", enabled=self.progress):
            result = _attempt(plan[name], given)
            if isinstance(result, Result):
                given.found[name] = result
            else:
                reasons[name] = result
        done = {name: given.found[name] for name in shown if name in given.found}
        if not done:
            raise InputError(
                "no part of the analysis could be done", got="; ".join(f"{k}: {v}" for k, v in reasons.items())
            )
        return _result(given, done, reasons, self._provenance(trajectories, inputs))

    def _chosen(self, plan: dict[str, Part]) -> list[str]:
        if self.parts is None:
            return list(plan)
        if isinstance(self.parts, str) or not self.parts:
            raise OptionError("parts is no list of names", expected=f"some of {', '.join(plan)}", got=repr(self.parts))
        for name in self.parts:
            check_option("part", name, list(plan))
        return list(self.parts)

    def _provenance(self, trajectories: Any, inputs: Any) -> Provenance:
        arguments = {"trajectories": trajectories, "inputs": inputs, "parts": self.parts, "n_steps": self.n_steps}
        fingerprint: Any = getattr(self.model, "fingerprint", None)
        model = str(fingerprint()) if callable(fingerprint) else None
        return Provenance.record(self.seed, model=model, arguments=arguments | {"model": self.model})


def _attempt(part: Part, given: Material) -> Result | str:
    """Return the result of a part with all that it warned of, or why there is none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = part(given)
        except Exception as error:  # one part must not cost the others; the reason is in the result
            problem = getattr(error, "problem", None)
            text = "; ".join(" ".join(line.split()) for line in str(error).splitlines())
            return text if problem else f"{type(error).__name__}: {text}"
    said = [str(one.message) for one in caught if issubclass(one.category, (UserWarning, RuntimeWarning))]
    new = [text for text in dict.fromkeys(said) if text not in result.warnings]
    return dataclasses.replace(result, warnings=(*result.warnings, *new))


def _result(
    given: Material, done: dict[str, Result], reasons: dict[str, str], provenance: Provenance
) -> DynamicsAnalysis:
    data, about = pack(done)
    names = [*done, *reasons]
    table = xr.Dataset(
        {
            "done": ("part", [name in done for name in names]),
            "finding": ("part", [_finding(done[name]) if name in done else "" for name in names]),
            "reason": ("part", [reasons.get(name, "") for name in names]),
        },
        {"part": names},
    )
    problems = list(given.cautions)
    if reasons:
        problems.append(f"not done, see the reasons: {', '.join(name.replace('_', ' ') for name in reasons)}")
    for text in problems:
        warnings.warn(text, UserWarning, stacklevel=3)
    return DynamicsAnalysis(
        table.merge(data),
        f"Dynamics of {given.name}",
        attributes={"model": given.about_model, "trajectories": given.about_trajectories, "parts": about},
        provenance=provenance,
        citations=tuple(dict.fromkeys(key for result in done.values() for key in result.citations)),
        warnings=tuple(problems),
    )


def _finding(result: Result) -> str:
    """Return the first two lines of a summary after the title: what was found, and what is to be thought of it."""
    told = [line for line in result.summary().splitlines() if line != result.title]
    return "; ".join(line.removesuffix(":") for line in told[:2])
