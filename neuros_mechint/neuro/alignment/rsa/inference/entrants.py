"""The models that are evaluated: RDMs, or families of them that are fitted, joined to the data by label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.alignment.rsa.models import RDMModel
from neuros_mechint.neuro.alignment.rsa.stack import RDMStack, rdm_stack, same_conditions


@dataclass(frozen=True)
class Entrant:
    """One model: its name, and one RDM or the RDMs it is made of ``(n_rdms, n_pairs)``, in the order of the data."""

    name: str
    stack: RDMStack
    kind: str = "fixed"


def entrants(models: Any, data: RDMStack) -> list[Entrant]:
    """Return models with the conditions of the data, in their order.

    Parameters
    ----------
    models : mapping, RDMModel, array_like, torch.Tensor, xarray.DataArray or rsatoolbox RDMs
        Names with one RDM or `RDMModel` each; one `RDMModel`; or RDMs, which are called by their labels, or by number.
    data : RDMStack

    Raises
    ------
    InputError
        No model, several RDMs under one name, two models of one name, or conditions that are not those of the data.
    """
    found = [
        Entrant(name, same_conditions(data, stack, ("data", _called(name)))[1], kind)
        for name, stack, kind in _named(models)
    ]
    names = [entrant.name for entrant in found]
    if not found or len(set(names)) < len(names):
        raise InputError(
            "models have no name of their own",
            expected="at least one model, each with its own name",
            got=", ".join(map(repr, names[:8])) or "none",
        )
    return found


def _named(models: Any) -> Iterator[tuple[str, RDMStack, str]]:
    if isinstance(models, RDMModel):
        yield "model", *_family(models)
    elif isinstance(models, Mapping):
        for name, model in models.items():
            if isinstance(model, RDMModel):
                yield str(name), *_family(model)
                continue
            stack = rdm_stack(model, _called(name))
            if len(stack) != 1:
                raise InputError(
                    f"{_called(name)} is not one RDM",
                    expected="one RDM for each name, or an RDMModel, which is fitted",
                    got=f"{len(stack)} RDMs",
                )
            yield str(name), stack, "fixed"
    else:
        stack = rdm_stack(models, "models")
        names = stack.names if stack.names is not None else range(len(stack))
        for number, name in enumerate(names):
            one = RDMStack(stack.pairs[number : number + 1], stack.n_conditions, stack.conditions)
            yield str(name), one, "fixed"


def _called(name: Any) -> str:
    return f"model {str(name)!r}"


def _family(model: RDMModel) -> tuple[RDMStack, str]:
    return model.stack, model.kind
