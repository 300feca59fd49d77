"""Lacunarity of uniform and random patterns, known exactly, of fractals, whose exponent is known, and boxes by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError


def by_hand(pattern, size):
    boxes = np.lib.stride_tricks.sliding_window_view(pattern, (size,) * pattern.ndim)
    masses = boxes.sum(tuple(range(-pattern.ndim, 0)))
    return (masses**2).mean() / masses.mean() ** 2


@pytest.mark.parametrize("shape", [(50,), (17, 23)])
def test_boxes_glide_as_they_do_by_hand(shape):
    pattern = np.random.default_rng(0).gamma(0.5, size=shape)
    sizes = [1, 2, 3, 7, 16]
    found = nm.Lacunarity(len(shape), sizes)(pattern)
    np.testing.assert_allclose(found, [by_hand(pattern, size) for size in sizes], rtol=1e-12)


def test_a_uniform_pattern_has_1_everywhere():
    torch.testing.assert_close(
        nm.Lacunarity()(np.full(64, 3.0)), torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-12
    )
    found = nm.Lacunarity(2)(np.full((2, 32, 32), 0.1))
    torch.testing.assert_close(found, torch.ones(2, 4, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize(("shape", "tolerance"), [((4096,), 0.03), ((96, 96), 0.03)])
def test_independent_points_have_theirs(p, shape, tolerance):
    n_axes, random = len(shape), np.random.default_rng(0)
    patterns = (random.random((40, *shape)) < p).astype(float)
    sizes = np.array([1, 2, 4, 8])
    found = nm.Lacunarity(n_axes, sizes.tolist())(patterns).numpy()
    known = 1 + (1 - p) / (p * sizes**n_axes)
    np.testing.assert_allclose(found.mean(0) / known, 1, atol=tolerance)
    np.testing.assert_allclose(found.mean(0)[0], 1 / p, rtol=0.02)


def test_fractals_fall_as_their_dimension_less_that_of_space():
    def exponent(pattern, sizes):
        found = nm.Lacunarity(pattern.ndim, sizes)(pattern).numpy()
        return np.polyfit(np.log(sizes), np.log(found), 1)[0]

    assert exponent(nm.cantor_set(11), [9, 27, 81, 243]) == pytest.approx(np.log(2) / np.log(3) - 1, abs=0.02)
    sizes = [3, 9, 27]
    assert exponent(nm.sierpinski_carpet(6), sizes) == pytest.approx(np.log(8) / np.log(3) - 2, abs=0.01)
    # the same points without their order are as any others
    shuffled = np.random.default_rng(0).permutation(nm.sierpinski_carpet(6).numpy().ravel()).reshape(729, 729)
    found = nm.Lacunarity(2, sizes)(shuffled)
    assert (found - 1 < 0.2 * (nm.Lacunarity(2, sizes)(nm.sierpinski_carpet(6)) - 1)).all()


def test_gaps_show_at_the_scale_of_the_gaps():
    period = np.tile(np.repeat([1.0, 0.0], 8), 64)  # 8 on, 8 off
    found = nm.Lacunarity(box_sizes=[1, 16, 17])(period)
    assert float(found[0]) == pytest.approx(2, abs=1e-12)
    assert float(found[1]) == pytest.approx(1, abs=1e-12)  # each box holds one period
    assert float(found[2]) > 1


def test_scale_does_not_matter_but_an_offset_does():
    pattern = np.random.default_rng(0).gamma(0.5, size=(3, 256))
    found = nm.Lacunarity()(pattern)
    torch.testing.assert_close(nm.Lacunarity()(1e5 * pattern), found, rtol=1e-12, atol=0)
    assert (nm.Lacunarity()(pattern + 1) < found).all()


def test_shapes_and_kinds_of_data():
    patterns = np.random.default_rng(0).random((2, 3, 20, 40))
    assert nm.Lacunarity()(patterns).shape == (2, 3, 20, 4)
    found = nm.Lacunarity(2, [2, 5])(patterns)
    assert found.shape == (2, 3, 2)
    assert torch.equal(nm.Lacunarity(2, [2, 5])(patterns[1, 2]), found[1, 2])
    assert nm.Lacunarity(2)(torch.rand(8, 8)).dtype == torch.float32
    assert nm.Lacunarity(2)(patterns[0, 0] > 0.5).dtype == torch.float64
    labelled = xr.DataArray(patterns[0, 0], dims=("time", "unit"), coords={"unit": np.arange(40)})
    result = nm.Lacunarity(box_sizes=[1, 2]).estimate(labelled)
    assert result.main.dims == ("unit", "box_size")
    torch.testing.assert_close(
        torch.from_numpy(result.values), nm.Lacunarity(box_sizes=[1, 2])(patterns[0, 0].T), rtol=1e-12, atol=0
    )
    images = xr.DataArray(patterns[0], dims=("image", "y", "x"), coords={"image": list("abc")})
    result = nm.Lacunarity(2).estimate(images)
    assert result.main.dims == ("image", "box_size")
    assert result.data["image"].values.tolist() == list("abc")


@pytest.mark.parametrize(("n_axes", "shape"), [(1, (2, 30)), (2, (2, 9, 7))])
def test_gradients(n_axes, shape):
    pattern = torch.from_numpy(np.random.default_rng(0).random(shape)).requires_grad_()
    assert torch.autograd.gradcheck(nm.Lacunarity(n_axes, [1, 2, 5]), (pattern,))


@pytest.mark.parametrize(("n_axes", "shape"), [(1, (2048,)), (2, (96, 96))])
def test_errors_cover_the_truth(n_axes, shape):
    p, sizes = 0.3, np.array([1, 2, 4, 8, 16 // n_axes])
    sizes = np.unique(sizes)
    patterns = (np.random.default_rng(1).random((400, *shape)) < p).astype(float)
    result = nm.Lacunarity(n_axes, sizes.tolist()).estimate(patterns)
    known = 1 + (1 - p) / (p * sizes**n_axes)
    inside = (result.data["low"].values <= known) & (known <= result.data["high"].values)
    assert (inside.mean(0) >= 0.88).all()
    assert inside.mean() >= 0.92
    ratio = result.data["standard_error"].values.mean(0) / result.values.std(0)
    assert ((ratio > 0.8) & (ratio < 1.3)).all()
    assert not result.warnings


def test_results_say_which_errors_are_not_known():
    result = nm.Lacunarity().estimate(np.random.default_rng(0).random(400))
    unknown = np.isnan(result.data["standard_error"].values)
    assert result.data["box_size"].values[unknown].tolist() == [16, 32, 64]
    assert "boxes of 16, 32, 64 are too large" in result.warnings[0]
    assert "1 is uniform" in result.summary()
    result.plot()
    nm.Lacunarity(2).estimate(np.random.default_rng(0).random((9, 32, 32))).plot()


@pytest.mark.parametrize(
    ("n_axes", "x"),
    [
        (1, np.zeros(20)),
        (1, np.array([1.0, -1.0] * 10)),
        (1, np.array([1.0, np.nan] * 10)),
        (1, np.array([1.0, 2.0])),
        (1, np.zeros((0, 9))),
        (1, [1j] * 9),
        (2, np.ones(20)),
        (2, np.zeros((4, 9, 9))),
        (2, np.ones((9, 3))),
    ],
)
def test_bad_patterns_are_refused(n_axes, x):
    with pytest.raises(InputError):
        nm.Lacunarity(n_axes)(x)
    with pytest.raises(InputError):
        nm.Lacunarity(n_axes).estimate(x)


def test_boxes_larger_than_the_pattern_are_refused():
    with pytest.raises(InputError, match="at least 30 samples"):
        nm.Lacunarity(box_sizes=[2, 30])(np.ones(20))


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_axes": 3},
        {"box_sizes": []},
        {"box_sizes": [0]},
        {"box_sizes": [1.5]},
        {"box_sizes": [2, 2]},
        {"box_sizes": 4},
    ],
)
def test_bad_parameters_are_refused(parameters):
    with pytest.raises(OptionError):
        nm.Lacunarity(**parameters)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_an_image_keep_their_sizes_relative_to_each_other(dtype):
    faint = 1e-14 if dtype == torch.float32 else 1e-120
    image = torch.rand(16, 16, generator=torch.Generator().manual_seed(0), dtype=dtype)
    image[8:] *= faint  # next to nothing: as good as empty
    empty = image.clone()
    empty[8:] = 0
    measure = nm.Lacunarity(2, [2, 4])
    torch.testing.assert_close(measure(image), measure(empty), rtol=1e-6, atol=0)
