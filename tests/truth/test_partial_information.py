"""Partial information: gates with known answers, an independent minimum, bias, intervals and tests by chance."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import minimize

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.information.partial.decomposition import partial_information_decomposition
from neuros_mechint.neuro.information.partial.minimum import least_information
from neuros_mechint.neuro.information.partial.tables import decompose_probabilities, table_information
from tests.slow import slow_case

PARTS = ("redundancy", "unique_1", "unique_2", "synergy")


def gate(target, n_values=2):
    """Two independent fair sources and a target that they determine."""
    table = np.zeros((2, 2, n_values))
    for first, second in np.ndindex(2, 2):
        table[first, second, target(first, second)] = 0.25
    return table


XOR, AND, UNIQUE = gate(lambda a, b: a ^ b), gate(lambda a, b: a & b), gate(lambda a, b: a)
COPY = gate(lambda a, b: 2 * a + b, 4)
BOTH_SAME = np.stack([np.diag([0.5, 0]), np.diag([0, 0.5])], axis=2)
SMALL = np.array([[[4, 1], [3, 2]], [[2, 1], [1, 6]]]) / 20
LARGER = np.array([[[4, 1, 0], [3, 2, 1]], [[2, 1, 4], [1, 6, 0]], [[0, 3, 2], [1, 1, 8]]]) / 40


def drawn(table, n_samples, seed):
    cells = np.random.default_rng(seed).choice(table.size, n_samples, p=table.ravel())
    return np.unravel_index(cells, table.shape)


def decomposed(table, n_samples, seed, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return partial_information_decomposition(*drawn(table, n_samples, seed), seed=seed, progress=False, **options)


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "method", "bits"),
    [
        (XOR, "broja", (0, 0, 0, 1)),
        (XOR, "i_min", (0, 0, 0, 1)),
        (AND, "broja", (0.311278, 0, 0, 0.5)),
        (AND, "i_min", (0.311278, 0, 0, 0.5)),
        (COPY, "broja", (0, 1, 1, 0)),
        (COPY, "i_min", (1, 0, 0, 1)),  # equally much, though not the same
        (UNIQUE, "broja", (0, 1, 0, 0)),
        (BOTH_SAME, "broja", (1, 0, 0, 0)),
        (BOTH_SAME, "i_min", (1, 0, 0, 0)),
        (np.full((2, 3, 2), 1 / 12), "broja", (0, 0, 0, 0)),
        # by dit 2.3, whose minimum is good to about 1e-5 bits
        (SMALL, "broja", (0.108373, 0.010336, 0.016137, 0.097105)),
        (SMALL, "i_min", (0.1178508, 0.0008583, 0.0066604, 0.1065809)),
        (LARGER, "i_min", (0.0171434, 0.2575815, 0, 0.2924074)),
    ],
)
def test_gates_have_their_known_parts(table, method, bits):
    found = decompose_probabilities(table, method)
    tolerance = 1e-5 if table is SMALL else 1e-6
    assert np.array(found[:4]) / np.log(2) == pytest.approx(bits, abs=tolerance)
    assert sum(found[:4]) == pytest.approx(found.total, abs=1e-12)
    assert found.total == pytest.approx(table_information(table.reshape(-1, table.shape[2])), abs=1e-12)
    assert found.gap < 1e-8


def test_sources_trade_places():
    one, other = decompose_probabilities(LARGER), decompose_probabilities(LARGER.swapaxes(0, 1))
    assert one.unique_1 == pytest.approx(other.unique_2, abs=1e-8)
    assert one.synergy == pytest.approx(other.synergy, abs=1e-8)


def by_search(table):
    """The least information over the two free numbers of a binary table, by a general minimiser."""
    first, second, target = table.sum(1), table.sum(0), table.sum((0, 1))
    low = np.maximum(0, first[0] + second[0] - target)
    high = np.minimum(first[0], second[0])

    def made(corner):
        rows = np.stack([corner, first[0] - corner]), np.stack([second[0] - corner, second[1] - first[0] + corner])
        return np.clip(np.stack(rows), 0, None)

    starts = [low + share * (high - low) for share in ([0.5, 0.5], [0.1, 0.9], [0.9, 0.1])]
    bounds = list(zip(low, high, strict=True))
    return min(
        minimize(
            lambda corner: table_information(made(corner).reshape(4, 2)), start, bounds=bounds, options={"ftol": 1e-14}
        ).fun
        for start in starts
    )


def test_the_minimum_is_that_of_an_independent_search_and_proves_itself():
    random = np.random.default_rng(0)
    for _ in range(15):
        table = random.dirichlet(np.full(8, 0.7)).reshape(2, 2, 2)
        found = least_information(table)
        assert found.value == pytest.approx(by_search(table), abs=1e-6)
        assert found.value <= by_search(table) + 1e-9
        assert found.gap < 2e-9
        for axis in (0, 1):
            assert found.table.sum(axis) == pytest.approx(table.sum(axis), abs=1e-12)


def test_tables_of_every_shape_are_solved_to_a_proven_gap():
    """Also with zeros, and with probabilities of 1e-30: those of a Dirichlet distribution of concentration .01."""
    tables = [np.random.default_rng(1).dirichlet(np.ones(150)).reshape(6, 5, 5)]
    for seed in range(40):
        random = np.random.default_rng(seed)
        shape = tuple(random.integers(2, 5, size=3))
        table = random.dirichlet(np.full(np.prod(shape), 10 ** random.uniform(-2, 1))).reshape(shape)
        table = table * (random.random(shape) < random.uniform(0.3, 1.5))
        tables.append(table / table.sum())
    for table in tables:
        found = decompose_probabilities(table)
        assert found.gap < 1e-8
        assert min(found[:4]) > -1e-8
    assert decompose_probabilities(LARGER).redundancy >= 0.0137853 * np.log(2)  # where dit stops


# -- samples -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("table", "n_samples"), [(0.8 * XOR + 0.025, 200), slow_case(0.8 * AND + 0.025, 300)])
def test_samples_give_the_parts_of_their_table_on_average_and_cover_them(table, n_samples):
    truth = np.array(decompose_probabilities(table)[:5])
    found = [decomposed(table, n_samples, seed, n_resamples=30) for seed in range(20)]
    values = np.array([one.data["information"].values for one in found])
    inside = [(one.data["low"] - 1e-8 <= truth) & (truth <= one.data["high"] + 1e-8) for one in found]
    assert (np.abs(values.mean(0) - truth) < 3 * values.std(0) / 20**0.5 + 0.003).all()
    assert np.abs(values.mean(0) - truth).max() < 0.02
    assert np.mean(inside, axis=0).min() >= 0.75
    assert all(one.p_total < 0.05 for one in found)
    assert values[:, :4].sum(1) == pytest.approx(values[:, 4], abs=1e-8)


def test_bias_that_looks_like_synergy_is_taken_off():
    found = [decomposed(np.full((3, 3, 2), 1 / 18), 150, seed, n_resamples=19) for seed in range(10)]
    plug_in = np.mean([one.data["bias"].values + one.data["information"].values for one in found], axis=0)
    corrected = np.mean([one.data["information"].values for one in found], axis=0)
    assert plug_in[3] > 0.01
    assert np.abs(corrected[:4]).max() < plug_in[3] / 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "table", [np.full((2, 2, 2), 1 / 8), 0.8 * UNIQUE + 0.025, least_information(0.8 * AND + 0.025).table]
)
def test_p_is_small_by_chance_only_as_often_as_it_says(table):
    found = [decomposed(table, 300, seed, n_resamples=39) for seed in range(80)]
    assert np.mean([one.p_synergy <= 0.05 for one in found]) <= 0.1
    if table[0, 0, 0] == 1 / 8:
        assert np.mean([one.p_total <= 0.05 for one in found]) <= 0.1


def test_an_independent_target_shows_nothing_and_a_gate_shows_itself():
    nothing = decomposed(np.full((2, 2, 2), 1 / 8), 400, 1)
    assert nothing.p_total > 0.05
    assert nothing.p_synergy > 0.05
    assert all(nothing.interval(part)[0] < 0.003 for part in PARTS)
    clear = decomposed(0.9 * XOR + 0.0125, 400, 1)
    assert clear.p_synergy <= 0.01
    assert clear.interval("synergy")[0] > 0
    assert clear.bits["synergy"] == pytest.approx(clear.synergy / np.log(2))


def test_few_samples_for_the_table_are_warned_of():
    with pytest.warns(UserWarning, match="chance looks like synergy"):
        found = partial_information_decomposition(*drawn(np.full((4, 4, 3), 1 / 48), 100, 0), n_resamples=19)
    assert found.warnings
    assert found.p_synergy > 0.05


def test_labelled_variables_are_paired_by_label_and_text_is_a_value():
    first, second, target = drawn(0.8 * AND + 0.025, 120, 0)
    trials = {"trial": [f"t{index}" for index in range(120)]}
    labelled = [xr.DataArray(codes, dims="trial", coords=trials) for codes in (first, second, target)]
    plain = partial_information_decomposition(first, second, np.array(["no", "yes"])[target], n_resamples=19)
    paired = partial_information_decomposition(labelled[0], labelled[1][::-1], labelled[2], n_resamples=19)
    assert paired.data.identical(plain.data)


GOOD = np.arange(120) % 2


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ((GOOD, np.zeros(120)), {}, "constant"),
        ((GOOD, GOOD + 0.5), {}, "not whole|no categories"),
        ((GOOD, np.where(GOOD, np.nan, 1.0)), {}, "no categories"),
        ((GOOD, np.ma.masked_equal(GOOD, 1)), {}, "mask|gaps"),
        ((GOOD, GOOD[:100]), {}, "different numbers"),
        ((GOOD[:30], GOOD[:30]), {}, "different numbers|too few"),
        ((GOOD, []), {}, "no list"),
        ((GOOD, [[1], [1, 2]]), {}, "no array"),
        ((GOOD, np.stack([GOOD, GOOD], 1)), {}, "more than one variable"),
        ((GOOD, np.arange(120)), {}, "too many values"),
        ((np.arange(120) % 30, np.arange(120) % 20), {}, "too many values together"),
        ((GOOD, GOOD), {"method": "brojy"}, "did you mean 'broja'"),
        ((GOOD, GOOD), {"n_resamples": 5}, "out of range"),
        ((GOOD, GOOD), {"level": 1}, "coverage"),
    ],
)
def test_bad_input_is_refused(sources, options, message):
    with pytest.raises((InputError, OptionError), match=message):
        partial_information_decomposition(sources[0], sources[1], GOOD, **options)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.full((2, 2), 0.25), "two sources and a target"),
        (np.full((2, 2, 2, 2), 1 / 16), "more than two sources"),
        (np.full((2, 2, 2), 1.0), "no probabilities"),
        (np.full((20, 20, 2), 1 / 800), "too large"),
        (np.full((2, 2, 2), np.nan), "not finite"),
    ],
)
def test_tables_that_are_none_are_refused(table, message):
    with pytest.raises(InputError, match=message):
        decompose_probabilities(table)


def test_a_result_is_told_drawn_and_kept(tmp_path):
    found = decomposed(0.8 * AND + 0.025, 300, 0, n_resamples=19)
    assert "synergistic" in found.summary()
    assert "300 samples" in found.summary()
    assert found.plot().get_xlabel() == "information (nats)"
    assert nm.load_result(found.save(tmp_path / "parts.nc")) == found
    with pytest.raises(OptionError, match="unknown part"):
        found.interval("unique")
