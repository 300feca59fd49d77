"""Train the embedded networks for context-dependent decisions: ``python scripts/train_decision.py``.

Seed 0 of either network reaches the accuracy of an ideal observer of 40 noisy steps (0.62, 0.83, 1.00 for
coherences 0.05, 0.15, 0.5); no other seed was tried.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from _training import make_deterministic, masked_squared_error, save_weights, train

from neuros_mechint.datasets.networks import RecurrentNetwork
from neuros_mechint.datasets.tasks import context_decision
from neuros_mechint.neuro.biophysics.dale.signs import put_back, source_signs

ARGUMENTS: dict[str, dict[str, Any]] = {
    "decision_rnn": {"n_inputs": 4, "n_units": 64, "n_outputs": 1, "cell": "rnn", "nonlinearity": "tanh"},
    "decision_dale_rnn": {
        "n_inputs": 4,
        "n_units": 100,
        "n_outputs": 1,
        "cell": "rnn",
        "nonlinearity": "relu",
    },
}
EXCITATORY_FRACTION = 0.8


class DaleConstraint:
    """Keeps every column of the recurrent weights, one presynaptic unit, at one sign: excitatory units first."""

    def __init__(self, weights: torch.Tensor) -> None:
        self.weights = weights
        self.signs = source_signs(weights.shape[1], EXCITATORY_FRACTION)

    @torch.no_grad()
    def initialize(self, spectral_radius: float = 0.9) -> None:
        """Draw magnitudes with as much inhibition as excitation in all, scaled to a spectral radius."""
        balance = torch.where(self.signs > 0, 1.0, EXCITATORY_FRACTION / (1 - EXCITATORY_FRACTION))
        self.weights.copy_(torch.rand_like(self.weights) * balance * self.signs)
        self.weights.mul_(spectral_radius / torch.linalg.eigvals(self.weights).abs().max())

    def __call__(self) -> None:
        """Put the weights back on their side of zero."""
        put_back(self.weights, self.signs)


def train_decision(name: str, seed: int, n_steps: int = 1500, progress: bool = True) -> RecurrentNetwork:
    """Return a network trained on fresh trials at every step of training."""
    make_deterministic(seed)
    model = RecurrentNetwork(**ARGUMENTS[name])
    constrain = None
    if name == "decision_dale_rnn":
        constrain = DaleConstraint(model.rnn.weight_hh_l0)
        constrain.initialize()
    random = np.random.default_rng(seed)
    train(
        model,
        draw=lambda step: context_decision(128, seed=random),
        loss=masked_squared_error,
        n_steps=n_steps,
        learning_rate=1e-3,
        constrain=constrain,
        progress=progress,
    )
    return model.eval()


if __name__ == "__main__":
    for network_name, arguments in ARGUMENTS.items():
        trained = train_decision(network_name, seed=0)
        trials = context_decision(4000, seed=1)
        right = (trained(trials.inputs).sign() == trials.targets)[:, -1, 0].numpy()
        conditions = trials.conditions
        evidence = np.where(conditions["context"] == 0, conditions["motion"], conditions["color"])
        accuracy = {float(c): float(right[abs(evidence) == c].mean()) for c in np.unique(abs(evidence))}
        print(f"{network_name}: accuracy by strength of the relevant evidence {accuracy}")
        save_weights(trained, arguments, network_name)
