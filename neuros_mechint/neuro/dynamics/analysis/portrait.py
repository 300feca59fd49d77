"""The phase portrait: trajectories, flow, fixed points and closed orbits in one plane of the state space."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats, with_one_sign
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.figures.plotting import INK, MUTED_INK, PALETTE
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.dynamics.projections.directions import draw_start_and_direction, key_of_starts
from neuros_mechint.neuro.dynamics.trajectories import Trajectories

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FlowSource: TypeAlias = "Callable[[Floats], Floats] | bool"
_ARROWS, _FEWEST_ARROWS, _PAIRS_IN_A_CELL = 17, 6, 40
_MARGIN = 0.08
_MOST_TRIALS, _MOST_POINTS = 40, 6000
_FEWEST_PAIRS, _SURE = 5, 3.0


class PhasePortrait(Result):
    """Trajectories, flow, fixed points and closed orbits in one plane of the state space.

    ``data`` holds ``position`` over ``(sample, axis)`` and the number of the ``trajectory`` of each sample; the
    ``direction`` of each axis over units, the ``centre`` and the share of variance ``explained``; ``flow`` per step at
    ``flow_position`` over ``(arrow, axis)``; ``fixed_point`` over ``(found, axis)`` with the number of ``unstable``
    dimensions; and the closed ``orbit`` over ``(turn, axis)``.
    """

    @property
    def caption(self) -> str:
        """What is to be seen, in words."""
        about, sizes = self.attributes, self.data.sizes
        shown, there = about["n_shown"], about["n_trials"]
        lines = "Lines" if about["connected"] else "Dots"
        words = [f"{self._plane()}. {lines}: {shown} {'trajectories' if shown > 1 else 'trajectory'}"]
        words[-1] += "." if shown == there else f" of {there}."
        if about["connected"]:
            words.append("Dots where they start, heads of arrows on them where they lead.")
        words.append(_FLOW[about["flow"]] if sizes["arrow"] else _NO_FLOW[about["flow"]])
        if about["flow"] == "model" and about["plane"] != "units":
            words.append(
                "What is not in the plane is at its mean there, so that trajectories need not follow the arrows."
            )
        if sizes["found"]:
            words.append("Discs: stable fixed points; circles: unstable ones, projected.")
        if sizes["turn"]:
            words.append("Thick line: the closed orbit that the system settles on.")
        return " ".join(words)

    def _plane(self) -> str:
        if self.attributes["plane"] == "units":
            return "The plane of the two units"
        share = 100 * self.data["explained"].values.sum()
        return f"The plane of the first two principal components, {share:.0f}% of the variance"

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 5.2

    def _draw(self, ax: Axes) -> None:
        position, trajectory = self.data["position"].values, self.data["trajectory"].values
        self._draw_flow(ax)
        connected, numbers = self.attributes["connected"], np.unique(trajectory)
        for number in numbers:
            own = position[trajectory == number]
            ax.plot(*own.T, "-" if connected else ".", color=PALETTE[0], lw=0.8, ms=1.5, alpha=0.5, zorder=2)
            if connected:
                draw_start_and_direction(ax, own, PALETTE[0])
        if connected:
            key_of_starts(ax, PALETTE[0], "a trajectory")
        orbit = self.data["orbit"].values
        if len(orbit):
            ax.plot(*np.concatenate([orbit, orbit[:1]]).T, color=PALETTE[1], lw=2.4, zorder=3, label="closed orbit")
        points, unstable = self.data["fixed_point"].values, self.data["unstable"].values
        for chosen, face, name in ((unstable == 0, INK, "stable"), (unstable > 0, "white", "unstable")):
            if chosen.any():
                label = f"{name} fixed point{'s' if chosen.sum() > 1 else ''} ({chosen.sum()})"
                ax.plot(*points[chosen].T, "o", color=INK, markerfacecolor=face, ms=6, zorder=4, label=label)
        names = [str(name) for name in self.data["axis"].values]
        ax.set_xlabel(names[0])
        ax.set_ylabel(names[1])
        ax.grid(visible=False)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="upper left", bbox_to_anchor=(0, -0.14), ncols=3, borderaxespad=0)

    def _draw_flow(self, ax: Axes) -> None:
        start, flow = self.data["flow_position"].values, self.data["flow"].values
        if not len(start):
            return
        speed = np.linalg.norm(flow, axis=1)
        spacing = np.ptp(start, axis=0) / (_ARROWS - 1)
        # arrows of one length, which is that of the spacing on paper, say where it goes; colour says how fast
        ways = flow / np.where(speed > 0, speed, 1)[:, None] * 0.8 * spacing.min()
        shade = np.clip(speed / (np.quantile(speed, 0.9) or 1.0), 0.15, 1)
        ax.quiver(
            *start.T, *ways.T, angles="xy", scale_units="xy", scale=1, pivot="mid",
            color=[(*_rgb(MUTED_INK), one) for one in shade], width=0.0028, headwidth=4, zorder=1,
        )  # fmt: skip

    def _summary_lines(self) -> list[str]:
        """Return what is in the plane."""
        sizes = self.data.sizes
        orbit = ", a closed orbit" if sizes["turn"] else ""
        fixed = f", {sizes['found']} fixed point{'s' if sizes['found'] != 1 else ''}" if sizes["found"] else ""
        return [
            self._plane(),
            f"in it: {self.attributes['n_shown']} of {self.attributes['n_trials']} trajectories{fixed}{orbit}",
        ]


_FLOW = {
    "model": "Arrows: where one step leads from points of the plane, darker where it is longer.",
    "data": "Arrows: mean change in one step of the states nearby, darker where it is larger, shown where it is more "
    "than three standard errors. Averages of what was seen: whatever fluctuates around a mean goes back to it.",
}
_NO_FLOW = {
    "model": "No arrows: the model is not finite in this plane.",
    "data": "No arrows: where a state is does not tell where the next one is, beyond chance.",
    "none": "No arrows: coordinates that are delayed copies of each other move with each other by themselves.",
}


class Plane(NamedTuple):
    """Two directions in state space.

    Parameters
    ----------
    kind : {"units", "components"}
    centre : numpy.ndarray of shape (n_units,)
    directions : numpy.ndarray of shape (2, n_units)
    explained : numpy.ndarray of shape (2,)
        Share of the variance.

    Examples
    --------
    >>> Plane("units", np.zeros(2), np.eye(2), np.array([0.5, 0.5])).project(np.ones((1, 2))).tolist()
    [[1.0, 1.0]]
    """

    kind: str
    centre: Floats
    directions: Floats
    explained: Floats

    def project(self, states: Floats) -> Floats:
        """Return positions ``(n, 2)`` of states ``(n, n_units)`` in the plane."""
        return (states - self.centre) @ self.directions.T


def plane_of(states: Floats) -> Plane:
    """Return the plane of the two units, or of the first two principal components.

    Examples
    --------
    >>> plane_of(np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.5, 0.0]])).directions.round(2).tolist()[0]
    [1.0, 0.0, 0.0]
    """
    variances = states.var(0)
    if states.shape[1] == 2:
        return Plane("units", np.zeros(2), np.eye(2), variances / (variances.sum() or 1))
    centre = states.mean(0)
    _, sizes, directions = np.linalg.svd(states - centre, full_matrices=False)
    return Plane("components", centre, with_one_sign(directions[:2]), (sizes**2 / (sizes**2).sum())[:2])


def phase_portrait(
    seen: Trajectories,
    flow: FlowSource = True,
    fixed_points: tuple[Floats, npt.NDArray[Any]] | None = None,
    orbit: Floats | None = None,
) -> PhasePortrait:
    """Draw together what lies in the plane that trajectories fill most.

    Parameters
    ----------
    seen : Trajectories
        Of at least two units.
    flow : callable or bool
        From states ``(n, n_units)`` to the next ones, whose flow to draw; or whether to draw that of the data.
    fixed_points : (numpy.ndarray, numpy.ndarray), optional
        States ``(n, n_units)`` and their number of unstable dimensions.
    orbit : numpy.ndarray of shape (n, n_units), optional

    Returns
    -------
    PhasePortrait

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.trajectories import trajectories
    >>> phase_portrait(trajectories(np.random.default_rng(0).standard_normal((50, 3)))).data["position"].shape
    (50, 2)
    """
    if not np.ptp(seen.joined(), axis=0).any():
        raise InputError(
            "all states of the trajectories are the same, and span no plane",
            expected="trajectories that move, or begin at different states",
        )
    plane = plane_of(seen.joined())
    shown = seen.trials[:_MOST_TRIALS]
    shown = [trial[: _MOST_POINTS // len(shown)] for trial in shown]
    start, change = _flow(plane, seen, flow)
    states, unstable = fixed_points if fixed_points is not None else (np.zeros((0, seen.n_units)), np.zeros(0, int))
    turn = plane.project(orbit) if orbit is not None else np.zeros((0, 2))
    names = _axis_names(plane, seen)
    numbers = np.repeat(np.arange(len(shown)), [len(trial) for trial in shown])
    data = {
        "position": (("sample", "axis"), plane.project(np.concatenate(shown)), {"units": "units of the data"}),
        "trajectory": ("sample", numbers),
        "direction": (("axis", "unit"), plane.directions),
        "centre": ("unit", plane.centre),
        "explained": ("axis", plane.explained, {"long_name": "share of the variance", "units": "1"}),
        "flow_position": (("arrow", "axis"), start),
        "flow": (("arrow", "axis"), change, {"units": "units of the data per step"}),
        "fixed_point": (("found", "axis"), plane.project(states)),
        "unstable": ("found", unstable),
        "orbit": (("turn", "axis"), turn),
    }
    return PhasePortrait(
        xr.Dataset(data, {"axis": names}),
        "Phase portrait",
        attributes={
            "plane": plane.kind,
            "n_trials": len(seen.trials),
            "n_shown": len(shown),
            "connected": _connected(seen),
            "flow": "model" if callable(flow) else "data" if flow else "none",
        },
        provenance=Provenance.record(arguments={"trajectories": list(seen.trials[:8])}),
    )


def _axis_names(plane: Plane, seen: Trajectories) -> list[str]:
    if plane.kind == "units":
        return [f"unit {name}" for name in (seen.units or (0, 1))]
    return [f"component {k + 1} ({100 * share:.0f}% of the variance)" for k, share in enumerate(plane.explained)]


def _connected(seen: Trajectories) -> bool:
    """Return whether steps are short, as those of a flow are; points of a map are not joined by lines."""
    steps = np.concatenate([np.linalg.norm(np.diff(trial, axis=0), axis=1) for trial in seen.trials])
    spread = np.sqrt(seen.joined().var(0).sum())
    return bool(np.median(steps) < spread / 2)


def _grid(plane: Plane, seen: Trajectories) -> tuple[Floats, Floats, Floats]:
    """Return grid points ``(n, 2)``, and low ends and widths of both axes."""
    position = plane.project(seen.joined())
    low, width = position.min(0), np.ptp(position, axis=0)
    low, width = low - _MARGIN * width, (1 + 2 * _MARGIN) * width
    ticks = [np.linspace(start, start + size, _ARROWS) for start, size in zip(low, width, strict=True)]
    return np.stack(np.meshgrid(*ticks), axis=-1).reshape(-1, 2), low, width


def _flow(plane: Plane, seen: Trajectories, flow: FlowSource) -> tuple[Floats, Floats]:
    if callable(flow):
        return _flow_of_model(plane, seen, flow)
    return _flow_of_data(plane, seen) if flow else (np.zeros((0, 2)), np.zeros((0, 2)))


def _flow_of_model(plane: Plane, seen: Trajectories, step: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
    start, _, _ = _grid(plane, seen)
    flow = plane.project(step(plane.centre + start @ plane.directions)) - start
    finite = np.isfinite(flow).all(1)
    return start[finite], flow[finite]


def _flow_of_data(plane: Plane, seen: Trajectories) -> tuple[Floats, Floats]:
    """Return the mean change of states in each cell of a grid, where it is larger than its error.

    None at all, where the mean next states of cells scatter no more than if they were dealt to the cells by chance.
    """
    _, low, width = _grid(plane, seen)
    before, after = (plane.project(states) for states in seen.pairs())
    # few data make large cells, whose means are known well enough
    step = width / (np.clip(np.sqrt(len(before) / _PAIRS_IN_A_CELL), _FEWEST_ARROWS, _ARROWS) - 1)
    cell = np.rint((before - low) / np.where(step > 0, step, 1)).astype(int)
    _, index, counts = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    index = index.ravel()
    start, end, squares = (_sums(values, index) / counts[:, None] for values in (before, after, after**2))
    between = (counts[:, None] * (end - after.mean(0)) ** 2).sum() / max(len(counts) - 1, 1)
    within = (counts[:, None] * (squares - end**2)).sum() / max(len(after) - len(counts), 1)
    if between < (1 + _SURE * np.sqrt(2 / max(len(counts) - 1, 1))) * within:
        return np.zeros((0, 2)), np.zeros((0, 2))
    change = after - before
    mean = end - start
    variance = _sums((change - mean[index]) ** 2, index) / counts[:, None] / (counts[:, None] - 1).clip(1)
    sure = (counts >= _FEWEST_PAIRS) & (np.linalg.norm(mean, axis=1) > _SURE * np.sqrt(variance.sum(1)))
    return start[sure], mean[sure]


def _sums(values: Floats, index: npt.NDArray[np.intp]) -> Floats:
    """Return the sums of rows ``(n, 2)`` that have the same index."""
    return np.stack([np.bincount(index, values[:, k]) for k in range(2)], axis=1).astype(np.float64)


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)
