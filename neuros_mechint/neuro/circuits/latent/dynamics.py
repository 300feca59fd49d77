"""The dynamics of a latent circuit: leaky nodes that rectify what they receive."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats


def simulate(connectivity: Floats, input_weights: Floats, inputs: Floats, alpha: float) -> Floats:
    r"""Return what the nodes of a circuit do, from a start at 0.

    .. math:: x_{t+1} = (1 - \alpha) x_t + \alpha \max(W x_t + W_{in} u_t, 0)

    Parameters
    ----------
    connectivity : numpy.ndarray of shape (n_nodes, n_nodes)
        Row: the node that receives; column: the node that sends.
    input_weights : numpy.ndarray of shape (n_nodes, n_inputs)
    inputs : numpy.ndarray of shape (n_trials, n_times, n_inputs)
    alpha : float
        Time step divided by the time constant.

    Returns
    -------
    numpy.ndarray of shape (n_trials, n_times, n_nodes)
        The state at each time, before the input of that time has acted.

    Examples
    --------
    >>> simulate(np.array([[0.5]]), np.array([[1.0]]), np.ones((1, 3, 1)), alpha=0.2).ravel().tolist()
    [0.0, 0.2, 0.38]
    """
    drive = inputs @ input_weights.T
    states = np.zeros((*inputs.shape[:2], len(connectivity)))
    x = states[:, 0]
    for time in range(1, inputs.shape[1]):
        x = (1 - alpha) * x + alpha * np.maximum(x @ connectivity.T + drive[:, time - 1], 0)
        states[:, time] = x
    return states


def leaky_filter(signals: Floats, alpha: float) -> Floats:
    r"""Return signals as a leaky node sees them: :math:`o_{t+1} = (1 - \alpha) o_t + \alpha s_t`, from 0.

    Parameters
    ----------
    signals : numpy.ndarray of shape (n_trials, n_times, n_signals)
    alpha : float

    Returns
    -------
    numpy.ndarray of shape (n_trials, n_times, n_signals)

    Examples
    --------
    >>> leaky_filter(np.ones((1, 3, 1)), alpha=0.5).ravel().tolist()
    [0.0, 0.5, 0.75]
    """
    filtered = np.zeros_like(signals)
    for time in range(1, signals.shape[1]):
        filtered[:, time] = (1 - alpha) * filtered[:, time - 1] + alpha * signals[:, time - 1]
    return filtered
