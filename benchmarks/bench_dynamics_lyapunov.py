"""Lyapunov exponents against a loop in NumPy over steps and trajectories: the same exponents first, then runs in turns.

The loop is the textbook's: one trajectory after the other, Jacobians by hand, QR at every step. Both sides take one
thread, the same initial states and tangents, and the same number of exponents.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

import neuros_mechint as nm
from neuros_mechint.neuro.dynamics.lyapunov.tangent_growth import joined, tangent_runs
from neuros_mechint.neuro.dynamics.systems import as_system

torch.set_num_threads(1)
BATCH, ROUNDS, OUR_STEPS, THEIR_STEPS, CHECKED_STEPS, BLOCKS = 256, 7, 1000, 10, 20, 10
Array = np.ndarray
Push = Callable[[Array, Array], tuple[Array, Array]]


def lorenz(s: Array) -> Array:
    return np.array([10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]])


def lorenz_jacobian(s: Array) -> Array:
    return np.array([[-10, 10, 0], [28 - s[2], -1, -s[0]], [s[1], s[0], -8 / 3]])


def rossler(s: Array) -> Array:
    return np.array([-s[1] - s[2], s[0] + 0.2 * s[1], 0.2 + s[2] * (s[0] - 5.7)])


def rossler_jacobian(s: Array) -> Array:
    return np.array([[0, -1, -1], [1, 0.2, 0], [s[2], 0, s[0] - 5.7]])


def runge_kutta(derivative: Callable[[Array], Array], jacobian: Callable[[Array], Array], dt: float) -> Push:
    """Return a step of the equation and of its linearisation."""

    def push(s: Array, q: Array) -> tuple[Array, Array]:
        k1, d1 = derivative(s), jacobian(s) @ q
        s2 = s + dt / 2 * k1
        k2, d2 = derivative(s2), jacobian(s2) @ (q + dt / 2 * d1)
        s3 = s + dt / 2 * k2
        k3, d3 = derivative(s3), jacobian(s3) @ (q + dt / 2 * d2)
        s4 = s + dt * k3
        k4, d4 = derivative(s4), jacobian(s4) @ (q + dt * d3)
        return s + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4), q + dt / 6 * (d1 + 2 * d2 + 2 * d3 + d4)

    return push


def network(weights: Array) -> Push:
    def push(s: Array, q: Array) -> tuple[Array, Array]:
        rates = np.tanh(weights @ s)
        return rates, (1 - rates * rates)[:, None] * (weights @ q)

    return push


def loop(push: Push, states: Array, tangents: Array, n_steps: int) -> Array:
    """Return sums of the logarithms ``(trajectory, exponent)``, by a loop over steps and trajectories."""
    states, tangents = states.copy(), tangents.copy()
    sums = np.zeros((len(states), tangents.shape[-1]))
    for _ in range(n_steps):
        for row in range(len(states)):
            states[row], moved = push(states[row], tangents[row])
            tangents[row], triangle = np.linalg.qr(moved)
            sums[row] += np.log(np.abs(triangle.diagonal()))
    return sums


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def contest(work: str, step: object, push: Push, states: Array, n_exponents: int, compiled: bool) -> str:
    system, rows = as_system(step, states)
    random = np.random.default_rng(1).normal(size=(BATCH, system.n_states, n_exponents))
    tangents = np.linalg.qr(random)[0]
    ours = torch.from_numpy(tangents).permute(2, 0, 1).contiguous()
    begin = time.perf_counter()
    runs = tangent_runs(system, rows, ours, compiled=compiled)
    prepared = time.perf_counter() - begin
    assert runs[0].push.route == "flattened", runs[0].push.reason
    if runs[0].compiled != compiled:
        return f"| {work}: {runs[0].not_compiled} |"
    found = joined([run.measure(CHECKED_STEPS, CHECKED_STEPS) for run in runs]).log_stretch.sum(0)
    difference = float(np.abs(found - loop(push, states, tangents, CHECKED_STEPS)).max() / CHECKED_STEPS)
    assert difference <= 1e-9, (work, difference)
    pairs = [
        (
            seconds(lambda: [run.measure(OUR_STEPS, BLOCKS) for run in runs]) / OUR_STEPS,
            seconds(lambda: loop(push, states, tangents, THEIR_STEPS)) / THEIR_STEPS,
        )
        for _ in range(ROUNDS)
    ]
    mine, other = (median(times) for times in zip(*pairs, strict=True))
    ratios = [b / a for a, b in pairs]
    return (
        f"| {work} | {other / mine:.1f} ({min(ratios):.1f} to {max(ratios):.1f}) | {difference:.0e} "
        f"| {1000 * mine:.3f} ms | {1000 * other:.2f} ms | {prepared:.1f} s |"
    )


def main() -> None:
    random = np.random.default_rng(0)
    print(f"{BATCH} trajectories, one step of all of them, QR at every step, float64, one thread")
    weights = 1.5 * random.normal(size=(64, 64)) / 8
    torch_weights = torch.from_numpy(weights)
    # on the attractors, from where the loops start as well
    systems = [
        ("Lorenz", nm.rk4(nm.lorenz, 0.01), runge_kutta(lorenz, lorenz_jacobian, 0.01), 3, 3),
        ("Rössler", nm.rk4(nm.rossler, 0.05), runge_kutta(rossler, rossler_jacobian, 0.05), 3, 3),
        ("tanh network of 64, largest 8", lambda s: torch.tanh(s @ torch_weights.T), network(weights), 64, 8),
    ]
    print("| work | ratio (range) | same answer within | ours, a step | theirs | ours, to compile |", flush=True)
    for name, step, push, n_states, n_exponents in systems:
        states = nm.simulate(step, random.normal(size=(BATCH, n_states)), 1, discard=1000)[:, 0].numpy()
        for compiled in (False, True):
            kind = f"{name}, {'compiled' if compiled else 'not compiled'}"
            print(contest(kind, step, push, states, n_exponents, compiled), flush=True)


if __name__ == "__main__":
    main()
