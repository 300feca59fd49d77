"""Training: kernels go down on what the unrolled encoder's codes say about hidden bins, by back-propagation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.circuits.dunl.kernel_steps import Kernels
from neuros_mechint.neuro.circuits.dunl.links import Link
from neuros_mechint.neuro.circuits.dunl.masked_score import Decode
from neuros_mechint.neuro.circuits.dunl.unrolled import Encoder

_N_FOLDS = 4
_STEPS_PER_SEARCH = 24


class Training(NamedTuple):
    """How a network is trained.

    Parameters
    ----------
    n_steps : int
    learning_rate : float
        Of Adam, for kernels of norm 1; it falls to zero along half a cosine.
    n_iterations, n_differentiated : int
        Of the encoder, and how many of them gradients go back through.
    sparsity : float
        What an absolute code of 1 costs, in nats.
    smoothness : float
        Of kernels with peak 1, see `fit_kernels`.
    incoherence : float
        Nats for two kernels with a cosine of 1 at one shift.
    """

    n_steps: int = 48
    learning_rate: float = 0.003
    n_iterations: int = 8
    n_differentiated: int = 6
    sparsity: float = 0.1
    smoothness: float = 3.0
    incoherence: float = 0.0


def roughness(shapes: torch.Tensor) -> torch.Tensor:
    """Return half the summed squares of second differences.

    Examples
    --------
    >>> import torch
    >>> roughness(torch.tensor([[0.0, 1.0, 0.0]])).item()
    2.0
    """
    return shapes.diff(n=2, dim=-1).square().sum() / 2


def coherence(shapes: torch.Tensor) -> torch.Tensor:
    """Return the summed squares of the cosines between all pairs of kernels at all shifts.

    Examples
    --------
    >>> import torch
    >>> coherence(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).item()  # alike when shifted by a bin
    1.0
    """
    unit = shapes / shapes.norm(dim=-1, keepdim=True)
    spectra = torch.fft.rfft(unit, 2 * shapes.shape[-1])
    cross = torch.fft.irfft(spectra[..., :, None, :] * spectra[..., None, :, :].conj(), 2 * shapes.shape[-1])
    pairs = torch.ones(shapes.shape[-2], shapes.shape[-2]).triu(1).bool()
    return cross[..., pairs, :].square().sum()


def train(
    values: torch.Tensor,
    start: Kernels,
    link: Link,
    decode: Decode,
    training: Training,
    random: np.random.Generator,
    nonnegative: bool = True,
    grouped: bool = False,
    progress: bool = False,
) -> Kernels:
    """Return kernels and baselines after training.

    All bins are dealt out to four folds. In every step one of them is hidden: the encoder, restricted to the bins in
    which ``decode`` found events without it, finds amplitudes from the others, and the loss is that of the hidden bins.
    So what is learned is to predict, and codes that fit noise do not pay. Gradients go through the last iterations of
    the encoder, but not through the choice of events.

    Parameters
    ----------
    values : torch.Tensor of shape (n_neurons, n_trials, n_times)
    start : Kernels
    link : Link
    decode : callable
    training : Training
    random : numpy.random.Generator
    nonnegative, grouped : bool
        See `Encoder`.
    progress : bool

    Returns
    -------
    Kernels
        Their peaks are 1.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from neuros_mechint.neuro.circuits.dunl.links import link_of
    >>> true = Kernels(torch.tensor([[1.0, 0.6, 0.2]]).double(), torch.zeros(1).double())
    >>> codes = torch.zeros(1, 8, 1, 40).double()
    >>> codes[..., ::8] = 5.0
    >>> values = true.drive(codes)
    >>> start = true._replace(shapes=torch.tensor([[1.0, 0.2, 0.2]]).double())
    >>> settings = Training(n_steps=40, learning_rate=0.05, smoothness=0.0, sparsity=0.0)
    >>> found = train(values, start, link_of("gaussian"), lambda *_: codes, settings, np.random.default_rng(0))
    >>> (found.shapes - true.shapes).abs().max().item() < 0.05
    True
    """
    # single precision is enough to go down with, and half the work
    single = values.float()
    norm = start.shapes.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    shapes = (start.shapes / norm).float().requires_grad_()
    baseline = start.baseline.float().requires_grad_()
    penalty = single.new_tensor(training.sparsity)
    encoder = Encoder(link, penalty, nonnegative, grouped, training.n_iterations, training.n_differentiated)
    adam = torch.optim.Adam([shapes, baseline], lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, training.n_steps)
    fold, found = torch.empty(0), []
    for step in progress_bar(range(training.n_steps), description="training", enabled=progress):
        if step % _STEPS_PER_SEARCH == 0:
            fold = torch.from_numpy(random.integers(_N_FOLDS, size=tuple(values.shape)))
            now = _detached(shapes, baseline)
            found = [decode(values, now, (fold != one).to(values.dtype)) for one in range(_N_FOLDS)]
        one = step % _N_FOLDS
        kernels = _with_peaks(shapes, baseline)
        loss = _loss(single, kernels, encoder, found[one].float(), fold == one) + _penalty(kernels.shapes, training)
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        with torch.no_grad():
            shapes /= shapes.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return _detached(shapes, baseline)


def _with_peaks(shapes: torch.Tensor, baseline: torch.Tensor) -> Kernels:
    return Kernels(shapes / shapes.detach().abs().amax(-1, keepdim=True).clamp_min(1e-12), baseline)


def _detached(shapes: torch.Tensor, baseline: torch.Tensor) -> Kernels:
    return Kernels(*(part.detach().double() for part in _with_peaks(shapes, baseline)))


def _loss(
    values: torch.Tensor, kernels: Kernels, encoder: Encoder, found: torch.Tensor, hidden: torch.Tensor
) -> torch.Tensor:
    """Return nats of all values, for which those that are hidden stand."""
    codes = encoder(values, kernels, found != 0, (~hidden).to(values.dtype), found)
    return _N_FOLDS * encoder.link.loss(values, kernels.drive(codes))[hidden].sum()


def _penalty(shapes: torch.Tensor, training: Training) -> torch.Tensor:
    return training.smoothness * roughness(shapes) + training.incoherence * coherence(shapes)
