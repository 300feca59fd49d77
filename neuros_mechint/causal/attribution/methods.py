"""captum's methods, run on a metric as a function of a site."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neuros_mechint.causal.attribution.deeplift import deeplift
from neuros_mechint.causal.attribution.place import SiteFunction
from neuros_mechint.core.random import SeedLike, generator

Estimate = tuple[torch.Tensor, torch.Tensor | None]


@dataclass(frozen=True)
class Setting:
    """What a method works on.

    Parameters
    ----------
    captum : module
        ``captum.attr``.
    function : SiteFunction
    values : torch.Tensor of shape (n_samples, ...)
        The activation whose entries get attributions.
    baseline : torch.Tensor of shape (n_samples, ...), or (n_baselines, ...) where the method draws from a set
        What it is compared with.
    n_steps : int
        Points on the path, or random draws.
    seed : int or numpy.random.Generator
    """

    captum: Any
    function: SiteFunction
    values: torch.Tensor
    baseline: torch.Tensor
    n_steps: int
    seed: SeedLike


@dataclass(frozen=True)
class Method:
    """One method of attribution.

    Parameters
    ----------
    title : str
    run : callable
        ``run(setting)`` gives the attribution, ``(n_samples, ...)``, and its standard error over random draws.
    citations : tuple of str
    when_incomplete : str
        What to do where attributions do not add up.
    random : bool
        The baseline is a set of any size, from which the method draws.
    """

    title: str
    run: Callable[[Setting], Estimate]
    citations: tuple[str, ...]
    when_incomplete: str
    random: bool = False


def _integrated_gradients(setting: Setting) -> Estimate:
    found = setting.captum.IntegratedGradients(setting.function).attribute(
        setting.values,
        baselines=setting.baseline,
        n_steps=setting.n_steps,
        internal_batch_size=len(
            setting.values
        ),  # one point of the path at a time: metrics may hold one token per sample
    )
    return found.detach(), None


def _input_x_gradient(setting: Setting) -> Estimate:
    # captum's baseline is zero; the same function of the distance to ours has its zero there
    difference = (setting.values - setting.baseline).requires_grad_()
    found = setting.captum.InputXGradient(lambda shift: setting.function(setting.baseline + shift))
    return found.attribute(difference).detach(), None


def _gradient_shap(setting: Setting) -> Estimate:
    method = setting.captum.GradientShap(setting.function)
    mean = torch.zeros_like(setting.values, dtype=torch.float64)
    squares = torch.zeros_like(mean)
    with _global_generator_from(setting.seed):
        for done in range(setting.n_steps):
            # captum's own n_samples would put all draws in one batch, and give no spread
            draw = method.attribute(setting.values, baselines=setting.baseline, n_samples=1).detach().double()
            change = draw - mean
            mean += change / (done + 1)
            squares += change * (draw - mean)
    spread = (squares / (setting.n_steps - 1) / setting.n_steps).sqrt() if setting.n_steps > 1 else None
    return mean.to(setting.values.dtype), spread


def _deeplift(setting: Setting) -> Estimate:
    return deeplift(setting.captum, setting.function, setting.values, setting.baseline), None


METHODS = {
    "integrated_gradients": Method(
        "Integrated gradients",
        _integrated_gradients,
        ("sundararajan2017", "kokhlikyan2020captum"),
        "raise n_steps, or take activations of other inputs as the baseline (near zero a LayerNorm changes abruptly)",
    ),
    "deeplift": Method("DeepLIFT", _deeplift, ("shrikumar2017", "kokhlikyan2020captum"), "use integrated_gradients"),
    "gradient_shap": Method(
        "Gradient SHAP",
        _gradient_shap,
        ("lundberg2017", "erion2021", "kokhlikyan2020captum"),
        "raise n_steps, there are too few random draws",
        random=True,
    ),
    "input_x_gradient": Method(
        "Input times gradient",
        _input_x_gradient,
        ("shrikumar2016", "kokhlikyan2020captum"),
        "use integrated_gradients, as one gradient is exact for linear models only",
    ),
}


@contextmanager
def _global_generator_from(seed: SeedLike) -> Generator[None]:
    """Let NumPy's global generator, from which captum draws, follow ``seed``, and put it and torch's back after."""
    before = np.random.get_state()  # noqa: NPY002
    own = np.random.RandomState(int(generator(seed).integers(2**32)))
    with torch.random.fork_rng():  # torch's only makes noise, which captum multiplies by zero
        np.random.set_state(own.get_state())  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
