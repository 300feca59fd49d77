"""What every room of geometry makes of labelled, extreme or mistaken data."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError

random = np.random.default_rng(0)
cloud = random.normal(size=(80, 3))
classes = random.normal(size=(12, 1, 20)) + 0.2 * random.normal(size=(12, 8, 20))
sessions = 3 * random.normal(size=(2, 1, 12, 6)) + random.normal(size=(2, 6, 12, 6))
repeats = random.normal(size=(40, 15)) + 0.3 * random.normal(size=(4, 40, 15))


def capacity(x):
    return nm.manifold_capacity(x, n_samples=10, progress=False).capacity


def drift(x):
    return nm.representation_drift(x, n_permutations=19, progress=False).total[0]


def exponent(x):
    return nm.signal_spectrum(x, fit_from=1, n_permutations=19).exponent


LABELLED = {
    "capacity": (capacity, classes, ("manifold", "point", "unit")),
    "capacity of stimuli": (capacity, classes, ("stimulus", "trial", "neuron")),
    "drift": (drift, sessions, ("session", "repeat", "condition", "unit")),
    "drift of a recording": (drift, sessions, ("session", "repetition", "stimulus", "unit")),
    "spectrum": (exponent, repeats, ("trial", "stimulus", "unit")),
}


@pytest.mark.parametrize("name", LABELLED)
def test_labelled_axes_may_come_in_any_order(name):
    method, values, dims = LABELLED[name]
    labelled = xr.DataArray(values, dims=dims)
    plain = method(values)
    assert method(labelled) == plain
    assert method(labelled.transpose(*dims[::-1])) == plain
    with pytest.raises(InputError, match="not clear which axis"):
        method(labelled.rename({dims[0]: "other"}))
    with pytest.raises(InputError, match=r"not clear which axis[\s\S]* x\.rename"):
        method(labelled.expand_dims("time"))


def test_axes_of_recordings_are_renamed_through_their_data():
    other = nm.Recording(sessions, ("day", "attempt", "stimulus", "unit"))
    with pytest.raises(InputError, match=r"not clear which axis[\s\S]* x\.data\.rename"):
        drift(other)
    assert drift(other.data.rename(attempt="repetition")) == drift(sessions)


def test_sessions_in_a_list_may_be_recordings():
    dims = ("trial", "stimulus", "unit")
    assert drift([nm.Recording(one, dims=dims) for one in sessions]) == drift(sessions)


@pytest.mark.parametrize("value", [3.0, np.zeros((1, 1, 1, 1, 1))])
def test_other_numbers_of_axes_are_refused(value):
    with pytest.raises(InputError, match="these are no manifolds"):
        capacity(value)
    with pytest.raises(InputError, match="these are no sessions"):
        drift(value)
    with pytest.raises(InputError, match="times do not fit"):
        nm.representation_drift(sessions, times=3.0)


def test_points_need_an_axis_of_features():
    found = nm.intrinsic_dimension(xr.DataArray(cloud.T, dims=("unit", "anything")), progress=False)
    assert found.dimension == pytest.approx(nm.intrinsic_dimension(cloud, progress=False).dimension)
    for dims in (("a", "b"), ("sample", "position")):
        with pytest.raises(InputError, match="no axis of features"):
            nm.intrinsic_dimension(xr.DataArray(cloud, dims=dims))


def test_degrees_on_a_circle_of_two_pi_are_told():
    heading = np.random.default_rng(1).uniform(0, 2 * np.pi, 120)
    responses = np.cos(heading[:, None] - np.arange(6)) + np.random.default_rng(2).normal(size=(120, 6))
    plain = nm.tuning_manifold(responses, heading, progress=False)
    degrees = nm.tuning_manifold(responses, np.degrees(heading), period=360, progress=False)
    assert degrees.mean_r2 == pytest.approx(plain.mean_r2)
    with pytest.warns(UserWarning, match="period=360"):
        wrong = nm.tuning_manifold(responses, np.degrees(heading), progress=False)
    assert wrong.mean_r2 < 0.05 < plain.mean_r2


def test_a_grid_has_no_correlation_dimension():
    grid = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0)), axis=-1).reshape(-1, 2)
    with pytest.raises(InputError, match="lie on a grid"):
        nm.intrinsic_dimension(grid, "correlation", progress=False)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_what_cannot_be_squared_is_refused(scale):
    apart = np.abs(np.arange(40.0)[:, None] - np.arange(40.0))
    heading = np.linspace(0, 6, 80)
    for call in (
        lambda: nm.persistent_homology(scale * cloud, n_surrogates=19, progress=False),
        lambda: nm.geodesics(scale * cloud),
        lambda: nm.hyperbolicity(distances=scale * apart, progress=False),
        lambda: nm.tuning_manifold(scale * cloud, heading, progress=False),
        lambda: nm.manifold_capacity(scale * cloud, np.arange(80) % 8, progress=False),
        lambda: capacity(scale * classes),
        lambda: drift(scale * sessions),
        lambda: exponent(scale * repeats),
    ):
        with pytest.raises(InputError, match=r"too large|too small"):
            call()


@pytest.mark.parametrize("scale", [1e45, 1e-45])
def test_all_that_is_not_refused_is_computed(scale):
    assert capacity(scale * classes) == pytest.approx(capacity(classes))
    assert drift(scale * sessions) == pytest.approx(drift(sessions))
    assert exponent(scale * repeats) == pytest.approx(exponent(repeats))
    plain, other = (nm.hyperbolicity(x, n_quadruples=1000, progress=False) for x in (cloud, scale * cloud))
    assert (other.mean, other.p) == pytest.approx((plain.mean, plain.p))
