"""What does not depend on the units, axes or order of the data gives the same number whatever these are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import neuros_mechint as nm

Array = np.ndarray
N, D, N_TIMES = 60, 4, 512


def _rotated(x: Array, random: np.random.Generator) -> Array:
    return x @ np.linalg.qr(random.normal(size=(x.shape[-1],) * 2))[0]


def _mixed(x: Array, random: np.random.Generator) -> Array:
    """Map units by an invertible matrix of condition 4."""
    left, right = (np.linalg.qr(random.normal(size=(x.shape[-1],) * 2))[0] for _ in range(2))
    return x @ (left * np.geomspace(0.5, 2, x.shape[-1])) @ right


MOVES: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "rotated": _rotated,
    "mixed": _mixed,
    "scaled": lambda x, random: x * 10.0 ** random.uniform(-3, 3),
    "shifted": lambda x, random: x + random.normal(size=x.shape[-1]) * x.std(),
    "turned over": lambda x, random: -x,
    "other order of samples": lambda x, random: random.permutation(x),
    "other order of units": lambda x, random: x[..., random.permutation(x.shape[-1])],
    "each pattern scaled": lambda x, random: x * random.uniform(0.5, 2, (len(x), 1)),
    "each pattern shifted": lambda x, random: x + random.normal(size=(len(x), 1)),
}


class Case(NamedTuple):
    """A measure of a cloud or of a series, what leaves it alone, and what must not."""

    measure: Callable[[Array], object]
    same: tuple[str, ...]
    changed: tuple[str, ...] = ()


def _other(n: int, d: int = 3) -> Array:
    return np.random.default_rng(7).normal(size=(n, d))


def _holes(x: Array) -> Array:
    found = nm.persistent_homology(x, n_points=N, n_surrogates=19, progress=False)
    return np.array(found.ratios)


CLOUDS = {
    "CKA": Case(
        lambda x: nm.CKA(debiased=True).score(x, _other(N)),
        ("rotated", "scaled", "shifted", "turned over", "other order of units"),
        ("mixed", "other order of samples"),
    ),
    "CCA": Case(lambda x: nm.CCA(3).fit(x, _other(N)).correlations_, ("mixed", "scaled", "shifted", "turned over")),
    "euclidean RDM": Case(
        lambda x: nm.compute_rdm(x, method="euclidean"),
        ("rotated", "shifted", "turned over", "other order of units"),
        ("scaled", "other order of samples"),
    ),
    "correlation RDM": Case(
        lambda x: nm.compute_rdm(x, method="correlation"),
        ("each pattern scaled", "each pattern shifted", "other order of units", "turned over"),
        ("rotated", "other order of samples"),
    ),
    "two nearest neighbours": Case(
        lambda x: nm.intrinsic_dimension(x, method="two_nn").dimension,
        ("rotated", "scaled", "shifted", "turned over", "other order of samples", "other order of units"),
        ("mixed",),
    ),
    "participation ratio": Case(
        lambda x: nm.intrinsic_dimension(x, method="participation_ratio").dimension,
        ("rotated", "scaled", "shifted", "turned over", "other order of samples", "other order of units"),
        ("mixed",),
    ),
    "holes": Case(_holes, ("rotated", "scaled", "shifted", "turned over", "other order of units"), ("mixed",)),
    "Gaussian information": Case(
        lambda x: nm.mutual_information(x, _other(N), method="gaussian").value,
        ("scaled", "shifted", "turned over", "other order of units"),
        ("other order of samples",),
    ),
    "information by neighbours": Case(
        lambda x: nm.mutual_information(x[:, :1], _other(N, 1), method="ksg").value,
        ("shifted", "turned over"),
        ("other order of samples",),
    ),
}
SERIES = {
    "Higuchi": Case(lambda x: nm.HiguchiFractalDimension(k_max=8)(x[:, 0]), ("scaled", "shifted", "turned over")),
    "fluctuations": Case(lambda x: nm.DetrendedFluctuationAnalysis()(x[:, 0]), ("scaled", "shifted", "turned over")),
    "Hurst exponent": Case(lambda x: nm.HurstExponent()(x[:, 0]), ("scaled", "shifted")),
    "spectral slope": Case(lambda x: nm.SpectralSlope()(x[:, 0]), ("scaled", "shifted", "turned over")),
    "transfer entropy": Case(
        lambda x: nm.transfer_entropy(x[:, 0], x[:, 1], method="gaussian", n_permutations=0).value,
        ("scaled", "shifted", "turned over"),
        ("mixed", "other order of samples"),
    ),
    "Koopman eigenvalues": Case(
        lambda x: np.sort_complex(nm.KoopmanOperator(method="dmd").fit(x[None]).eigenvalues_),
        ("rotated", "mixed", "scaled", "turned over", "other order of units"),
        ("other order of samples",),
    ),
}


def _series(random: np.random.Generator) -> Array:
    """Two damped rotations, driven by noise."""
    step = np.zeros((D, D))
    for number, (size, angle) in enumerate(((0.95, 0.3), (0.9, 1.0))):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        step[2 * number : 2 * number + 2, 2 * number : 2 * number + 2] = size * turn
    x = np.zeros((N_TIMES, D))
    for time in range(1, N_TIMES):
        x[time] = step @ x[time - 1] + random.normal(size=D)
    return x


def _numbers(measured: object) -> Array:
    return np.asarray(measured.numpy() if isinstance(measured, torch.Tensor) else measured)


def _check(case: Case, x: Array, random: np.random.Generator) -> None:
    before = _numbers(case.measure(x))
    assert np.isfinite(before).all()
    for name in case.same:
        after = _numbers(case.measure(MOVES[name](x, random)))
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-8, err_msg=name)
    for name in case.changed:
        after = _numbers(case.measure(MOVES[name](x, random)))
        assert not np.allclose(after, before, rtol=1e-3), name


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", CLOUDS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_measures_of_clouds(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=(N, D)) * np.geomspace(0.5, 2, D) + 0.3 * _other(N, D)
    _check(CLOUDS[name], x, random)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", SERIES)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_measures_of_series(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    _check(SERIES[name], _series(random), random)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=3, deadline=None)
def test_exponents_of_a_system_do_not_depend_on_its_coordinates(seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = torch.from_numpy(random.normal(size=(3, 3)) / 2)
    change = torch.from_numpy(_mixed(np.eye(3), random))
    back = torch.linalg.inv(change)
    start = torch.from_numpy(random.normal(size=3))

    def exponents(step: Callable[[torch.Tensor], torch.Tensor], state: torch.Tensor) -> Array:
        found = nm.lyapunov_spectrum(step, state, n_steps=200, warmup=50, progress=False)
        return np.asarray(found.exponents)

    here = exponents(lambda s: torch.tanh(s @ matrix.T), start)
    there = exponents(lambda s: torch.tanh(s @ back.T @ matrix.T) @ change.T, start @ change.T)
    np.testing.assert_allclose(there, here, atol=0.03)
