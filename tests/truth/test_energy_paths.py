"""Paths over landscapes whose saddles are known, and actions that are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.result import load_result
from neuros_mechint.datasets.systems import rotating_decay
from neuros_mechint.neuro.information.energy.paths.action import minimum_action_path
from neuros_mechint.neuro.information.energy.paths.energy import evenly_spaced, minimum_energy_path
from tests.slow import slow_case


def muller_brown(x):
    """The benchmark of path methods; minima -146.70, -80.77, -108.17, saddles -40.66 and -72.25."""
    height, a = torch.tensor([[-200.0, -100.0, -170.0, 15.0], [-1.0, -1.0, -6.5, 0.7]], dtype=torch.float64)
    b, c = torch.tensor([[0.0, 0.0, 11.0, 0.6], [-10.0, -10.0, -6.5, 0.7]], dtype=torch.float64)
    at = torch.tensor([[1.0, 0.0, -0.5, -1.0], [0.0, 0.5, 1.5, 1.0]], dtype=torch.float64)
    dx, dy = x[:, :1] - at[0], x[:, 1:] - at[1]
    return (height * torch.exp(a * dx**2 + b * dx * dy + c * dy**2)).sum(1)


def bent_wells(x):
    return (x[:, 0] ** 2 - 1) ** 2 + 2 * (x[:, 1] - x[:, 0] ** 2) ** 2


def down_bent_wells(x):
    u, off = x[:, 0], x[:, 1] - x[:, 0] ** 2
    return -torch.stack([4 * u * (u**2 - 1) - 8 * off * u, 4 * off], 1)


def maier_stein(beta):
    def drift(x):
        u, v = x[:, 0], x[:, 1]
        return torch.stack([u - u**3 - beta * u * v**2, -(1 + u**2) * v], 1)

    return drift


# -- least energy ------------------------------------------------------------------------------------------------------


def test_path_of_the_muller_brown_potential_passes_its_saddle():
    path = minimum_energy_path(muller_brown, [-0.5, 1.4], [0.6, 0.1])
    assert path.converged
    assert path.saddle == pytest.approx([-0.822, 0.624], abs=1e-3)
    assert path.energies[[0, -1]] == pytest.approx([-146.70, -108.17], abs=0.01)
    assert path.barrier == pytest.approx(146.70 - 40.66, abs=0.02)
    # on its way it goes through the third minimum and the second saddle
    inner = path.energies[1:-1]
    dips = inner[(inner < path.energies[:-2]) & (inner < path.energies[2:])]
    assert dips == pytest.approx([-80.77], abs=1.0)
    assert minimum_energy_path(muller_brown, [0.0, 0.5], [0.6, 0.1]).barrier == pytest.approx(80.77 - 72.25, abs=0.02)


def test_path_bends_with_the_valley():
    path = minimum_energy_path(bent_wells, [-1.0, 0.7], [1.0, 1.2])
    assert path.saddle == pytest.approx([0, 0], abs=1e-4)
    assert path.barrier == pytest.approx(1, abs=1e-4)
    spacing = np.linalg.norm(np.diff(path.points, axis=0), axis=1)
    assert spacing.max() < 1.05 * spacing.min()
    # along the path only the slope along it is left
    points = torch.from_numpy(path.points).requires_grad_()
    slope = torch.autograd.grad(bent_wells(points).sum(), points)[0].numpy()[5:-5]
    tangent = np.gradient(path.points, axis=0)[5:-5]
    cosine = np.abs((slope * tangent).sum(1)) / np.linalg.norm(slope, axis=1) / np.linalg.norm(tangent, axis=1)
    steep = np.linalg.norm(slope, axis=1) > 0.3
    assert cosine[steep].min() > 0.95


def test_ends_without_a_pass_between():
    with pytest.raises(InputError, match="no pass between"):
        minimum_energy_path(lambda x: x.square().sum(1), [-1.0, 0.0], [1.0, 0.5])
    with pytest.raises(InputError, match="start and end do not fit"):
        minimum_energy_path(bent_wells, [0.0, 0.0], [0.0, 0.0])
    with pytest.raises(InputError, match="no potential"):
        minimum_energy_path(lambda x: x, [0.0, 0.0], [1.0, 0.0])


def test_even_spacing_of_a_circle():
    angle = np.linspace(0, np.pi, 60) ** 2 / np.pi
    found = evenly_spaced(np.stack([np.cos(angle), np.sin(angle)], 1))
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(60), abs=1e-4)
    assert np.ptp(np.linalg.norm(np.diff(found, axis=0), axis=1)) < 1e-3


# -- least action ------------------------------------------------------------------------------------------------------


def test_action_along_a_gradient_is_twice_the_barrier():
    up = minimum_action_path(down_bent_wells, [-1.0, 1.0], [0.0, 0.0], n_points=41)
    assert up.action == pytest.approx(2, rel=0.01)
    assert minimum_action_path(down_bent_wells, [0.0, 0.0], [1.0, 1.0], n_points=21).action == pytest.approx(
        0, abs=0.01
    )
    string = minimum_energy_path(bent_wells, [-1.0, 1.0], [1.0, 1.0], through=[0.0, 0.5])
    left = string.points[string.points[:, 0] < 0]
    nearest = np.linalg.norm(up.points[:, None] - left, axis=2).min(1)
    assert nearest.max() < 0.06  # uphill, it is the path of least energy


@pytest.mark.slow
def test_action_over_a_saddle_is_that_of_the_way_up():
    over = minimum_action_path(down_bent_wells, [-1.0, 1.0], [1.0, 1.0])
    assert over.action == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("rotation", [0.0, 1.0, slow_case(3.0)])
def test_action_against_a_turning_drift_does_not_depend_on_the_turn(rotation):
    """The quasi-potential of rotating decay is r^2 at any rotation: the way out turns as the way in does."""
    out = minimum_action_path(lambda x: rotating_decay(x, rotation=rotation), [0.0, 0.0], [1.0, 0.0])
    assert out.action == pytest.approx(1, rel=0.01)
    if rotation == 3.0:
        straight = np.linspace(0, 1, 200)[:, None] * [1.0, 0.0]
        assert np.abs(out.points[:, 1]).max() > 0.1
        b = rotating_decay(torch.from_numpy(straight), rotation=rotation).numpy()
        steps = np.diff(straight, axis=0)
        costs = np.linalg.norm(b[:-1], axis=1) * np.linalg.norm(steps, axis=1) - (b[:-1] * steps).sum(1)
        assert costs.sum() > 1.9  # what the straight way costs


def test_action_of_the_maier_stein_system():
    """At beta = 1 it is a gradient, whose barrier is 1 / 4; at 10 the straight way is no longer the likeliest."""
    ends = [-1.0, 0.0], [0.0, 0.0]
    assert minimum_action_path(maier_stein(1.0), *ends).action == pytest.approx(0.5, abs=1e-3)
    bent = minimum_action_path(maier_stein(10.0), *ends, through=[-0.5, 0.2])
    assert bent.points[:, 1].max() > 0.25
    assert bent.action < 0.36
    assert minimum_action_path(maier_stein(10.0), *ends).action > bent.action + 0.1  # the axis itself stays a way


def test_no_drift():
    with pytest.raises(InputError, match="no drift"):
        minimum_action_path(lambda x: x.sum(1), [0.0, 0.0], [1.0, 0.0])


# -- results -----------------------------------------------------------------------------------------------------------


def test_paths_are_told_drawn_kept_and_reported(tmp_path):
    over = minimum_energy_path(bent_wells, [-1.0, 1.0], [1.0, 1.0], through=[0.0, 0.5])
    out = minimum_action_path(lambda x: -x, [0.0, 0.0], [1.0, 0.0], n_points=21)
    assert "barrier 1 from the start and 1 from the end" in over.summary()
    assert "action 1" in out.summary()
    assert out.main.values[0] == 0
    assert (np.diff(out.main) > 0).all()
    report = nm.Report("Ways")
    for path in (over, out):
        assert path.plot().get_xlabel() == "length of the way"
        assert load_result(path.save(tmp_path / "path.nc")) == path
        assert path.citations
        assert path.provenance.arguments["n_points"] == len(path.points)
        report.add(path)
    assert report.save(tmp_path / "report.html").exists()


def test_a_search_that_did_not_come_to_rest_says_so():
    found = minimum_energy_path(bent_wells, [-1.3, 1.0], [1.3, 1.0], through=[0.0, 3.0], n_rounds=1)
    assert not found.converged
    assert "did not come to rest" in found.summary()


@pytest.mark.parametrize("search", [minimum_energy_path, minimum_action_path])
@pytest.mark.parametrize("function", [None, lambda x: 1.0, lambda x: x.detach().numpy(), "x ** 2"])
def test_what_is_no_function_in_torch_is_refused(search, function):
    with pytest.raises(InputError, match=r"is no (function|potential|drift)"):
        search(function, [0.0, 0.0], [1.0, 0.0])
