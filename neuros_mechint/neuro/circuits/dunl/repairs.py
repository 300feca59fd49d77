"""What gets kernels out of dead ends: kernels off centre, twice the same, without events, or halves of one shape."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import max_pool1d, pad

from neuros_mechint.neuro.circuits.dunl.kernel_steps import Kernels
from neuros_mechint.neuro.circuits.dunl.links import link_of
from neuros_mechint.neuro.circuits.dunl.score import largest_cosines

_SMOOTHING = 3.0  # bins, standard deviation
_RESIDUAL_SMOOTHING = 1.0
_MOST_SHIFT = 6
_ALIKE, _LEAST_SHARE, _N_WINDOWS = 0.85, 0.05, 200
_TIMES_CHANCE, _LEAST_TOGETHER, _FEWEST_EVENTS = 3.0, 0.35, 10


def random_kernels(n_kernels: int, length: int, random: np.random.Generator) -> torch.Tensor:
    """Return smooth random kernels that fade at both ends and whose largest absolute value is 1.

    Examples
    --------
    >>> import numpy as np
    >>> random_kernels(2, 40, np.random.default_rng(0)).abs().amax(1).tolist()
    [1.0, 1.0]
    """
    from scipy.ndimage import gaussian_filter1d

    rough = random.standard_normal((n_kernels, length))
    return _with_peak_one(gaussian_filter1d(rough, min(_SMOOTHING, length / 8), axis=1) * np.hanning(length + 2)[1:-1])


def centred(kernels: torch.Tensor) -> torch.Tensor:
    """Return kernels moved by up to 6 bins, so that the centre of their power is in the middle of the window.

    Examples
    --------
    >>> import torch
    >>> centred(torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0]])).tolist()
    [[0.0, 1.0, 1.0, 0.0, 0.0]]
    """
    length = kernels.shape[1]
    power = kernels.square()
    centre = (power * torch.arange(length)).sum(1) / power.sum(1).clamp_min(1e-12)
    moves = ((length - 1) / 2 - centre).round().clamp(-_MOST_SHIFT, _MOST_SHIFT)
    return torch.stack([_moved(kernel, int(move)) for kernel, move in zip(kernels, moves, strict=True)])


def reseeded(kernels: Kernels, codes: torch.Tensor, values: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Return kernels in which the weaker of two alike, and any with hardly an event, begins again.

    It begins with what is common to some of the windows in which most is left to explain.

    Parameters
    ----------
    kernels : Kernels
    codes : torch.Tensor of shape (n_neurons, n_trials, n_kernels, n_times)
    values : torch.Tensor of shape (n_neurons, n_trials, n_times)
        Counts.
    random : numpy.random.Generator

    Returns
    -------
    torch.Tensor of shape (n_kernels, kernel_length)

    Examples
    --------
    >>> import numpy as np, torch
    >>> kernels = Kernels(torch.ones(2, 8).double(), torch.zeros(1).double())
    >>> codes, counts = torch.zeros(1, 9, 2, 50).double(), torch.ones(1, 9, 50).double()
    >>> codes[:, :, 0, 9] = 1
    >>> found = reseeded(kernels, codes, counts, np.random.default_rng(0))
    >>> torch.equal(found[0], kernels.shapes[0]), torch.equal(found[1], kernels.shapes[1])
    (True, False)
    """
    shapes, mass = kernels.shapes.clone(), codes.sum((0, 1, 3))
    cosines, _ = largest_cosines(shapes.numpy(), shapes.numpy())
    failed = set(torch.nonzero(mass <= _LEAST_SHARE * mass.sum()).flatten().tolist())
    for i in range(len(shapes)):
        for j in range(i):
            if cosines[i, j] > _ALIKE and not failed & {i, j}:
                failed.add(min((i, j), key=lambda kernel: float(mass[kernel])))
    if failed:
        windows = _unexplained(kernels, codes, values)
        for kernel in sorted(failed):
            shapes[kernel] = _common_shape(windows, random)
    return shapes


def fused(kernels: Kernels, codes: torch.Tensor, values: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Return kernels in which two that occur together, always at the same lag, are one, and the other begins again.

    Parameters and value are those of `reseeded`.

    Examples
    --------
    >>> import numpy as np, torch
    >>> kernels = Kernels(torch.zeros(2, 40).double(), torch.zeros(1).double())
    >>> kernels.shapes[0, 10:18], kernels.shapes[1, 12:20] = 1.0, -1.0
    >>> codes, counts = torch.zeros(1, 40, 2, 200).double(), torch.ones(1, 40, 200).double()
    >>> times = torch.arange(40)
    >>> codes[0, times, 0, 2 * times] = codes[0, times, 1, 2 * times + 8] = 1
    >>> fused(kernels, codes, counts, np.random.default_rng(0))[0].abs().sum().item()
    16.0
    """
    shapes = kernels.shapes.clone()
    for i in range(len(shapes)):
        for j in range(i + 1, len(shapes)):
            lag, ratio = _usual_lag(codes[:, :, i].flatten(0, 1), codes[:, :, j].flatten(0, 1), shapes.shape[1])
            if lag is not None:
                joined = shapes[i] + ratio * _moved(shapes[j], lag)
                shapes[i] = joined / joined.abs().max().clamp_min(1e-12)
                shapes[j] = _common_shape(_unexplained(kernels, codes, values), random)
                return shapes
    return shapes


def _usual_lag(one: torch.Tensor, other: torch.Tensor, length: int) -> tuple[int | None, float]:
    """Return at which lag after the one kernel the other mostly occurs, if it does, and their ratio of amplitudes."""
    n_fewer = int(min((one > 0).sum(), (other > 0).sum()))
    if n_fewer < _FEWEST_EVENTS:
        return None, 0.0
    near = pad(other, (length - 1, length - 1)).unfold(1, 2 * length - 1, 1)  # (row, time, lag + length - 1)
    row, time = one.nonzero(as_tuple=True)
    together = (near[row, time] > 0).double().sum(0)
    best = int(together.argmax())
    n_together = float(together[max(best - 1, 0) : best + 2].sum())  # an event may be found one bin early or late
    chance = 3 * float((one > 0).sum()) * float((other > 0).sum()) / one.numel()
    if n_together < _LEAST_TOGETHER * n_fewer or n_together < _TIMES_CHANCE * chance:
        return None, 0.0
    at_lag = near[row, time, best]
    meet = at_lag > 0
    return best - (length - 1), float((at_lag[meet] / one[row, time][meet]).median())


def _unexplained(kernels: Kernels, codes: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return windows around the places where counts differ most from their rates, ``(n_windows, kernel_length)``."""
    from scipy.ndimage import gaussian_filter1d

    length = kernels.shapes.shape[1]
    rates = link_of("poisson").mean(kernels.drive(codes))
    residual = ((values - rates) / rates.clamp_min(1e-6).sqrt()).flatten(0, 1)
    windows = torch.from_numpy(gaussian_filter1d(residual.numpy(), _RESIDUAL_SMOOTHING, axis=1)).unfold(1, length, 1)
    middle = torch.hann_window(length + 2, periodic=False, dtype=values.dtype)[1:-1]
    power = windows.square() @ middle
    # one window per place, or a few large events would be all there is
    highest = max_pool1d(power[:, None], length // 2 * 2 + 1, stride=1, padding=length // 2)[:, 0]
    power = torch.where(power == highest, power, 0.0)
    best = power.flatten().topk(min(_N_WINDOWS, int((power > 0).sum()))).indices
    return windows.flatten(0, 1)[best]


def _common_shape(windows: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Return the main shape of a random half of the windows, the way up that most of them have it."""
    chosen = windows.numpy()[random.permutation(len(windows))[: max(1, len(windows) // 2)]]
    weights, _, shapes = np.linalg.svd(chosen, full_matrices=False)
    shape = shapes[0] * (1 if weights[:, 0].sum() >= 0 else -1)
    return _with_peak_one(shape * np.hanning(len(shape) + 2)[1:-1])


def _moved(kernel: torch.Tensor, by: int) -> torch.Tensor:
    """Return a kernel moved to later bins by ``by``; what leaves the window is lost."""
    moved, length = torch.zeros_like(kernel), len(kernel)
    if abs(by) < length:
        moved[max(by, 0) : length + min(by, 0)] = kernel[max(-by, 0) : length - max(by, 0)]
    return moved


def _with_peak_one(kernels: npt.NDArray[np.floating]) -> torch.Tensor:
    return torch.from_numpy(kernels / np.maximum(np.abs(kernels).max(-1, keepdims=True), 1e-12))
