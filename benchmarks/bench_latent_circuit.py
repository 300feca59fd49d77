"""Latent circuits by Levenberg-Marquardt and the published way, on planted circuits whose wiring is known.

The published way (Langdon and Engel 2025), written here after its description: one start with small random weights, an
embedding made of a skew-symmetric matrix by Cayley's transform, Adam with weight decay on mse_z + nmse_y, masks put
back after every step. It is run without the noise that its simulations may add. Both fit the same two thirds of the
conditions. Errors are shares of the variance of the activity without noise, in the other third.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
import warnings
from statistics import median
from typing import NamedTuple

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.datasets.latent_circuits import LatentCircuitData, planted_latent_circuit
from neuros_mechint.neuro.circuits.latent.model import LatentCircuitModel

torch.set_num_threads(1)
N_NODES, N_SEEDS, NOISES = 8, 3, (0.0, 0.1, 0.3)
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 500, 128, 0.02, 1e-3


class Found(NamedTuple):
    connectivity: Floats
    predicted: Floats
    seconds: float


class PublishedCircuit(torch.nn.Module):
    """Relu nodes with leak, and an embedding that Cayley's transform keeps orthonormal."""

    def __init__(self, data: LatentCircuitData, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        n_units, n_inputs, n_outputs = (a.shape[-1] for a in (data.activity, data.inputs, data.outputs))

        def drawn(*shape: int, mean: float, spread: float) -> torch.nn.Parameter:
            return torch.nn.Parameter(mean + spread * torch.randn(*shape, generator=random))

        self.alpha = data.alpha
        self.recurrent = drawn(N_NODES, N_NODES, mean=0.0, spread=0.025)
        self.inward = drawn(N_NODES, n_inputs, mean=0.2, spread=0.01)
        self.outward = drawn(n_outputs, N_NODES, mean=0.2, spread=0.01)
        self.free = torch.nn.Parameter(torch.rand(n_units, n_units, generator=random))
        self.input_mask = torch.eye(N_NODES, n_inputs)
        self.output_mask = torch.eye(N_NODES)[-n_outputs:]
        self.restrict()

    @torch.no_grad()
    def restrict(self) -> None:
        self.inward.copy_(self.inward.relu() * self.input_mask)
        self.outward.copy_(self.outward.relu() * self.output_mask)

    def embedding(self) -> torch.Tensor:
        skew, eye = (self.free - self.free.T) / 2, torch.eye(len(self.free))
        return ((eye - skew) @ torch.linalg.inv(eye + skew))[:N_NODES]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        driven = inputs @ self.inward.T
        state = torch.zeros(len(inputs), N_NODES)
        states = [state]
        for time_step in range(inputs.shape[1] - 1):
            received = state @ self.recurrent.T + driven[:, time_step]
            state = (1 - self.alpha) * state + self.alpha * received.relu()
            states.append(state)
        return torch.stack(states, 1)


def published(data: LatentCircuitData, fitted: np.ndarray, held: np.ndarray, seed: int) -> Found:
    begin = time.process_time()
    inputs, activity, outputs = (
        torch.from_numpy(values[fitted]).float() for values in (data.inputs, data.activity, data.outputs)
    )
    circuit = PublishedCircuit(data, seed)
    adam = torch.optim.Adam(circuit.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(EPOCHS):
        for batch in torch.arange(len(inputs)).split(BATCH):
            adam.zero_grad()
            states, recorded = circuit(inputs[batch]), activity[batch]
            mse_z = (states @ circuit.outward.T - outputs[batch]).square().sum() / states[..., 0].numel()
            spread = (recorded - recorded.mean((0, 1))).square().mean()
            nmse_y = (states @ circuit.embedding() - recorded).square().mean() / spread
            (mse_z + nmse_y).backward()
            adam.step()
            circuit.restrict()
    seconds = time.process_time() - begin
    with torch.no_grad():
        predicted = circuit(torch.from_numpy(data.inputs[held]).float()) @ circuit.embedding()
        return Found(circuit.recurrent.double().numpy(), predicted.double().numpy(), seconds)


def ours(data: LatentCircuitData, fitted: np.ndarray, held: np.ndarray, seed: int) -> Found:
    begin = time.process_time()
    model = LatentCircuitModel(N_NODES, alpha=data.alpha, seed=seed)
    recorded = (values[fitted] for values in (data.inputs, data.activity, data.outputs))
    model.fit(*recorded, conditions=data.conditions[fitted])
    seconds = time.process_time() - begin
    return Found(model.connectivity_, model.predict(data.inputs[held]).activity, seconds)


def judged(found: Found, data: LatentCircuitData, clean: Floats) -> tuple[float, float, float]:
    """Return held-out error, correlation of the connectivity with the planted one, and seconds."""
    error = np.square(found.predicted - clean).sum() / np.square(clean - clean.mean((0, 1))).sum()
    alike = np.corrcoef(found.connectivity.ravel(), data.connectivity.ravel())[0, 1]
    return float(error), float(alike), found.seconds


def row(noise: float) -> str:
    rows = {"ours": [], "published": []}
    for seed in range(N_SEEDS):
        data = planted_latent_circuit(noise=noise, seed=seed)
        clean = planted_latent_circuit(noise=0.0, seed=seed).activity
        held = data.conditions % 3 == seed % 3
        for name, method in (("ours", ours), ("published", published)):
            rows[name].append(judged(method(data, ~held, held, seed), data, clean[held]))
    ratios = [theirs[2] / mine[2] for mine, theirs in zip(rows["ours"], rows["published"], strict=True)]
    cells = [f"| {noise:g} | {median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |"]
    for name in rows:
        errors, alike, seconds = zip(*rows[name], strict=True)
        cells.append(
            f" {median(errors):.1e} (up to {max(errors):.1e}) | {median(alike):.3f} ({min(alike):.3f} to "
            f"{max(alike):.3f}) | {median(seconds):.1f} s |"
        )
    lower = all(mine[0] < theirs[0] for mine, theirs in zip(rows["ours"], rows["published"], strict=True))
    return "".join(cells) + f" {'lower in each' if lower else 'not lower in each'} |"


def main() -> None:
    warnings.filterwarnings("ignore")
    print(f"gating circuits, {N_NODES} nodes in 50 units, {N_SEEDS} seeds, process time, one thread")
    print("| noise | time ratio | ours: held-out error | connectivity r | time | published | r | time | error |")
    for noise in NOISES:
        print(row(noise), flush=True)


if __name__ == "__main__":
    main()
