"""What `DynamicsAnalyzer` returns: the results of all parts, told and drawn one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from neuros_mechint.core.composite import CompositeResult
from neuros_mechint.core.errors import FigureError
from neuros_mechint.neuro.dynamics.analysis.portrait import PhasePortrait

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PORTRAIT = "phase_portrait"
CAPTIONS = {
    "fixed_points": "Fixed points of the model with the inputs held, found from states of the trajectories; some that "
    "are far from these may be missing.",
    "jacobian_spectra": "Eigenvalues of the model linearised at its fixed points. Outside the unit circle, directions "
    "grow.",
    "limit_cycle": "Where the model settles, with the inputs held, from the last state of the first trajectory. Other "
    "starts may lead elsewhere.",
    "lyapunov_spectrum": "Lyapunov exponents of the model with the inputs held, from the last states of the "
    "trajectories, as they converge.",
    "largest_exponent": "How neighbouring states of the recording part with time.",
    "controllability": "Average controllability of each unit, of the model linearised at each fixed point.",
    "koopman": "Eigenvalues of the linear operator that takes the recent past of the trajectories one step on.",
    "intrinsic_dimension": "How many dimensions the states of the trajectories fill, by estimator and scale.",
    "delay_embedding": "The recording has one unit: its past takes the place of others.",
    "recurrence": "Times at which the first trajectory is near to where it was at other times.",
    "tangling": "Where similar states of the trajectories go different ways.",
    "rotations": "The plane in which the trajectories rotate fastest; each trial counts as a condition.",
    "rotation_test": "How much of the changes rotations explain, beside surrogates that have no more than the "
    "covariances.",
    "slow_features": "Directions of the states that change most slowly, beside those of shuffled times.",
}


class DynamicsAnalysis(CompositeResult):
    """The whole analysis of a model or of recorded trajectories.

    ``data`` holds over ``part``: ``done``, its first ``finding`` and, where it failed, the ``reason``; and the data of
    each part that was done, their names preceded by that of the part. `parts` gives these as results of their own.
    """

    drawn = PORTRAIT
    captions = CAPTIONS

    @property
    def failures(self) -> dict[str, str]:
        """Why parts were not done, by name."""
        rows = zip(*(self.data[name].values.tolist() for name in ("part", "done", "reason")), strict=True)
        return {part: reason for part, done, reason in rows if not done}

    def _caption(self, name: str) -> str:
        part = self.parts[name]
        return part.caption if isinstance(part, PhasePortrait) else super()._caption(name)

    def _draw(self, ax: Axes) -> None:
        if PORTRAIT in self.failures:
            raise FigureError("there is no phase portrait", got=self.failures[PORTRAIT], fix="plot one of .parts")
        super()._draw(ax)

    def _summary_lines(self) -> list[str]:
        """Return what was analysed, and for each part what it found first or why it was not done."""
        about = self.attributes
        lines = [about["model"], about["trajectories"]]
        lines += [f"{name.replace('_', ' ')}: {self._finding(name)}" for name in self.parts]
        lines += [f"{name.replace('_', ' ')}: not done: {reason}" for name, reason in self.failures.items()]
        return [*lines, *self._doubts()]

    def _doubts(self) -> Iterator[str]:
        """Yield each warning of the parts that is no finding once, to its first semicolon, with who gave it."""
        given: dict[str, list[str]] = {}
        for name, part in self.parts.items():
            for text in (warning.split("; ")[0] for warning in part.warnings):
                if text in self._finding(name):
                    continue
                names = given.setdefault(text, [])
                if (words := name.replace("_", " ")) not in names:
                    names.append(words)
        for text, names in given.items():
            yield f"warning of {', '.join(names)}: {text}"

    def _finding(self, name: str) -> str:
        found = str(self.data["finding"].sel(part=name).item())
        return found.removeprefix(f"{name}: ")
