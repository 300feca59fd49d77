"""How sharply the loss curves: the largest eigenvalue of its Hessian, from products with vectors alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, torch_generator
from neuros_mechint.training.objective import Loss, Objective, differentiable, flattened
from neuros_mechint.training.results import Sharpness
from neuros_mechint.training.undisturbed import undisturbed

MOST_PRODUCTS, TOLERANCE = 50, 1e-3


class TopEigenvalue(NamedTuple):
    """The largest eigenvalue of a symmetric matrix, and how far from one it can be at most."""

    value: float
    residual: float
    n_products: int


def largest_eigenvalue(
    product: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    most_products: int = MOST_PRODUCTS,
    tolerance: float = TOLERANCE,
) -> TopEigenvalue:
    r"""Return the largest eigenvalue of a symmetric matrix by Lanczos's method, all vectors kept orthogonal.

    Parameters
    ----------
    product : callable
        Of the matrix with a vector.
    start : torch.Tensor of shape (n,)
        Any vector but zero; a random one.
    most_products : int
        Each is kept: memory is that many vectors.
    tolerance : float
        Stops where the residual :math:`|A v - \lambda v|`, within which there is an eigenvalue, is below this part of
        the value.

    Returns
    -------
    TopEigenvalue

    Examples
    --------
    >>> matrix = torch.diag(torch.tensor([-9.0, 1.0, 5.0], dtype=torch.float64))
    >>> round(largest_eigenvalue(lambda v: matrix @ v, torch.ones(3, dtype=torch.float64)).value, 9)
    5.0
    """
    basis = [start / start.norm()]
    along: list[float] = []
    across: list[float] = []
    found = TopEigenvalue(0.0, np.inf, 0)
    for count in range(1, min(most_products, len(start)) + 1):
        image = product(basis[-1])
        along.append(float(image @ basis[-1]))
        image = _orthogonal(image, basis)
        across.append(float(image.norm()))
        values, vectors = np.linalg.eigh(np.diag(along) + np.diag(across[:-1], 1) + np.diag(across[:-1], -1))
        found = TopEigenvalue(float(values[-1]), abs(across[-1] * float(vectors[-1, -1])), count)
        if not np.isfinite(found.value) or found.residual <= tolerance * abs(found.value) or across[-1] == 0:
            break
        basis.append(image / across[-1])
    return found


def _orthogonal(vector: torch.Tensor, basis: list[torch.Tensor]) -> torch.Tensor:
    for _ in range(2):  # once leaves rounding of the size of what was taken away
        for one in basis:
            vector = vector - (vector @ one) * one
    return vector


def top_curvature(
    objective: Objective, seed: SeedLike, most_products: int = MOST_PRODUCTS, tolerance: float = TOLERANCE
) -> TopEigenvalue:
    """Return the largest eigenvalue of the Hessian of a loss, at the model's own weights.

    Examples
    --------
    >>> line = torch.nn.Linear(2, 1, bias=False)
    >>> x = torch.tensor([[3.0, 0.0], [0.0, 1.0]])  # the Hessian of the mean squared error is x.T @ x
    >>> objective = Objective(line, x, torch.zeros(2, 1), torch.nn.functional.mse_loss)
    >>> round(top_curvature(objective, seed=0).value, 4)
    9.0
    """
    with differentiable(objective.module, twice=True), torch.inference_mode(False), torch.enable_grad():
        loss = objective.value()
        gradient = torch.autograd.grad(
            loss, objective.weights, create_graph=True, allow_unused=True, materialize_grads=True
        )
        if not any(one.requires_grad for one in gradient):
            return TopEigenvalue(0.0, 0.0, 0)  # the loss is linear in the weights

        def product(vector: torch.Tensor) -> torch.Tensor:
            pieces = vector.split([weight.numel() for weight in objective.weights])
            outer = [piece.view_as(weight) for piece, weight in zip(pieces, objective.weights, strict=True)]
            image = torch.autograd.grad(
                gradient, objective.weights, outer, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            return flattened(list(image))

        weights = objective.flat_weights()
        start = torch.randn(len(weights), generator=torch_generator(seed)).to(weights)
        return largest_eigenvalue(product, start, most_products, tolerance)


def sharpness(
    model: Any,
    inputs: Any,
    targets: Any = None,
    loss: Loss | None = None,
    most_products: int = MOST_PRODUCTS,
    tolerance: float = TOLERANCE,
    seed: SeedLike = 0,
) -> Sharpness:
    r"""Return the largest eigenvalue of the Hessian of the loss on some samples.

    Parameters
    ----------
    model : Adapter or torch.nn.Module
        Looked at in eval mode, and left as it was. Its loss needs a second derivative: kinks (relu) have none, and what
        lies between them counts.
    inputs, targets, loss
        See `neuros_mechint.gradient_noise_scale`.
    most_products : int
        Most products of the Hessian with a vector; each costs about two gradients and keeps one vector of all weights.
    tolerance : float
        Relative; see ``.residual`` of the result.
    seed : int or numpy.random.Generator
        Of the first vector.

    Returns
    -------
    Sharpness
        With ``.value``, ``.residual`` (there is an eigenvalue within so much of it), and ``.largest_rate``, beyond
        which gradient descent would not settle here.

    Raises
    ------
    InputError
        The loss is not finite.
    OptionError, CapabilityError

    References
    ----------
    Pearlmutter 1994, Fast exact multiplication by the Hessian, doi:10.1162/neco.1994.6.1.147; Cohen et al. 2021,
    Gradient descent on neural networks typically occurs at the edge of stability, doi:10.48550/arXiv.2103.00065

    Examples
    --------
    >>> line = torch.nn.Linear(2, 1, bias=False)
    >>> x = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    >>> found = sharpness(line, x, torch.zeros(2, 1), torch.nn.functional.mse_loss)
    >>> round(found.value, 4), round(found.largest_rate, 4)
    (9.0, 0.2222)
    """
    most_products, tolerance = whole("most_products", most_products), number("tolerance", tolerance, 0, 1)
    objective = Objective(model, inputs, targets, loss)
    arguments = {"inputs": inputs, "targets": targets, "most_products": most_products, "tolerance": tolerance}
    provenance = Provenance.record(seed, objective.adapter.fingerprint(), arguments)
    with undisturbed(objective.module):
        found = top_curvature(objective, seed, most_products, tolerance)
    if not np.isfinite(found.value):
        raise InputError("the curvature of the loss is not finite here", got=found.value)
    settled = found.residual <= max(tolerance * abs(found.value), 0.0)
    warning = (
        f"{found.n_products} products leave the eigenvalue uncertain by {found.residual:.2g}, and a larger one may be "
        "missed; raise most_products"
    )
    return Sharpness(
        xr.Dataset(
            {
                "sharpness": ((), found.value, {"long_name": "largest eigenvalue of the Hessian"}),
                "residual": ((), found.residual, {"long_name": "residual"}),
            }
        ),
        "Sharpness",
        attributes={"n_products": found.n_products, "n_weights": objective.n_weights, "n_samples": objective.n_samples},
        provenance=provenance,
        citations=("pearlmutter1994", "cohen2021"),
        warnings=() if settled or found.n_products == objective.n_weights else (warning,),
    )
