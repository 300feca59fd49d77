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
from neuros_mechint.core.parameters import Parameterised
from neuros_mechint.datasets.systems import double_well
from neuros_mechint.datasets.thermal import langevin
from neuros_mechint.neuro.circuits.latent.dynamics import simulate

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


BASE = np.random.default_rng(8).normal(size=(N, D)) * np.geomspace(0.5, 2, D)
TARGETS = BASE @ np.random.default_rng(9).normal(size=(D, 3)) + _other(N)  # three units that BASE drives, in noise
HALVES = {"one": [0, 1], "other": [2, 3]}

CLOUDS = {
    "CKA": Case(
        lambda x: nm.CKA(debiased=True).score(x, TARGETS),
        ("rotated", "scaled", "shifted", "turned over", "other order of units"),
        ("mixed", "other order of samples"),
    ),
    "CCA": Case(lambda x: nm.CCA(3).fit(x, TARGETS).correlations_, ("mixed", "scaled", "shifted", "turned over")),
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
    "Procrustes": Case(
        lambda x: nm.Procrustes().distance(x, TARGETS),
        ("rotated", "scaled", "shifted", "turned over", "other order of units"),
        ("mixed", "other order of samples"),
    ),
    "SharedSpace": Case(
        lambda x: np.abs(nm.SharedSpace(2).fit({"a": x, "b": TARGETS}).transform("a", x)),
        ("rotated", "mixed", "scaled", "shifted", "turned over", "other order of units"),
        ("other order of samples",),
    ),
    "RidgeEncoding": Case(
        lambda x: nm.RidgeEncoding().score_targets(x, TARGETS),
        ("rotated", "scaled", "shifted", "turned over", "other order of units"),
        ("other order of samples",),
    ),
    "BandedRidge": Case(
        lambda x: nm.BandedRidge(HALVES, n_candidates=5).score_targets(x, TARGETS),
        ("scaled", "shifted", "turned over"),
        ("other order of samples",),
    ),
    "PLS": Case(
        lambda x: nm.PLS(2).score_targets(x, TARGETS),
        ("scaled", "shifted", "turned over", "other order of units"),
        ("other order of samples",),
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
LABELS = np.random.default_rng(1).integers(2, size=N_TIMES)
SERIES = {
    "HiguchiFractalDimension": Case(
        lambda x: nm.HiguchiFractalDimension(k_max=8)(x[:, 0]), ("scaled", "shifted", "turned over")
    ),
    "DetrendedFluctuationAnalysis": Case(
        lambda x: nm.DetrendedFluctuationAnalysis()(x[:, 0]), ("scaled", "shifted", "turned over")
    ),
    "KatzFractalDimension": Case(
        lambda x: nm.KatzFractalDimension()(x[:, 0]),
        ("scaled", "shifted", "turned over"),
        ("other order of samples",),
    ),
    "PetrosianFractalDimension": Case(
        lambda x: nm.PetrosianFractalDimension()(x[:, 0]),
        ("scaled", "shifted", "turned over"),
        ("other order of samples",),
    ),
    "SampleEntropy": Case(
        lambda x: nm.SampleEntropy()(x[:, 0]), ("scaled", "shifted", "turned over"), ("other order of samples",)
    ),
    "MultifractalSpectrum": Case(
        lambda x: nm.MultifractalSpectrum()(x[:, 0]), ("scaled", "shifted", "turned over"), ("other order of samples",)
    ),
    "Lacunarity": Case(
        lambda x: nm.Lacunarity()(np.abs(x[:, 0])), ("scaled", "turned over"), ("shifted", "other order of samples")
    ),
    "HurstExponent": Case(lambda x: nm.HurstExponent()(x[:, 0]), ("scaled", "shifted")),
    "SpectralSlope": Case(lambda x: nm.SpectralSlope()(x[:, 0]), ("scaled", "shifted", "turned over")),
    "transfer entropy": Case(
        lambda x: nm.transfer_entropy(x[:, 0], x[:, 1], method="gaussian", n_permutations=0).value,
        ("scaled", "shifted", "turned over"),
        ("mixed", "other order of samples"),
    ),
    "SlowFeatureAnalysis": Case(
        lambda x: nm.SlowFeatureAnalysis().fit(x[None]).slowness(x[None]),
        ("rotated", "mixed", "scaled", "shifted", "turned over", "other order of units"),
        ("other order of samples",),
    ),
    "RotationalDynamics": Case(
        lambda x: nm.RotationalDynamics(4).fit(x.reshape(8, -1, D)).frequencies_,
        ("rotated", "scaled", "shifted", "turned over", "other order of units"),
        ("other order of samples",),
    ),
    "InformationFlowAnalyzer": Case(  # its noise meets components of either sign: only what keeps the sign is exact
        lambda x: np.nan_to_num(nm.InformationFlowAnalyzer(n_permutations=0).analyze({"a": x}, labels=LABELS).main),
        ("shifted", "other order of units"),
        ("other order of samples",),
    ),
    "KoopmanOperator": Case(
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
@settings(max_examples=5, deadline=None, derandomize=True)
def test_measures_of_clouds(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = BASE + 0.3 * random.normal(size=(N, D))
    _check(CLOUDS[name], x, random)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", SERIES)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None, derandomize=True)
def test_measures_of_series(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    _check(SERIES[name], _series(random), random)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=3, deadline=None, derandomize=True)
def test_exponents_of_a_system_do_not_depend_on_its_coordinates(seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = torch.from_numpy(random.normal(size=(3, 3)) / 2)
    change = torch.from_numpy(_mixed(np.eye(3), random))
    back = torch.linalg.inv(change)
    start = torch.from_numpy(random.normal(size=3))

    def exponents(step: Callable[[torch.Tensor], torch.Tensor], state: torch.Tensor) -> Array:
        found = nm.lyapunov_spectrum(step, state, n_steps=200, warmup=50, progress=False)
        return np.asarray(found.exponents)

    def step(s: torch.Tensor) -> torch.Tensor:
        return torch.tanh(s @ matrix.T)

    def moved(s: torch.Tensor) -> torch.Tensor:
        return step(s @ back.T) @ change.T

    np.testing.assert_allclose(exponents(moved, start @ change.T), exponents(step, start), atol=0.03)
    starts = torch.from_numpy(random.normal(size=(60, 3)))
    points, others = nm.FixedPointFinder(step).find(starts), nm.FixedPointFinder(moved).find(starts @ change.T)
    assert len(points.states) == len(others.states)
    sizes, sizes_there = (np.sort(np.abs(found.eigenvalues.ravel())) for found in (points, others))
    np.testing.assert_allclose(sizes_there, sizes, atol=1e-6)


def test_barriers_do_not_depend_on_units_of_the_state() -> None:
    states = np.asarray(langevin(double_well, [[-1.0], [1.0]] * 50, n_steps=400, temperature=0.35))

    def barriers(x: Array) -> Array:
        found = nm.EnergyLandscape(temperature=0.35, dt=0.01).fit(x).barriers_
        return np.sort(found[np.isfinite(found) & (found > 0)])

    before = barriers(states)
    assert len(before) == 2
    for x in (100 * states, states + 7, -states):
        np.testing.assert_allclose(barriers(x), before, rtol=1e-6)


def test_a_latent_circuit_does_not_depend_on_the_axes_of_the_activity() -> None:
    random = np.random.default_rng(0)
    wiring = np.array([[0.0, 0.5, 0.0], [0.0, 0.0, -0.8], [0.9, 0.0, 0.4]])
    inputs = random.uniform(0, 1, (20, 5, 2)).repeat(6, axis=1)
    states = simulate(wiring, np.eye(3, 2), inputs, alpha=0.2)
    activity = states @ np.linalg.qr(random.normal(size=(10, 3)))[0].T

    def connectivity(x: Array) -> Array:
        model = nm.LatentCircuitModel(n_nodes=3, alpha=0.2, n_starts=1)
        return model.fit(inputs, x, states[:, :, 2:], progress=False).connectivity_

    np.testing.assert_allclose(connectivity(_rotated(activity, random)), connectivity(activity), atol=1e-6)


def test_kernels_do_not_depend_on_the_order_of_trials() -> None:
    rate = np.ones((30, 60))
    rate[:, 20:23] = [6, 4, 2]
    counts = np.random.default_rng(0).poisson(rate)

    def kernels(y: Array) -> Array:
        return nm.DUNL(1, 5, n_steps=10, n_restarts=1, progress=False).fit(y, events=[[20]] * len(y)).kernels_

    np.testing.assert_allclose(kernels(counts[np.random.default_rng(1).permutation(30)]), kernels(counts), atol=1e-5)


ON_THEIR_OWN = {"FixedPointFinder", "EnergyLandscape", "LatentCircuitModel", "DUNL"}
WITHOUT = {
    "DynamicsAnalyzer": "runs the others",
    "FeatureVisualizer": "returns stimuli, not a number",
    "GraphFractalDimension": "boxes are drawn at random: equal in the mean only, as tests of graphs show",
}


def test_every_estimator_is_here() -> None:
    public = [getattr(nm, name) for name in dir(nm)]
    estimators = {one.__name__ for one in public if isinstance(one, type) and issubclass(one, Parameterised)}
    assert estimators == (estimators & {*CLOUDS, *SERIES}) | ON_THEIR_OWN | set(WITHOUT)
