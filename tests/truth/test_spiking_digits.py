"""A spiking network learns to read digits, and learns nothing from labels that are shuffled."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

from neuros_mechint.core.random import generator
from neuros_mechint.datasets.spiking_digits import SpikingDigits, spiking_digits
from neuros_mechint.neuro.biophysics.neurons.lif import LIF
from neuros_mechint.neuro.biophysics.spiking.network import SpikingNeuralNetwork


def _accuracy(digits: SpikingDigits, n_epochs: int, n_hidden: int, seed: int) -> float:
    """Train with cross-entropy of the spike counts; return the share of test images that are read right."""
    network = SpikingNeuralNetwork([64, n_hidden, 10], LIF(tau=10.0), surrogate="arctan", learn=["tau"], seed=seed)
    optimizer = torch.optim.Adam(network.parameter_groups(0.03))
    random = generator(seed)
    for _ in range(n_epochs):
        for rows in torch.from_numpy(random.permutation(len(digits.labels))).split(64):
            optimizer.zero_grad()
            rates = network(digits.inputs[rows]).mean(1)
            torch.nn.functional.cross_entropy(10 * rates, digits.labels[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        read = network(digits.test_inputs).sum(1).argmax(1)
    return float((read == digits.test_labels).float().mean())


def _shuffled(digits: SpikingDigits, seed: int) -> SpikingDigits:
    order = torch.from_numpy(generator(seed).permutation(len(digits.labels)))
    return digits._replace(labels=digits.labels[order])


def test_digits_are_learned_quickly_and_shuffled_labels_are_not() -> None:
    digits = spiking_digits(n_times=15, seed=0)
    assert _accuracy(digits, n_epochs=3, n_hidden=60, seed=0) > 0.85
    assert _accuracy(_shuffled(digits, 1), n_epochs=3, n_hidden=60, seed=0) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_digits_are_read(seed: int) -> None:
    begin = time.process_time()
    assert _accuracy(spiking_digits(seed=seed), n_epochs=15, n_hidden=200, seed=seed) >= 0.95
    assert time.process_time() - begin < 180


def test_bright_pixels_fire_more() -> None:
    digits = spiking_digits(n_times=40, brightest=0.5, seed=3)
    again, other = spiking_digits(n_times=40, brightest=0.5, seed=3), spiking_digits(n_times=40, brightest=0.5, seed=4)
    assert torch.equal(digits.inputs, again.inputs)
    assert not torch.equal(digits.inputs, other.inputs)
    fired = torch.cat([digits.inputs, digits.test_inputs]).mean((0, 1))
    images: Any = load_digits(return_X_y=True)[0]
    bright = torch.from_numpy(images.mean(0) / 16).float()
    assert float((fired - 0.5 * bright).abs().max()) < 0.01  # five standard errors of 1,797 x 40 draws
