from __future__ import annotations

import numpy as np
import pytest
from wilson_cowan.adapter import WilsonCowanAdapter
from wilson_cowan.network import WilsonCowanNetwork

import neuros_mechint as nm
from neuros_mechint.adapters.conformance import check_adapter


@pytest.fixture
def inputs():
    return np.random.default_rng(0).normal(size=(3, 6, 2))


def test_the_adapter_conforms(inputs):
    check_adapter(WilsonCowanAdapter(WilsonCowanNetwork()), inputs).assert_passed()


def test_installing_the_package_is_enough(inputs):
    network = WilsonCowanNetwork()
    model = nm.adapt(network)
    assert isinstance(model, WilsonCowanAdapter)
    np.testing.assert_array_equal(model.run(inputs).output, network.run(inputs))


def test_silenced_inhibition_lets_excitation_grow():
    model = WilsonCowanAdapter(WilsonCowanNetwork())
    inputs = np.zeros((1, 50, 2))
    silenced = model.run(inputs, edits=nm.Zero("inhibitory"), capture="excitatory").activations["excitatory"]
    assert (silenced[:, -1] > model.capture(inputs, "excitatory")["excitatory"][:, -1]).all()
