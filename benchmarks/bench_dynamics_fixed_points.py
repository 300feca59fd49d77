"""Fixed points of trained flip-flop networks against a finder that descends on the speed with Adam, as published.

The peer is written after FixedPointFinder (Golub and Sussillo 2018, doi:10.21105/joss.01003; its torch version): all
states are optimised jointly by Adam on the mean of q = |F(x) - x|^2 / 2 in single precision, the rate falls by 5% where
q stagnates for more than two steps, and it stops where q < 1e-12 or hardly changes everywhere, or after 5,000 steps. It
is given its best rate of five: the fastest with which it finds all that we find, else that with which it finds most.
Both end with one of each point, its Jacobian and eigenvalues; ours looks for slow points and continua as well.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.datasets.tasks import flip_flop
from neuros_mechint.neuro.dynamics.fixed_points.distinct import distinct
from neuros_mechint.neuro.dynamics.fixed_points.starts import draw_starts

torch.set_num_threads(1)
RATES = (1.0, 0.3, 0.1, 0.03, 0.01)
N_STARTS, ROUNDS = 1024, 7
TOLERANCE, CHANGE, MOST_STEPS = 1e-12, 1e-20, 5000
Step = Callable[[torch.Tensor], torch.Tensor]


def adam_on_speed(step: Step, starts: torch.Tensor, rate: float) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return states, their q, and the number of steps."""
    x = starts.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=rate)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.95, patience=2, cooldown=0)
    before = torch.full((len(x),), torch.nan)
    for number in range(1, MOST_STEPS + 1):
        optimizer.zero_grad()
        q = (x - step(x)).square().sum(1) / 2
        mean = q.mean()
        mean.backward()
        optimizer.step()
        schedule.step(mean.detach())
        q = q.detach()
        settled = ((q - before).abs() < CHANGE * optimizer.param_groups[0]["lr"]) | (q < TOLERANCE)
        if number > 1 and settled.all():
            break
        before = q
    return x.detach(), q, number


def peer(step: Step, starts: torch.Tensor, rate: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the fixed points that Adam finds, with their eigenvalues, and the number of steps."""
    states, q, number = adam_on_speed(step, starts, rate)
    good = q < TOLERANCE
    chosen, _ = distinct(states[good], q[good], torch.zeros(int(good.sum()), dtype=torch.int64), 1e-2)
    points = states[good][chosen]
    jacobians = torch.func.vmap(torch.func.jacrev(lambda x: step(x[None])[0]))(points)
    return points.numpy(), np.linalg.eigvals(jacobians.numpy()), number


def networks() -> dict[str, tuple[nn.Module, Step, torch.Tensor]]:
    """Return an adapted network, its plain cell for the peer, and where both begin."""
    found = {}
    for name, title in (("flip_flop_rnn", "tanh"), ("flip_flop_gru", "GRU")):
        model = nm.load_model(name).requires_grad_(False)
        n_units = model.rnn.hidden_size
        cell = nn.RNNCell(3, n_units) if title == "tanh" else nn.GRUCell(3, n_units)
        cell.load_state_dict({key.removesuffix("_l0"): value for key, value in model.rnn.state_dict().items()})
        cell.requires_grad_(False)
        visited = model.rnn(flip_flop(64, n_steps=60, seed=1).inputs)[0].reshape(-1, n_units)
        same = torch.zeros(len(visited), dtype=torch.int64)
        starts, _ = draw_starts(visited, same, N_STARTS, 0.0, np.random.default_rng(0))
        inputs = torch.zeros(N_STARTS, 3)
        found[f"{title}, {n_units} units"] = (
            nm.adapt(model),
            lambda x, cell=cell, inputs=inputs: cell(inputs[: len(x)], x),
            starts,
        )
    return found


def all_of(points: np.ndarray, others: np.ndarray) -> int:
    """Return how many of the points are among the others."""
    distances = np.linalg.norm(points[:, None] - others[None], axis=-1)
    return int((distances.min(1) < 1e-2).sum()) if len(others) else 0


def seconds(function: Callable[[], object]) -> float:
    begin = time.process_time()
    function()
    return time.process_time() - begin


def contest(name: str, adapted: object, step: Step, starts: torch.Tensor) -> None:
    finder = nm.FixedPointFinder(adapted, progress=False)
    ours = finder.find(starts)
    tried = {}
    for rate in RATES:
        points, _, number = peer(step, starts, rate)
        tried[rate] = all_of(ours.states, points), len(points), seconds(lambda r=rate: peer(step, starts, r))
        found = f"{tried[rate][0]} of {len(ours.states)} in {number} steps"
        print(f"{name}: Adam at rate {rate:g} found {found}", flush=True)
    best = min(RATES, key=lambda rate: (-tried[rate][0], tried[rate][1] > len(ours.states), tried[rate][2]))
    pairs = [(seconds(lambda: finder.find(starts)), seconds(lambda: peer(step, starts, best))) for _ in range(ROUNDS)]
    mine, theirs = (median(times) for times in zip(*pairs, strict=True))
    ratios = [b / a for a, b in pairs]
    kinds = " + ".join(map(str, np.bincount(ours.n_unstable)))
    print("| work | ratio (range) | ours | theirs |")
    print(
        f"| fixed points, {name}: {len(ours.states)} = {kinds}, index sum {ours.index_sum}; Adam, rate {best:g}, "
        f"{tried[best][0]} | {theirs / mine:.1f} ({min(ratios):.1f} to {max(ratios):.1f}) "
        f"| {1000 * mine:.0f} ms | {1000 * theirs:.0f} ms |",
        flush=True,
    )


def main() -> None:
    print(f"{N_STARTS:,} initial states, half of them states of trials and half halfway between two; processor time")
    for name, (adapted, step, starts) in networks().items():
        contest(name, adapted, step, starts)


if __name__ == "__main__":
    main()
