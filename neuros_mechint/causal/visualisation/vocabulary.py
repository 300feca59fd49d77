"""The tokens nearest to embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from neuros_mechint.causal.visualisation.response import EMBEDDING, Response
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.sites import SiteReference

_MATRIX = 2
_SAME = 1e-5


@dataclass(frozen=True)
class Vocabulary:
    """Embeddings of all tokens of a model.

    Parameters
    ----------
    embeddings : torch.Tensor of shape (n_tokens, n_units)
    tokenizer : object, optional
        Its ``convert_ids_to_tokens`` names them.
    """

    embeddings: torch.Tensor
    tokenizer: Any = None

    @property
    def typical_norm(self) -> float:
        """Median norm of an embedding."""
        return float(self.embeddings.norm(dim=1).median())

    def draw(self, shape: tuple[int, ...], source: torch.Generator) -> torch.Tensor:
        """Return embeddings of random tokens, ``(*shape, n_units)``."""
        return self.embeddings[torch.randint(len(self.embeddings), shape, generator=source)]

    def nearest(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the token of greatest cosine with each embedding ``(..., n_units)``, and that cosine."""
        directions = torch.nn.functional.normalize(self.embeddings, dim=1)
        cosines = torch.nn.functional.normalize(values, dim=-1) @ directions.T
        best = cosines.max(-1)
        return best.indices, best.values

    def names(self, tokens: torch.Tensor) -> list[str]:
        """Return the tokens as text, or their ids where there is no tokenizer."""
        ids = tokens.flatten().tolist()
        convert = getattr(self.tokenizer, "convert_ids_to_tokens", None)
        return [str(one) for one in (convert(ids) if convert else ids)]


def find_vocabulary(response: Response, given: Any) -> Vocabulary | None:
    """Return the vocabulary of the place that stimuli are put to, or ``None`` where no tokens are embedded there.

    A parameter of the model is its table of embeddings if its rows, for the tokens at hand, are what is found at the
    place, up to one factor.

    Raises
    ------
    InputError
        No parameter is, or what is given has another width.
    """
    values, tokenizer = response.place.values, getattr(response.model, "tokenizer", None)
    if given is not None:
        try:
            table = torch.as_tensor(given).to(values)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                "this is no table of embeddings",
                expected=f"(n_tokens, {values.shape[-1]}) finite numbers",
                got=f"{type(given).__name__}: {error}",
            ) from error
        if table.ndim != _MATRIX or table.shape[1] != values.shape[-1] or not bool(torch.isfinite(table).all()):
            raise InputError(
                "this is no table of embeddings for the place",
                expected=f"(n_tokens, {values.shape[-1]}) finite numbers",
                got=tuple(table.shape),
            )
        return Vocabulary(table, tokenizer)
    if not response.takes_tokens:
        return None
    table = _table_of(response)
    if table is None and SiteReference.parse(response.place.name).name.split(".")[-1] != EMBEDDING:
        return None
    if table is None:
        raise InputError(
            f"no parameter of the model gives what is found at {response.place.name!r} by its rows",
            fix="pass vocabulary=, the embedding of each token, (n_tokens, n_units)",
        )
    return Vocabulary(table, tokenizer)


def _table_of(response: Response) -> torch.Tensor | None:
    tokens, values = response.tokens_and_embeddings()
    module = getattr(response.model, "module", None)
    if tokens is None or not isinstance(module, torch.nn.Module):
        return None
    for parameter in module.parameters():
        table = parameter.detach()
        if table.ndim != _MATRIX or table.shape[1] != values.shape[-1] or len(table) <= int(tokens.max()):
            continue
        rows = table[tokens].to(values)
        factor = (values * rows).sum() / rows.square().sum()
        if bool(torch.isfinite(factor)) and torch.allclose(rows * factor, values, rtol=_SAME, atol=_SAME):
            return table.to(values) * factor
    return None
