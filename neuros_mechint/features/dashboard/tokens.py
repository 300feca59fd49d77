"""The tokens at each place, as words where a tokenizer is known, and what stands around an example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.adapter import Adapter
from neuros_mechint.features.dashboard.codes import Codes, window_codes

_NAMES = ("input_ids", "input", "tokens")


@dataclass(frozen=True)
class Tokens:
    """The tokens of the inputs.

    Parameters
    ----------
    ids : torch.Tensor of shape (n_samples, n_positions) or None
        ``None`` where the inputs are no tokens.
    tokenizer : object or None
    attention_mask : torch.Tensor of shape (n_samples, n_positions) or None
        Of the inputs as they were given.
    """

    ids: torch.Tensor | None
    tokenizer: Any
    attention_mask: torch.Tensor | None

    @classmethod
    def of(cls, model: Adapter, inputs: Any, site: str) -> Tokens:
        """Return the tokens a model is given."""
        own = getattr(model, "tokenizer", None) or getattr(getattr(model, "module", None), "tokenizer", None)
        prepare: Any = getattr(model, "prepared", None)
        if prepare is None:
            return cls(None, own, None)
        batch = prepare(inputs, [])[0]
        named = {**dict(enumerate(batch.args)), **batch.kwargs}
        names = ("decoder_input_ids",) if site.startswith("decoder.") else (*_NAMES, 0)
        ids = next((named[name] for name in names if name in named), None)
        if not isinstance(ids, torch.Tensor) or ids.is_floating_point() or ids.ndim != 2:
            return cls(None, own, batch.attention_mask)
        ids = ids.T if batch.sample_axis else ids
        mask = batch.attention_mask
        if mask is None and isinstance(inputs, (list, tuple)) and all(isinstance(text, str) for text in inputs):
            mask = _without_padding_at_the_end(ids, own)
        return cls(ids.cpu(), own, mask)

    def fit(self, codes: Codes) -> bool:
        """Return whether there is one token for each place."""
        return self.ids is not None and codes.axes == ("sample", "position") and codes.shape == tuple(self.ids.shape)

    @cached_property
    def are_words(self) -> bool:
        """Whether tokens are shown as words, and not as numbers."""
        return callable(getattr(self.tokenizer, "decode", None))

    def word(self, number: int) -> str:
        """Return one token as text, with the space before it; its number where no tokenizer knows it."""
        if not self.are_words:
            return str(number)
        try:
            return self._after_another(number) or str(self.tokenizer.decode([number])) or str(number)
        except (IndexError, KeyError, OverflowError, TypeError, ValueError):
            return str(number)  # outputs beyond the vocabulary, which some models are padded with

    def _after_another(self, number: int) -> str:
        """Return how the text goes on with a token: alone, many tokenizers decode it without the space before it."""
        ids, text = self._another
        longer = str(self.tokenizer.decode([*ids, number])) if ids else ""
        return longer[len(text) :] if longer.startswith(text) else ""

    @cached_property
    def _another(self) -> tuple[list[int], str]:
        """Some token that is a word, and its text."""
        encode: Any = getattr(self.tokenizer, "encode", None)
        try:
            ids: list[int] = list(encode("a", add_special_tokens=False)) if encode is not None else []
        except (TypeError, ValueError):
            ids = []  # a tokenizer with an interface of its own
        return ids, str(self.tokenizer.decode(ids)) if ids else ""


def _without_padding_at_the_end(ids: torch.Tensor, tokenizer: Any) -> torch.Tensor | None:
    """Return a mask for texts that were padded on the right and came without one, as TransformerLens has them."""
    pad = getattr(tokenizer, "pad_token_id", None)
    if pad is None:
        return None
    kept = (ids != pad).flip(1).cumsum(1).flip(1).cpu() > 0
    return None if bool(kept.all()) else kept


def windows(
    tokens: Tokens, codes: Codes, chosen: Sequence[int], places: npt.NDArray[np.int64], context: int
) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.float64]]:
    """Return tokens and activations around each example, ``(n_chosen, n_examples, 2 context + 1)``.

    Beyond the ends of a sequence, and at padding, the token is empty and the activation NaN.
    """
    assert tokens.ids is not None
    shape = (*places.shape[:2], 2 * context + 1)
    words, values = np.full(shape, "", dtype=object), np.full(shape, np.nan)
    for sample in np.unique(places[..., 0][places[..., 0] >= 0]):
        around = window_codes(codes, int(sample), chosen)
        for feature, example in np.argwhere(places[..., 0] == sample):
            middle = int(places[feature, example, 1])
            for position in range(max(0, middle - context), min(len(around), middle + context + 1)):
                if np.isfinite(around[position, feature]):
                    slot = feature, example, position - middle + context
                    values[slot] = around[position, feature]
                    words[slot] = tokens.word(int(tokens.ids[sample, position]))
    return words.astype(str), values
