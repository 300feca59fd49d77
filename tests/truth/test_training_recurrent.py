"""Bare recurrent modules in a tracker: read at their states, with samples along the first axis or the second."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neuros_mechint.core.errors import InputError
from neuros_mechint.training.tracker import MetaDynamicsTracker

mse = nn.functional.mse_loss


@pytest.mark.parametrize("axis", [0, 1])
def test_a_bare_recurrent_module_is_read_at_its_states(axis):
    model = nn.RNN(3, 4, batch_first=axis == 0)
    inputs = torch.randn(48, 6, 3, generator=torch.Generator().manual_seed(1)).swapaxes(0, axis)
    states = model(inputs)[0].detach()

    def of_all(output, targets):
        return mse(output[0], targets)

    def of_last(output, targets):
        return mse(output[0].select(1 - axis, -1), targets)

    for loss, targets in ((of_all, torch.zeros_like(states)), (of_last, torch.zeros(48, 4))):
        tracker = MetaDynamicsTracker(model, inputs, targets, loss)
        assert tracker.sites == ["hidden"]
        tracker.update(0)
        assert tracker.record()["loss"].item() == pytest.approx(float(loss((states,), targets)), rel=1e-5)
    with pytest.raises(InputError, match="do not fit" if axis == 0 else r"do not fit[\s\S]*batch_first=False"):
        MetaDynamicsTracker(model, inputs, torch.zeros(5, 4), of_last)
