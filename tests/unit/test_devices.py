"""Main paths on a second device, which refuses what an accelerator refuses: the same numbers as on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from tests.slow import slow_case
from tests.unit.second_device import DEVICE, Elsewhere, SecondDevice, send, to_device


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TOKENS = torch.randint(1, 60, (4, 12), generator=torch.Generator().manual_seed(0))
CORRUPTED = TOKENS.index_fill(1, torch.tensor([3]), 5)
INPUTS, MIXTURE = normal(5, 6), 0.5 * normal(4, 4)
X, Y, STATES, TRIALS = normal(40, 8), normal(40, 5, seed=1), normal(8, 4), normal(3, 50, 4)
SPIKES = 20.0 * torch.arange(1, 6, dtype=torch.float64)
SIGNALS = torch.as_tensor(np.asarray(nm.fractional_gaussian_noise(0.7, 1024, 2, seed=0)))

Place = Callable[[torch.Tensor], torch.Tensor]


class Here:
    """The CPU."""

    @staticmethod
    def put(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone()

    @staticmethod
    def model(module: torch.nn.Module) -> Any:
        return nm.adapt(module)


class There(Here):
    """The second device."""

    @staticmethod
    def put(tensor: torch.Tensor) -> torch.Tensor:
        return to_device(tensor)

    @staticmethod
    def model(module: torch.nn.Module) -> Any:
        return nm.adapt(send(module))


def induction(at: type[Here]) -> Any:
    return at.model(nm.load_model("induction"))


def perceptron(at: type[Here]) -> Any:
    module = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    with torch.no_grad():
        for number, weights in enumerate(module.parameters()):
            weights.copy_(normal(*weights.shape, seed=number))
    return at.model(module)


def metric() -> Any:
    return nm.logit_difference(TOKENS[:, 1], TOKENS[:, 2])


def step(at: type[Here]) -> Callable[[torch.Tensor], torch.Tensor]:
    weights = at.put(MIXTURE)
    return lambda state: torch.tanh(state @ weights.T)


def edited(at: type[Here]) -> torch.Tensor:
    edits = [nm.Zero("blocks.1.z[head=2]"), nm.Add("blocks.0.resid_post", 0.5)]
    return induction(at).run(at.put(TOKENS), edits=edits).output


def swept(at: type[Here], engine: str) -> Any:
    patcher = nm.ActivationPatcher(induction(at), metric())
    return patcher.sweep(at.put(TOKENS), at.put(CORRUPTED), "blocks.*.z", by=("head",), engine=engine).values.values


def encoded(at: type[Here], architecture: str = "topk") -> torch.Tensor:
    sae = nm.SparseAutoencoder(16, architecture, k=3, epochs=1, progress=False)
    return sae.fit(at.put(normal(300, 8))).encode(at.put(X))


def encoded_by_device(at: type[Here]) -> torch.Tensor:
    device = DEVICE if at is There else None
    return nm.SparseAutoencoder(16, k=3, epochs=1, progress=False, device=device).fit(normal(300, 8)).encode(X)


def latent(at: type[Here]) -> float:
    inputs, activity, outputs = (normal(10, 30, n, seed=n) for n in (2, 6, 1))
    model = nm.LatentCircuitModel(3, 2, 1, alpha=0.2, n_starts=1, seed=0)
    return model.fit(at.put(inputs), at.put(activity.abs()), at.put(outputs)).r2_


def fractal(name: str) -> Callable[[type[Here]], torch.Tensor]:
    return lambda at: getattr(nm, name)()(at.put(SIGNALS))


STAYS = {
    "capture": lambda at: induction(at).capture(at.put(TOKENS), ["blocks.1.z"])["blocks.1.z"],
    "inputs of the CPU": lambda at: induction(at).capture(TOKENS, ["blocks.1.pattern"])["blocks.1.pattern"],
    "edits": edited,
    "gradients": lambda at: perceptron(at).gradients(at.put(INPUTS), ["0"], lambda output: output[:, 0])["0"],
    "autoencoder": encoded,
    "autoencoder sent there": encoded_by_device,
    "higuchi": fractal("HiguchiFractalDimension"),
    "fluctuations": fractal("DetrendedFluctuationAnalysis"),
    "hurst": fractal("HurstExponent"),
    "slope": fractal("SpectralSlope"),
    "multifractal": lambda at: nm.MultifractalSpectrum()(at.put(SIGNALS)),
    "prior": lambda at: nm.SpectralPrior(target_slope=-1.0)(at.put(SIGNALS)),
    "short-term plasticity": lambda at: nm.ShortTermPlasticity(U=0.5, tau_f=100, tau_d=200)(at.put(SPIKES)),
}
NUMBERS = {
    **{f"sweep, {engine}": lambda at, engine=engine: swept(at, engine) for engine in ("loop", "batched", "suffix")},
    "sweep, attribution": lambda at: swept(at, "attribution"),
    "cka": lambda at: nm.CKA(debiased=True).score(at.put(X), at.put(Y)),
    "cca": lambda at: nm.CCA(2).fit(at.put(X), at.put(Y)).correlations_,
    "ridge": lambda at: nm.RidgeEncoding().score(at.put(X), at.put(Y)),
    "rsa": lambda at: nm.RSA().score(at.put(X), at.put(Y)),
    "lyapunov": lambda at: nm.lyapunov_spectrum(step(at), at.put(STATES[:1]), 150, warmup=20, seed=0).exponents,
    "fixed points": lambda at: nm.FixedPointFinder(step(at)).find(at.put(STATES)).states,
    "koopman": lambda at: nm.KoopmanOperator(rank=3).fit(at.put(TRIALS)).eigenvalues_,
    "latent circuit": latent,
    "mutual information": lambda at: nm.mutual_information(at.put(SIGNALS[0, :60]), at.put(SIGNALS[1, :60])).value,
}
CASES = {**STAYS, **NUMBERS}
SLOW = ("autoencoder", "autoencoder sent there", "lyapunov")


@pytest.mark.parametrize("name", [slow_case(name) if name in SLOW else name for name in CASES])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_second_device_gives_the_same_numbers(name):
    here = CASES[name](Here)
    with SecondDevice():
        there = CASES[name](There)
    if name in STAYS:
        assert there.device == DEVICE
    there = there.here if isinstance(there, Elsewhere) else there
    np.testing.assert_allclose(np.asarray(there), np.asarray(torch.as_tensor(here).detach()), rtol=1e-4, atol=1e-5)


def test_the_second_device_refuses_what_an_accelerator_refuses():
    with SecondDevice():
        there = to_device(X)
        assert torch.zeros(3, device=there.device).tolist() == [0.0] * 3
        assert (there[:, [0, 1]] * 2).cpu().equal(X[:, [0, 1]] * 2)
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(8)
        with pytest.raises(RuntimeError, match="generator"):
            torch.randn(3, device=there.device, generator=torch.Generator())
        with pytest.raises(TypeError, match="numpy"):
            np.asarray(there)
