"""Attributions equal those of captum's own classes for modules, and are right where these are not."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

import neuros_mechint as nm
from tests.truth.small_networks import captum_may_warn, drawn, first, normal, tanh_net


def test_deeplift_is_right_where_one_nonlinear_module_reads_another_and_captum_alone_is_not():
    net = nn.Sequential(nn.Conv1d(1, 1, 1), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten())
    net[0].weight.data.fill_(1.0)
    net[0].bias.data.zero_()
    inputs, baseline = torch.tensor([[[1.0, -1.0]]]), torch.tensor([[[0.0, 3.0]]])
    # the maximum falls from the 3 of the baseline to 1: -2, all through the entry that was the largest
    got = nm.attribute(nm.adapt(net), inputs, first, "deeplift", baseline=baseline)
    np.testing.assert_allclose(got.values[0, 0], [0, -2], atol=1e-6)
    with captum_may_warn():
        alone = captum.attr.DeepLift(net).attribute(inputs.clone().requires_grad_(), baseline, target=0)
    assert abs(alone.sum().item() + 2) > 0.1  # should captum mend it, the copies made for it in deeplift.py can go


# -- captum's own classes for modules --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images():
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 4, 1),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(12, 2),
    )
    return drawn(net, 3, 0.5), normal(3, 2, 8, 8), normal(3, 2, 8, 8, seed=4)


@pytest.mark.parametrize("layer", [0, 1, 3, 5, 6])
def test_layers_equal_captums_layer_methods(images, layer):
    net, inputs, baseline = images
    model = nm.adapt(net)
    options = {"at": str(layer), "baseline": model.capture(baseline, str(layer))}
    path = captum.attr.LayerIntegratedGradients(net, net[layer])
    expected = path.attribute(inputs, baseline, target=1, n_steps=20).detach()
    got = nm.attribute(model, inputs, lambda output: output[:, 1], n_steps=20, **options)
    np.testing.assert_allclose(got.values, expected, rtol=1e-4, atol=1e-6)
    with captum_may_warn():
        expected = captum.attr.LayerDeepLift(net, net[layer]).attribute(inputs, baseline, target=1).detach()
    got = nm.attribute(model, inputs, lambda output: output[:, 1], "deeplift", **options)
    np.testing.assert_allclose(got.values, expected, rtol=1e-4, atol=1e-6)


def test_the_input_equals_captums_deeplift_and_has_the_axes_of_an_image(images):
    net, inputs, baseline = images
    with captum_may_warn():
        expected = captum.attr.DeepLift(net).attribute(inputs.clone().requires_grad_(), baseline, target=0).detach()
    got = nm.attribute(nm.adapt(net), inputs, first, "deeplift", baseline=baseline)
    np.testing.assert_allclose(got.values, expected, rtol=1e-4, atol=1e-6)
    assert got.values.dims == ("sample", "channel", "height", "width")


@pytest.mark.parametrize("unit", [0, 4])
def test_units_equal_captums_neuron_methods(unit):
    net, inputs = tanh_net(), normal(5, 6)
    expected = captum.attr.NeuronIntegratedGradients(net, net[2]).attribute(inputs, unit, n_steps=30).detach()
    got = nm.attribute(nm.adapt(net), inputs, target=f"2[unit={unit}]", n_steps=30)
    np.testing.assert_allclose(got.values, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.data["metric"], net[:3](inputs)[:, unit].detach(), rtol=1e-5)
    with captum_may_warn():
        expected = captum.attr.NeuronDeepLift(net, net[2]).attribute(inputs, unit).detach()
    lifted = nm.attribute(nm.adapt(net), inputs, target=f"2[unit={unit}]", method="deeplift")
    np.testing.assert_allclose(lifted.values, expected, rtol=1e-4, atol=1e-6)
    # from one site to another: a linear layer in between
    inside = nm.attribute(nm.adapt(net), inputs, target=f"2[unit={unit}]", at="1")
    np.testing.assert_allclose(inside.values, (net[2].weight[unit] * net[:2](inputs)).detach(), rtol=1e-4, atol=1e-6)
