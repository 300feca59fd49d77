"""Tangents of a step: every way to move them agrees, with a loop in NumPy too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.neuro.dynamics.lyapunov import tangent_growth, tangent_push
from neuros_mechint.neuro.dynamics.lyapunov.orthonormal import GramSchmidt, gram_schmidt, householder, too_close
from neuros_mechint.neuro.dynamics.lyapunov.tangent_growth import TangentRun, joined, tangent_runs
from neuros_mechint.neuro.dynamics.systems import as_system
from tests.truth.lyapunov_starts import LORENZ, starts

# --- the ways to the same numbers ------------------------------------------------------------------------------------


def _growth(step, rows, n_exponents, n_steps=50, inputs=None):
    system, states = as_system(step, rows, inputs)
    tangents = householder(
        torch.from_numpy(starts(n_exponents * len(states), states.shape[1], 9))
        .reshape(n_exponents, *states.shape)
        .to(states)
    )[0]
    runs = tangent_runs(system, states, tangents)
    return runs, joined([run.measure(n_steps, 10) for run in runs]).log_stretch.sum(0)


@pytest.mark.parametrize(("d", "n_exponents"), [(3, 3), (24, 5), (24, 12)])
def test_every_way_to_move_tangents_agrees(monkeypatch, d, n_exponents):
    weights = torch.from_numpy(1.5 * starts(d, d, 1) / d**0.5)

    def step(states, inputs):
        return torch.tanh(states @ weights.T + inputs.sum(-1, keepdim=True))

    rows, inputs = starts(40, d, 2), starts(40, 2, 3)
    runs, fast = _growth(step, rows, n_exponents, inputs=inputs)
    assert runs[0].push.route == "flattened"

    def refuse(*_):
        raise RuntimeError("no tracing today")

    monkeypatch.setattr(tangent_push, "flattened", refuse)
    runs, plain = _growth(step, rows, n_exponents, inputs=inputs)
    assert runs[0].push.route == ("jacobians" if d == 3 else "directions")
    assert runs[0].push.reason == "RuntimeError: no tracing today"
    monkeypatch.setattr(tangent_push, "_directions_work", lambda *_: False)
    runs, slow = _growth(step, rows, n_exponents, inputs=inputs)
    assert runs[0].push.route == "jacobians"
    monkeypatch.setattr(tangent_growth, "MOST_BY_GRAM_SCHMIDT", 0)
    _, reflected = _growth(step, rows, n_exponents, inputs=inputs)
    monkeypatch.setattr(tangent_growth, "_NUMBERS_AT_ONCE", 16 * d * n_exponents)
    runs, parts = _growth(step, rows, n_exponents, inputs=inputs)
    assert [len(run.states) for run in runs] == [14, 13, 13]
    for other in (plain, slow, reflected, parts):
        assert np.abs(other - fast).max() < 1e-10


def test_growth_equals_that_of_a_loop_in_numpy():
    rows, tangents = starts(3, 2, 0, 0.1), np.linalg.qr(starts(6, 2, 1).reshape(3, 2, 2))[0]
    system, states = as_system(nm.henon_map, rows)
    run = TangentRun(system, states, torch.from_numpy(tangents).permute(2, 0, 1).contiguous())
    found = run.measure(30, 3).log_stretch.sum(0)
    sums = np.zeros((3, 2))
    for _ in range(30):  # then chaos shows the rounding
        for row in range(3):
            x, y = rows[row]
            tangents[row], triangle = np.linalg.qr(np.array([[-2.8 * x, 1], [0.3, 0]]) @ tangents[row])
            rows[row] = 1 - 1.4 * x * x + y, 0.3 * x
            sums[row] += np.log(np.abs(triangle.diagonal()))
    assert found == pytest.approx(sums, abs=1e-8)


def test_steps_that_torch_func_cannot_transform():
    class Cubic(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return nm.logistic_map(x)

        @staticmethod
        def backward(ctx, grad):
            return grad * (4 - 8 * ctx.saved_tensors[0])

    rows = np.random.default_rng(0).uniform(0.1, 0.9, size=(16, 1))
    found = nm.lyapunov_spectrum(Cubic.apply, rows, 300, warmup=100)
    expected = nm.lyapunov_spectrum(nm.logistic_map, rows, 300, warmup=100)
    assert found.attributes["route"] == "jacobians"
    # chaos makes rounding visible in the orbit, not in its mean
    assert found.exponents[0] == pytest.approx(expected.exponents[0], abs=0.05)
    assert expected.attributes["route"] == "flattened"


def test_gram_schmidt_is_that_of_lapack_and_notices_where_it_is_not():
    tangents = torch.from_numpy(starts(6 * 20, 9)).reshape(6, 20, 9)
    expected, workspace = householder(tangents), GramSchmidt(tangents)
    for found in (gram_schmidt(tangents), workspace(tangents), workspace(tangents)):
        for ours, lapacks in zip(found, expected, strict=True):
            assert torch.allclose(ours.abs(), lapacks.abs(), atol=1e-12)
    tangents[3] = tangents[1] * (1 + 1e-13)
    assert too_close(gram_schmidt(tangents)[1])


def test_compiled_step_gives_the_same_or_says_why_not(monkeypatch):
    rows = starts(32, 3, 1, 4.0, [0, 0, 25])
    plain = nm.lyapunov_spectrum(LORENZ, rows, 100, warmup=50)

    def broken(*_, **__):
        raise RuntimeError("no compiler here")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "compile", broken)
        found = nm.lyapunov_spectrum(LORENZ, rows, 100, warmup=50, compiled=True)
    assert not found.attributes["compiled"]
    assert "not compiled: RuntimeError: no compiler here" in found.warnings
    assert np.array_equal(found.exponents, plain.exponents)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "compile", lambda function, **_: lambda *given: tuple(2 * x for x in function(*given)))
        found = nm.lyapunov_spectrum(LORENZ, rows, 100, warmup=50, compiled=True)
    assert "gives another result" in found.attributes["not_compiled"]


@pytest.mark.slow
def test_compiled_step():
    rows = starts(64, 3, 1, 4.0, [0, 0, 25])
    plain = nm.lyapunov_spectrum(LORENZ, rows, 500, warmup=50)
    found = nm.lyapunov_spectrum(LORENZ, rows, 500, warmup=50, compiled=True)
    assert found.attributes["compiled"], found.attributes["not_compiled"]
    assert found.exponents == pytest.approx(plain.exponents, abs=1e-6)


def test_too_many_singular_values_do_not_stop_the_run():
    system, states = as_system(lambda x: torch.stack([x[:, 0], 0 * x[:, 1], x[:, 0]], -1), [[1.0, 1.0, 1.0]])
    run = TangentRun(system, states, torch.eye(3, dtype=torch.float64)[:, None])
    growth = run.measure(500, 5)
    assert np.isfinite(growth.log_stretch).all()
    assert growth.n_singular.max() == 500
