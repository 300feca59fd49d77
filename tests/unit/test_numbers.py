"""Real numbers from whatever a caller passed: what is refused, what is kept, and the public doors that ask for them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import graph_tensor, real_array, real_tensor

MASKED = np.ma.masked_greater(np.random.default_rng(0).poisson(1.0, (30, 6)).astype(float), 1.0)
REFUSED: dict[str, Any] = {
    "masked": MASKED,
    "list of masked rows": list(MASKED),
    "nested masked rows": [list(MASKED), list(MASKED)],
    "complex": np.ones((30, 6), dtype=complex),
    "text": np.full((30, 6), "a"),
    "objects": np.full((30, 6), None),
    "ragged": [[1.0, 2.0], [3.0]],
}
ACTIVATIONS = nm.Activations({"embed": torch.ones(3, 2)}, {"embed": ("sample", "unit")})


@pytest.mark.parametrize("convert", [real_array, real_tensor, graph_tensor])
@pytest.mark.parametrize(
    "values",
    [*REFUSED.values(), torch.ones(2, dtype=torch.complex64), torch.eye(2).to_sparse(), scipy.sparse.eye_array(2)],
    ids=[*REFUSED, "complex tensor", "sparse tensor", "sparse matrix"],
)
def test_what_is_no_array_of_real_numbers_is_refused(convert: Callable[..., Any], values: Any) -> None:
    with pytest.raises(InputError, match=r"^the rates(:| has a mask)"):
        convert(values, "the rates")


@pytest.mark.parametrize("values", [ACTIVATIONS, {"embed": [1.0]}, xr.Dataset({"embed": 1.0})])
def test_of_arrays_by_name_one_is_asked_for(values: Any) -> None:
    with pytest.raises(InputError, match=r"(?s)the rates: these are arrays by name.*such as values\['embed'\]"):
        real_array(values, "the rates")


@pytest.mark.parametrize("convert", [real_array, real_tensor, graph_tensor])
def test_units_are_not_lost(convert: Callable[..., Any]) -> None:
    brian2, quantities = pytest.importorskip("brian2"), pytest.importorskip("quantities")
    for values in (
        [1, 2] * brian2.pA,
        [1 * brian2.ms, 2 * brian2.ms],
        3 * brian2.mV,
        np.ones(2) * quantities.mV,
    ):
        with pytest.raises(InputError, match=r"^the currents has a unit"):
            convert(values, "the currents")
    assert convert([3 * brian2.ms / brian2.ms], "a ratio").tolist() == [3.0]


@pytest.mark.parametrize("convert", [real_array, real_tensor])
@pytest.mark.parametrize(
    "values",
    [[1.0, np.nan], np.array([np.inf, 0]), torch.tensor([float("nan"), 1.0]), np.array([0, "1e4000"], np.longdouble)],
)
def test_gaps_are_counted_and_refused(convert: Callable[..., Any], values: Any) -> None:
    with pytest.raises(InputError, match="1 of 2 are NaN or infinite"):
        convert(values, "x")


def test_gaps_pass_where_the_caller_looks_for_them() -> None:
    assert np.isnan(real_array([1.0, np.nan], "x", finite=False)[1])


@pytest.mark.parametrize(
    "values",
    [
        [0, 1],
        (True, False),
        np.array([1, 2], np.uint8),
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(2, requires_grad=True),
    ],
)
def test_real_numbers_of_any_type_become_double_precision(values: Any) -> None:
    array = real_array(values, "x")
    assert array.dtype == np.float64
    assert array.tolist() == torch.as_tensor(values).tolist()


@pytest.mark.parametrize("make", [np.ones, torch.ones])
def test_arrays_are_never_the_callers_memory(make: Callable[..., Any]) -> None:
    for convert in (real_array, real_tensor):
        mine = make(3, dtype=torch.float64 if make is torch.ones else np.float64)
        convert(mine, "x")[0] = 5.0
        assert mine[0] == 1


def test_tensors_keep_type_and_only_one_kind_keeps_the_graph() -> None:
    mine = torch.ones(3, dtype=torch.float32, requires_grad=True)
    assert real_tensor(mine, "x").dtype == torch.float32
    assert not real_tensor(mine, "x").requires_grad
    graph_tensor(mine, "x").sum().backward()
    assert mine.grad is not None


_OTHER = np.random.default_rng(1).normal(size=(30, 6))
DOORS: dict[str, Callable[[Any], Any]] = {
    "Recording": lambda x: nm.Recording(x, dims=("time", "unit")),
    "bootstrap_ci": nm.bootstrap_ci,
    "permutation_test": nm.permutation_test,
    "fit_power_law": nm.fit_power_law,
    "firing_rates": nm.firing_rates,
    "interval_cv": nm.interval_cv,
    "split_half": nm.split_half,
    "noise_ceiling": nm.noise_ceiling,
    "STDP": lambda x: nm.STDP().run(np.zeros((6, 6)), x, x, 1.0),
    "SparseAutoencoder": lambda x: nm.SparseAutoencoder(n_features=8).fit(x),
    "CKA": lambda x: nm.CKA().score(x, _OTHER),
    "intrinsic_dimension": nm.intrinsic_dimension,
    "HurstExponent": lambda x: nm.HurstExponent()(x),
    "phase_randomised": nm.phase_randomised,
}
_BY_DOOR = {"masked", "list of masked rows", "complex", "text", "ragged"}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", sorted(_BY_DOOR))
def test_no_public_door_drops_what_it_cannot_use(door: str, kind: str) -> None:
    # otherwise a door may refuse what lies under the mask, and for another reason
    with pytest.raises(InputError, match="has a mask" if "mask" in kind else None):
        DOORS[door](REFUSED[kind])


@pytest.mark.parametrize("door", DOORS)
def test_public_doors_refuse_gaps(door: str) -> None:
    gaps = np.array(MASKED.data)
    gaps[3, 2] = np.nan
    with pytest.raises(InputError):
        DOORS[door](gaps)
