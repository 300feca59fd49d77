"""The same network knowing nothing: every weight tensor with its entries in random order."""

from __future__ import annotations

import copy
from types import MappingProxyType
from typing import Any

import torch

from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.errors import CapabilityError
from neuros_mechint.core.random import SeedLike, torch_generator


def shuffled_weights(model: Adapter, seed: SeedLike = 0) -> Adapter:
    """Return a copy of a model in which the entries of each weight tensor are permuted.

    It has the same architecture, and weights of the same size and spread, but nothing of what was learned: a control
    for methods that could find structure in any network.

    Parameters
    ----------
    model : Adapter
        Left as it is. It must hold a torch module.
    seed : int or numpy.random.Generator
        Draws the permutations.

    Returns
    -------
    Adapter
        Of the same kind.

    Raises
    ------
    CapabilityError
        The model holds no torch module, or one that cannot be copied.

    References
    ----------
    Adebayo et al. 2018, Sanity checks for saliency maps, doi:10.48550/arXiv.1810.03292

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.Linear(40, 1))
    >>> other = shuffled_weights(model)
    >>> torch.equal(other.module.weight, model.module.weight)
    False
    >>> torch.equal(other.module.weight.sort().values, model.module.weight.sort().values)
    True
    """
    advice = "give controls of your own: the same architecture with other weights, each through nm.adapt"
    if not isinstance(getattr(model, "module", None), torch.nn.Module):
        raise CapabilityError(f"{model!r} holds no weights to shuffle", fix=advice)
    # shared with the copy: what is the same for any weights, and need not or cannot be copied
    shared = [one for name, one in vars(model).items() if name == "tokenizer" or isinstance(one, MappingProxyType)]
    try:
        copied: Any = copy.deepcopy(model, {id(one): one for one in shared})
    except Exception as error:  # whatever a model of someone else's raises
        raise CapabilityError(f"{model!r} cannot be copied", got=error, fix=advice) from error
    random = torch_generator(seed)
    with torch.no_grad():
        for parameter in copied.module.parameters():
            order = torch.randperm(parameter.numel(), generator=random).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
    return copied
