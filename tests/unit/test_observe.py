from __future__ import annotations

import torch
from torch import nn

import neuros_mechint as nm


class Reused(nn.Module):
    """A submodule that runs twice, and one that never runs."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.never = nn.Conv1d(3, 4, 1), nn.ReLU(), nn.Linear(2, 2)

    def forward(self, x):
        return self.relu(self.relu(self.conv(x)))


INPUTS = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))


def test_modules_are_listed_as_they_ran():
    sites = nm.adapt(Reused(), example=INPUTS).sites()
    assert list(sites) == ["conv", "relu#0", "relu#1"]
    assert sites["conv"].dims == ("sample", "channel", "position")
    assert sites["conv"].shape == (None, 4, None)
    assert [site.order for site in sites.values()] == [0, 1, 2]


def test_before_any_input_there_are_only_paths_and_afterwards_axes():
    model = nm.adapt(Reused())
    assert set(model.sites()) == {"conv", "relu", "never"}
    model.run(INPUTS)
    assert list(model.sites()) == ["conv", "relu#0", "relu#1"]


def test_a_pattern_captures_every_call():
    module = Reused()
    captured = nm.adapt(module).capture(INPUTS, "*")
    assert list(captured) == ["conv", "relu#0", "relu#1"]
    torch.testing.assert_close(captured["relu#1"], module.conv(INPUTS).relu().detach())


def test_hooks_are_gone_and_statistics_unmoved():
    module = nn.Sequential(nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4))
    before = module[1].running_mean.clone()
    nm.adapt(module, example=INPUTS).sites()
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert torch.equal(module[1].running_mean, before)
    assert module.training
