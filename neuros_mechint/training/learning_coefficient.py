"""The local learning coefficient: how many weights the loss really holds, from Langevin dynamics around a minimum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator, torch_generator
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.standard_errors import t_reach
from neuros_mechint.training.noise_scale import part_edges
from neuros_mechint.training.objective import Loss, Objective, differentiable
from neuros_mechint.training.results import LearningCoefficient
from neuros_mechint.training.undisturbed import undisturbed

Potential = Callable[[torch.Tensor, int], torch.Tensor]
"""``loss(weights, block)``: the mean loss at some weights, over one block of the samples."""
_ACCEPTED, _ACCEPTED_OF_BLOCKS = 0.574, 0.95
"""What the size of a step is set for: the best of exact chains; of chains on blocks, which nothing corrects, more."""
_SHORTEST = -1.5
"""Decimal logarithm of the shortest step of an exact chain, relative to the longest."""
_LEAST_ACCEPTED = {True: 0.2, False: 0.8}


class Chain(NamedTuple):
    """One chain: mean loss, mean squared distance from the centre, size of a step, share accepted."""

    loss: float
    distance: float
    step_size: float
    acceptance: float


class Settings(NamedTuple):
    """How chains run."""

    strength: float
    r"""Inverse temperature times samples, :math:`n \beta = n / \log n`."""
    localisation: float
    n_steps: int
    n_blocks: int
    step_size: float | None


def langevin_chain(
    loss: Potential, centre: torch.Tensor, settings: Settings, random: torch.Generator, progress: bool = False
) -> Chain:
    r"""Return means over a chain that samples :math:`\exp(-n \beta L(w) - \gamma |w - w^*|^2 / 2)`.

    With one block the chain is exact: each step is accepted or not (Metropolis-adjusted Langevin dynamics). With more,
    each step sees one block of the samples and is always taken (SGLD). Half as many steps again go before, in which
    the size of a step is set unless it is given.

    Parameters
    ----------
    loss : callable
        See `Potential`.
    centre : torch.Tensor of shape (n_weights,)
    settings : Settings
    random : torch.Generator

    Examples
    --------
    >>> settings = Settings(strength=1000.0, localisation=1.0, n_steps=500, n_blocks=1, step_size=None)
    >>> chain = langevin_chain(lambda w, _: w.square().sum() / 2, torch.zeros(2), settings, torch_generator(0))
    >>> abs(1000 * chain.loss - 1) < 0.3  # two weights, half each
    True
    """
    exact, n_blocks, n_warm = settings.n_blocks == 1, settings.n_blocks, max(settings.n_steps // 2, 1)

    def at(weights: torch.Tensor, block: int) -> tuple[float, float, torch.Tensor]:
        """Return the loss, the potential and its gradient."""
        weights = weights.detach().requires_grad_(True)
        value = loss(weights, block)
        (slope,) = torch.autograd.grad(value, weights)
        away, own = weights.detach() - centre, float(value.detach())
        potential = settings.strength * own + settings.localisation / 2 * float(away @ away)
        return own, potential, settings.strength * slope + settings.localisation * away

    block, here = 0, centre.clone()
    now = at(here, block)
    size = settings.step_size or 1 / max(settings.localisation, 1e-3)
    losses, distances, accepted = [], [], []
    steps = range(n_warm + settings.n_steps)
    for step in progress_bar(steps, description="Langevin chain", enabled=progress):
        if not exact:
            block = int(torch.randint(n_blocks, (), generator=random))
            now = at(here, block)
        # of exact chains some steps are far shorter: where valleys narrow, long ones would never be taken
        length = size * 10 ** (_SHORTEST * float(torch.rand((), generator=random))) if exact else size
        noise = torch.randn(len(centre), generator=random).to(here)
        there = here - length / 2 * now[2] + math.sqrt(length) * noise
        new = at(there, block)
        share = _acceptance(here, now, there, new, length)
        if (share > float(torch.rand((), generator=random))) if exact else math.isfinite(new[1]):
            here, now = there, new
        if step >= n_warm:
            losses.append(now[0])
            distances.append(float((here - centre) @ (here - centre)))
            accepted.append(share)
        elif settings.step_size is None:
            size *= math.exp((share - (_ACCEPTED if exact else _ACCEPTED_OF_BLOCKS)) * 5 / math.sqrt(5 + step))
    return Chain(float(np.mean(losses)), float(np.mean(distances)), size, float(np.mean(accepted)))


def _acceptance(
    here: torch.Tensor,
    now: tuple[float, float, torch.Tensor],
    there: torch.Tensor,
    new: tuple[float, float, torch.Tensor],
    size: float,
) -> float:
    """Return the probability with which Metropolis's rule accepts a step of Langevin dynamics."""
    if not math.isfinite(new[1]):
        return 0.0
    forth = float(((there - here + size / 2 * now[2]) ** 2).sum())
    back = float(((here - there + size / 2 * new[2]) ** 2).sum())
    exponent = now[1] - new[1] + (forth - back) / (2 * size)
    return math.exp(min(exponent, 0.0)) if not math.isnan(exponent) else 0.0


class Coefficient(NamedTuple):
    """Learning coefficient and localised part of each chain, and how the chains went."""

    values: Floats
    held: Floats
    step_size: float
    acceptance: float


def chains_around(
    objective: Objective, settings: Settings, n_chains: int, seed: SeedLike, progress: bool = False
) -> Coefficient:
    """Return the learning coefficient from each of several chains around the model's own weights.

    Raises
    ------
    InputError
        The loss is not finite there.
    """
    blocks = part_edges(objective.n_samples, settings.n_blocks)
    centre = objective.flat_weights()
    random = generator(seed)
    with differentiable(objective.module):
        base = float(objective.value().detach())
        if not math.isfinite(base):
            raise InputError("the loss is not finite at the weights of the model", got=base)

        def loss(weights: torch.Tensor, block: int) -> torch.Tensor:
            return objective.value(*blocks[block], weights)

        chains = [langevin_chain(loss, centre, settings, torch_generator(random), progress) for _ in range(n_chains)]
    losses, distances = (np.array([getattr(chain, name) for chain in chains]) for name in ("loss", "distance"))
    return Coefficient(
        settings.strength * (losses - base),
        settings.localisation / 2 * distances,
        float(np.mean([chain.step_size for chain in chains])),
        float(np.mean([chain.acceptance for chain in chains])),
    )


def settings_for(
    objective: Objective,
    n_samples: int | None,
    localisation: float,
    n_steps: int,
    batch_size: int | None,
    step_size: float | None,
) -> tuple[Settings, int]:
    """Return checked settings, and the number of samples that the temperature is for."""
    n_samples = whole("n_samples", objective.n_samples if n_samples is None else n_samples, 3)
    size = objective.n_samples if batch_size is None else whole("batch_size", batch_size)
    return (
        Settings(
            n_samples / math.log(n_samples),
            number("localisation", localisation, 0, math.inf, "neither"),
            whole("n_steps", n_steps, 10),
            -(-objective.n_samples // size),
            None if step_size is None else number("step_size", step_size, 0, math.inf, "neither"),
        ),
        n_samples,
    )


def local_learning_coefficient(
    model: Any,
    inputs: Any,
    targets: Any = None,
    loss: Loss | None = None,
    n_samples: int | None = None,
    localisation: float = 1.0,
    n_chains: int = 4,
    n_steps: int = 2000,
    batch_size: int | None = None,
    step_size: float | None = None,
    level: float = 0.95,
    seed: SeedLike = 0,
    progress: bool = True,
) -> LearningCoefficient:
    r"""Return the local learning coefficient of a model at its weights.

    :math:`\hat\lambda = n \beta (\langle L(w) \rangle - L(w^*))`, with :math:`\beta = 1 / \log n` and the mean over
    chains of Langevin dynamics around :math:`w^*` in :math:`\exp(-n \beta L(w) - \gamma |w - w^*|^2 / 2)`.

    Parameters
    ----------
    model : Adapter or torch.nn.Module
        At a minimum of the loss; looked at in eval mode, and left as it was.
    inputs, targets, loss
        See `neuros_mechint.gradient_noise_scale`.
    n_samples : int, optional
        The number :math:`n` of samples that the model was trained on; by default those given here.
    localisation : float
        :math:`\gamma`, in units of 1 / weight²: chains stay within about :math:`1 / \sqrt\gamma` of the minimum where
        the loss is flat. It takes from the estimate what ``.held`` says.
    n_chains, n_steps : int
        Chains, at least 2, and the steps of each after it has settled.
    batch_size : int, optional
        Samples that each step sees. By default all, and the chain is exact; with less it is faster per step and
        biased by the size of its steps (SGLD).
    step_size : float, optional
        In units of weight². By default set in the first steps of each chain by the share that would be accepted.
    level : float
        Coverage of the interval, from the spread between chains.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    LearningCoefficient

    Raises
    ------
    InputError
        The loss is not finite.
    OptionError, CapabilityError

    References
    ----------
    Lau et al. 2023, The local learning coefficient, doi:10.48550/arXiv.2308.12108; Watanabe 2013, A widely applicable
    Bayesian information criterion, https://jmlr.org/papers/v14/watanabe13a.html; Roberts and Tweedie 1996, Exponential
    convergence of Langevin distributions, doi:10.2307/3318418

    Examples
    --------
    >>> line = torch.nn.Linear(4, 1, bias=False)
    >>> x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    >>> found = local_learning_coefficient(
    ...     line, x, line(x).detach(), torch.nn.functional.mse_loss, n_chains=2, n_steps=400
    ... )
    >>> abs(found.value - 4 / 2) < 0.5
    True
    """
    n_chains, level = whole("n_chains", n_chains, 2), coverage(level)
    objective = Objective(model, inputs, targets, loss)
    settings, n_samples = settings_for(objective, n_samples, localisation, n_steps, batch_size, step_size)
    arguments = {"inputs": inputs, "targets": targets, "batch_size": batch_size, "n_chains": n_chains}
    provenance = Provenance.record(seed, objective.adapter.fingerprint(), arguments | settings._asdict())
    with undisturbed(objective.module):
        found = chains_around(objective, settings, n_chains, seed, progress)
    value, error = float(found.values.mean()), float(found.values.std(ddof=1) / math.sqrt(n_chains))
    reach = t_reach(error, n_chains - 1, level)
    scalars = {
        "learning_coefficient": (value, "local learning coefficient"),
        "error": (error, "standard error"),
        "low": (value - reach, "lower end"),
        "high": (value + reach, "upper end"),
        "held": (float(found.held.mean()), "held by the localisation"),
    }
    data = xr.Dataset({name: ((), number_, {"long_name": text}) for name, (number_, text) in scalars.items()})
    return LearningCoefficient(
        data.assign(chain_value=("chain", found.values, {"long_name": "of each chain"})),
        "Local learning coefficient",
        attributes={
            "n_samples": n_samples,
            "n_weights": objective.n_weights,
            "localisation": settings.localisation,
            "n_steps": settings.n_steps,
            "step_size": found.step_size,
            "acceptance": found.acceptance,
            "level": level,
        },
        provenance=provenance,
        citations=("lau2023", "watanabe2013", "roberts1996"),
        warnings=tuple(_cautions(found, value, error, settings.n_blocks == 1)),
    )


def _cautions(found: Coefficient, value: float, error: float, exact: bool) -> list[str]:
    texts = []
    if value + 2 * error < 0:
        texts.append(
            "the coefficient is negative: these weights are no minimum of the loss; train to the end, or look at the "
            "same samples that the model was trained on"
        )
    if found.acceptance < _LEAST_ACCEPTED[exact]:
        texts.append(
            f"only {100 * found.acceptance:.0f}% of steps would be accepted: they are too long, and the estimate is "
            + ("not settled" if exact else "too high")
            + "; leave step_size out, or lower it"
        )
    if error > 0.2 * abs(value):
        texts.append(f"chains differ: the error is {error:.2g}; take more steps (n_steps) or chains (n_chains)")
    return texts
