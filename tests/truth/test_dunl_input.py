"""What kernels and events cannot be read from is refused in words, and sizes of all magnitudes are not lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.datasets.event_trains import drifting_counts, permuted_bins, planted_events, superpose
from neuros_mechint.neuro.circuits.dunl.encoding import decode_events
from neuros_mechint.neuro.circuits.dunl.estimator import DUNL
from neuros_mechint.neuro.circuits.dunl.links import link_of
from neuros_mechint.neuro.circuits.dunl.mixed import mixed_selectivity
from neuros_mechint.neuro.circuits.dunl.observations import event_mask, observations
from neuros_mechint.neuro.circuits.dunl.pursuit import pursue
from neuros_mechint.neuro.circuits.dunl.score import match_kernels, score_events

COUNTS = np.random.default_rng(0).poisson(2.0, (12, 50)).astype(float)
SPIKES = COUNTS > 2
EVENTS = [[3]] * 12
MASK = np.zeros((12, 50), bool)
MASK[:, 3] = True
CODES = np.random.default_rng(1).random((2, 30, 2, 5))
VARIABLE = np.random.default_rng(2).random(30)
WRONG_NUMBERS = {
    "masked": lambda x: np.ma.masked_greater(x, np.median(x)),
    "rows masked": lambda x: [np.ma.masked_array(row, np.ones(np.shape(row))) for row in x],
    "complex": lambda x: x + 1j,
    "complex tensor": lambda x: torch.from_numpy(x + 0j),
    "sparse": lambda x: torch.from_numpy(x).to_sparse(),
    "objects": lambda x: x.astype(object),
    "text": lambda x: x.astype(str),
    "ragged": lambda x: [[1.0], [1.0, 2.0]],
    "NaN": lambda x: np.where(x == x.max(), np.nan, x),
    "infinite": lambda x: np.where(x == x.max(), np.inf, x),
    "too long floats": lambda x: x.astype(np.longdouble) * np.longdouble("1e400"),
    "nothing": lambda x: None,
    "a word": lambda x: "a",
}


@pytest.mark.parametrize("wrong", WRONG_NUMBERS.values(), ids=WRONG_NUMBERS.keys())
def test_what_would_lose_a_mask_or_an_imaginary_part_and_what_is_no_number_is_refused(wrong):
    kernels, codes, ones = np.eye(1, 8), (CODES[0] > 0.5) * CODES[0], np.ones((1, 8))
    for ask in (
        lambda: DUNL(1, 8).fit(wrong(COUNTS), EVENTS),
        lambda: DUNL(1, 8, "gaussian").fit(wrong(COUNTS)),
        lambda: pursue(wrong(COUNTS), 1, 8),
        lambda: decode_events(wrong(COUNTS), kernels, 0.0),
        lambda: decode_events(COUNTS, wrong(kernels), 0.0),
        lambda: decode_events(COUNTS, kernels, wrong(np.ones(1))),
        lambda: match_kernels(wrong(kernels), ones),
        lambda: match_kernels(ones, wrong(kernels)),
        lambda: score_events(wrong(codes), codes),
        lambda: score_events(codes, wrong(codes)),
        lambda: event_mask(wrong(1.0 * MASK), 1, 12, 50),
        lambda: mixed_selectivity(wrong(CODES), {"x": VARIABLE}),
        lambda: mixed_selectivity(CODES, {"x": wrong(VARIABLE)}),
        lambda: permuted_bins(wrong(COUNTS)),
        lambda: superpose(wrong(codes), np.eye(2, 8)),
    ):
        with pytest.raises(InputError):
            ask()


def test_booleans_are_spikes_and_sizes_are_not_lost():
    spikes = observations(SPIKES, link_of("bernoulli"), 8)
    assert torch.equal(spikes.values, observations(SPIKES.astype(float), link_of("bernoulli"), 8).values)
    assert np.isfinite(DUNL(1, 8, "bernoulli").fit(SPIKES, EVENTS).score_)
    plain = DUNL(1, 8, "gaussian").fit(COUNTS, EVENTS)
    for size in (2.0**-1000, 2.0**1000):  # powers of two, which change no rounding
        scaled = DUNL(1, 8, "gaussian").fit(size * COUNTS, EVENTS)
        assert scaled.score_ == plain.score_
        np.testing.assert_array_equal(scaled.kernels_, plain.kernels_)
        np.testing.assert_allclose(scaled.codes_, size * plain.codes_, rtol=1e-12)
        assert scaled.score(size * COUNTS, EVENTS) == plain.score(COUNTS, EVENTS)
        with pytest.raises(InputError, match="units"):
            (scaled if size < 1 else plain).score(COUNTS * max(size, 1), EVENTS)
    most = np.minimum(1e5 * COUNTS, 1e6)
    assert abs(DUNL(1, 8).fit(most, EVENTS).score_) < 1
    assert abs(pursue(most, 1, 8, n_restarts=1).score) < 10


def test_mixed_selectivity_and_comparisons_are_the_same_in_all_units():
    codes, x = CODES + VARIABLE[:, None, None], {"x": VARIABLE}
    plain = mixed_selectivity(codes, x, n_resamples=200).data
    for size in (1e-200, 1e200):
        for scaled, factor in (
            (mixed_selectivity(size * codes, x, n_resamples=200).data, size),
            (mixed_selectivity(codes, {"x": size * VARIABLE}, n_resamples=200).data, 1.0),
        ):
            for name in ("r2", "share", "partial_correlation", "p"):
                np.testing.assert_allclose(scaled[name], plain[name], rtol=1e-9)
            np.testing.assert_allclose(scaled["coefficient"], factor * plain["coefficient"], rtol=1e-9)
        assert match_kernels(size * np.ones((1, 8)), np.ones((1, 8))).cosines[0] == pytest.approx(1)
        found = score_events(size * CODES, CODES).amplitude_r
        np.testing.assert_allclose(found, 1)


@pytest.mark.parametrize(
    ("counts", "settings"),
    [
        (-COUNTS, {}),
        (COUNTS + 0.5, {}),
        (COUNTS, {"link": "bernoulli"}),
        (COUNTS, {"kernel_length": 51}),
        (COUNTS[:5], {}),
        (COUNTS[0], {}),
        (COUNTS[None, None], {}),
        (np.empty((0, 50)), {}),
        (np.zeros((12, 50)), {}),
        (np.stack([COUNTS, np.zeros((12, 50))]), {}),
        (1e15 * COUNTS, {}),
        (1e306 * COUNTS, {"link": "gaussian"}),
        (1e-306 * COUNTS, {"link": "gaussian"}),
        (xr.DataArray(COUNTS, dims=("trial", "bin")), {}),
    ],
)
def test_data_that_will_not_do_are_refused(counts, settings):
    with pytest.raises(InputError):
        DUNL(**{"n_kernels": 1, "kernel_length": 8, **settings}).fit(counts)


@pytest.mark.parametrize(
    "events",
    [
        np.zeros((1, 12, 50), bool),
        np.ones((2, 12, 50), bool),
        np.ones((12, 49), bool),
        np.full((12, 50), 0.5),
        [[50]] * 12,
        [[-1]] * 12,
        [[2.5]] * 12,
        [[np.nan]] * 12,
        [[3 + 1j]] * 12,
        [["a"]],
        [["a"]] * 12,
        ["a"] * 12,
        [None] * 12,
        [3] * 12,
        [[3]] * 11,
        [*[[3]] * 11, [3, [4, 5]]],
        [np.ma.masked_array([3, 4], [0, 1])] * 12,
        MASK.tolist(),  # not times 0 and 1
        np.array([[0, 0, 3.5]]),
        np.array([["a"]]),
        [],
        {3},
        5,
        "3",
    ],
)
def test_events_that_will_not_do_are_refused(events):
    with pytest.raises(InputError):
        DUNL(1, 8).fit(COUNTS, events)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_kernels": 0},
        {"kernel_length": 2},
        {"link": "poison"},
        {"smoothness": -1},
        {"smoothness": 1e300},
        {"sparsity": np.nan},
        {"n_restarts": 0},
        {"n_differentiated": 9},
        {"learning_rate": 0},
        {"learning_rate": 1e300},
        {"per_neuron": "yes"},
    ],
)
def test_parameters_out_of_range_are_refused(settings):
    with pytest.raises(OptionError):
        DUNL(**{"n_kernels": 1, "kernel_length": 8, **settings}).fit(COUNTS)


def test_other_neurons_and_unfitted_models_are_refused():
    with pytest.raises(InputError, match="not been fitted"):
        DUNL(1, 8).transform(COUNTS)
    found = DUNL(1, 8).fit(COUNTS, EVENTS)
    with pytest.raises(InputError, match="other neurons"):
        found.transform(np.stack([COUNTS, COUNTS]))


@pytest.mark.parametrize(
    ("codes", "variables"),
    [
        (np.ones((30, 4)), {"x": np.arange(30.0)}),
        (np.full((30, 1, 4), 1e301), {"x": np.arange(30.0)}),
        (np.ones((30, 1, 4)), [("x", np.arange(30.0))]),
        (np.ones((30, 1, 4)), {}),
        (np.ones((30, 1, 4)), {"x": np.arange(29.0)}),
        (np.ones((30, 1, 4)), {"x": np.ones(30)}),
        (np.ones((30, 1, 4)), {"x": np.arange(30.0), "y": 2 * np.arange(30.0) + 1}),
        (np.ones((9, 1, 4)), {"x": np.arange(9.0)}),
    ],
)
def test_variables_that_will_not_do_are_refused(codes, variables):
    with pytest.raises(InputError):
        mixed_selectivity(codes, variables)


@pytest.mark.parametrize(
    "labels",
    [["L", "R"] * 20, np.array(["L", "R"] * 20), np.array(["L", "R"] * 20, object), ["L", "R", "none", "L"] * 10],
)
def test_text_is_refused_with_a_way_to_make_it_numbers_that_works(labels):
    codes = 1 + np.random.default_rng(0).random((1, 40, 1, 4)) + (np.asarray(labels) == "R")[:, None, None]
    with pytest.raises(InputError, match="values of side are text") as refused:
        mixed_selectivity(codes, {"side": labels})
    fix = str(refused.value).partition("these values: ")[2]
    found = mixed_selectivity(codes, eval(f"{{{fix}}}", {"np": np, "labels": labels}), n_resamples=200)
    assert found.selectivity == ["pure"]
    assert found.data["variable"].values[0] == "side R"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"counts": -np.ones((10, 100))}, "negative"),
        ({"counts": np.full((10, 100), 0.5)}, "fraction"),
        ({"counts": np.full((10, 100), np.nan)}, "NaN"),
        ({"counts": np.zeros((0, 100))}, "empty"),
        ({"counts": np.eye(3, 100)}, "too few trials"),
        ({"kernel_length": 101}, "longer than trials"),
        ({"kernel_length": 2}, "kernel_length"),
        ({"n_kernels": 0}, "n_kernels"),
        ({"n_restarts": 0}, "n_restarts"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_input_is_refused(change, error):
    good = {"counts": np.eye(10, 100), "n_kernels": 1, "kernel_length": 20}
    with pytest.raises(InputError, match=error):
        pursue(**(good | change))


def test_bad_comparisons_are_refused():
    with pytest.raises(InputError, match="matched"):
        match_kernels(np.ones((1, 40)), np.ones((2, 40)))
    with pytest.raises(InputError, match="compared"):
        score_events(np.ones((3, 1, 40)), np.ones((2, 1, 40)))
    with pytest.raises(InputError, match="matched"):
        match_kernels(np.ones((1, 0)), np.ones((1, 40)))
    one, two = np.ones((3, 1, 40)), np.ones((3, 2, 40))
    with pytest.raises(InputError, match="other kernels"):
        score_events(one, two)
    for match in (3, match_kernels(np.eye(2, 4), np.eye(2, 4))):
        with pytest.raises(InputError, match="other kernels"):
            score_events(one, one, match)
    for tolerance in (-1, 1.5, "a"):
        with pytest.raises(OptionError, match="tolerance"):
            score_events(one, one, tolerance=tolerance)
    for kernels, baseline in ((np.ones(4), 0.0), (np.full((1, 4), 1e3), 0.0), (np.ones((1, 4)), 1e3)):
        with pytest.raises(InputError):
            decode_events(COUNTS, kernels, baseline)
    with pytest.raises(InputError, match="1 neurons"):
        decode_events(COUNTS, np.ones((1, 4)), [0.0, 1.0])


@pytest.mark.parametrize(
    "change",
    [
        {"link": "poison"},
        {"n_kernels": 5},
        {"kernel_length": 10},
        {"n_times": 40, "events": (1, 2)},
        {"events": (2, 1)},
        {"events": 3},
        {"events": None},
        {"events": "12"},
        {"events": (1, 2, 3)},
        {"log_gain": 1.0},
        {"log_gain": (1.0, 30.0)},
        {"log_gain": (1.0, 800.0)},
        {"base": 1e30},
        {"base": 1e300, "link": "gaussian"},
        {"log_gain": (2.0, 1.0)},
        {"base": 0.0},
        {"base": 2.0, "link": "bernoulli"},
        {"n_trials": 0},
        {"n_neurons": 0},
    ],
)
def test_events_that_cannot_be_planted_are_refused(change):
    with pytest.raises(InputError):
        planted_events(**change)
    with pytest.raises(OptionError):
        drifting_counts(depth=0.0)


def test_controls_that_cannot_be_made_are_refused():
    for change in ({"depth": 100}, {"depth": 1j}, {"base": 1e30}):
        with pytest.raises(InputError):
            drifting_counts(**change)
    for counts in (3, np.zeros((3, 0))):
        with pytest.raises(InputError, match="bins"):
            permuted_bins(counts)
    with pytest.raises(InputError, match="kernels"):
        superpose(np.ones((3, 2, 5)), np.ones((3, 4)))
