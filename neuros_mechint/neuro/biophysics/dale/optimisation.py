"""What an optimiser has to know of Dale's law: when to put weights back, and how far to move which parameter."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from neuros_mechint.core.errors import InputError, number
from neuros_mechint.neuro.biophysics.dale.signs import DaleModule, dale_modules


def enforce_dales_law(optimizer: torch.optim.Optimizer, model: nn.Module) -> RemovableHandle:
    """Put the weights of a model back on their side of zero after each step of an optimiser, from now on.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    model : torch.nn.Module
        Holds modules that keep Dale's law: `DalesLinear`, `DANNLayer`, `EIRecurrentNetwork`.

    Returns
    -------
    torch.utils.hooks.RemovableHandle
        Its ``remove`` ends it.

    Raises
    ------
    InputError
        A model without such modules, or what is no optimiser.

    Examples
    --------
    >>> from neuros_mechint.neuro.biophysics.dale.linear import DalesLinear
    >>> layer = DalesLinear(5, 3)
    >>> optimizer = torch.optim.SGD(layer.parameters(), lr=100.0)
    >>> handle = enforce_dales_law(optimizer, layer)
    >>> layer(torch.ones(1, 5)).sum().backward()
    >>> optimizer.step()
    >>> bool((layer.weight * layer.signs >= 0).all())
    True
    """
    modules = list(modules_to_keep(model).values())
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError("this is no optimiser", expected="a torch.optim.Optimizer", got=type(optimizer).__name__)

    def project(*_: Any) -> None:
        for module in modules:
            module.project_()

    return optimizer.register_step_post_hook(project)


def parameter_groups(model: nn.Module, learning_rate: float) -> list[dict[str, Any]]:
    """Return the parameters of a model for an optimiser, with the learning rate that each is to have.

    Parameters
    ----------
    model : torch.nn.Module
    learning_rate : float
        Of every parameter that no module asks to be moved less, or more; see `DANNLayer`.

    Returns
    -------
    list of dict
        For ``torch.optim.SGD(parameter_groups(...))`` and all others. An optimiser that normalises gradients, such as
        Adam, is corrected by learning rates too, where scaling gradients would do nothing.

    Raises
    ------
    OptionError
        A learning rate that is not positive.

    Examples
    --------
    >>> from neuros_mechint.neuro.biophysics.dale.dann import DANNLayer
    >>> sorted(round(group["lr"], 4) for group in parameter_groups(DANNLayer(10, 4), 1.0))
    [0.05, 0.1, 0.5, 1.0]
    """
    rate = number("learning_rate", learning_rate, 0, math.inf, closed="neither")
    factor_of = {
        id(module.get_parameter(name)): factor
        for module in dale_modules(model).values()
        for name, factor in module.update_factors().items()
    }
    grouped: dict[float, list[nn.Parameter]] = defaultdict(list)
    for parameter in model.parameters():
        grouped[factor_of.get(id(parameter), 1.0)].append(parameter)
    return [{"params": members, "lr": rate * factor} for factor, members in grouped.items()]


def modules_to_keep(model: nn.Module) -> dict[str, DaleModule]:
    """Return the modules that keep Dale's law; raise `InputError` if there are none."""
    modules = dale_modules(model)
    if not modules:
        raise InputError(
            "no module of this model keeps Dale's law",
            expected="DalesLinear, DANNLayer, EIRecurrentNetwork, or a model with these",
            got=type(model).__name__,
        )
    return modules
