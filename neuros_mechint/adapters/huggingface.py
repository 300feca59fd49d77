"""HuggingFace models: token ids, images, dicts or strings in; generation with edits and the key-value cache."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from neuros_mechint.adapters.batches import Batch
from neuros_mechint.adapters.inference.probe import probe_inputs
from neuros_mechint.adapters.tokens import check_token_ids
from neuros_mechint.adapters.torch_module import TorchAdapter
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.random import SeedLike


class HuggingFaceAdapter(TorchAdapter):
    """Adapter for a HuggingFace ``PreTrainedModel``, used as it is and left as it was.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Loaded by the caller; nothing is fetched.
    tokenizer : callable, optional
        For inputs given as strings.
    example : tensor or dict, optional
        Inputs on which the sites are proven; by default some are made up from the model's configuration.
    """

    @property
    def capabilities(self) -> frozenset[str]:
        """As for torch modules, and generation where the model has it."""
        can_generate = getattr(self.module, "can_generate", lambda: False)()
        return super().capabilities | ({"generate"} if can_generate else frozenset[str]())

    def _arguments(self, inputs: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        args, kwargs = super()._arguments(inputs)
        main = self.module.main_input_name
        if main in kwargs:  # the first array counts the samples
            kwargs = {main: kwargs[main], **kwargs}
        if args:
            kwargs = {main: args[0]}
            if len(args) > 1:
                raise InputError("several arrays need names", expected="a dict such as {'input_ids': ids}")
        return (), kwargs

    def _prepare(self, inputs: Any) -> Batch:
        batch = super()._prepare(inputs)
        self._check_inputs(batch)
        return batch

    def _check_inputs(self, batch: Batch) -> None:
        self._check_names(batch)
        for name in ("input_ids", "decoder_input_ids"):
            ids = batch.kwargs.get(name)
            if ids is not None:
                check_token_ids(name, ids, _vocabulary_size(self.module))

    def _check_names(self, batch: Batch) -> None:
        if self._takes_anything:
            return
        unknown = [name for name in batch.kwargs if name not in self._parameters]
        if unknown:
            raise InputError(
                f"{type(self.module).__name__} takes no input called {', '.join(map(repr, unknown))}",
                expected=", ".join(self._parameters),
            )

    @cached_property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.module.forward).parameters

    @property
    def _takes_anything(self) -> bool:
        return any(parameter.kind is parameter.VAR_KEYWORD for parameter in self._parameters.values())

    def _call(self, batch: Batch) -> Any:
        # A key-value cache is of no use in one pass, and would keep every layer's keys alive in the output.
        no_cache = {"use_cache": False} if "use_cache" in self._parameters else {}
        return self.module(**(no_cache | self._positions(batch) | dict(batch.kwargs)))

    def _positions(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the position of each token where padding stands before the text.

        A model's ``generate`` counts positions from the first real token; its ``forward`` counts from the first
        column, so that the same text would give other numbers in a left-padded batch than alone.
        """
        mask = batch.kwargs.get("attention_mask")
        counts = "generate" in self.capabilities and "position_ids" in self._parameters
        if mask is None or not counts or mask.ndim != 2 or bool((mask[:, 0] == 1).all()):
            return {}
        return {"position_ids": (mask.long().cumsum(-1) - 1).clamp(min=0)}

    def _probe(self) -> Batch | None:
        if self._example is None:
            made_up = probe_inputs(self.module)  # type: ignore[arg-type]
            if made_up is not None:
                return self._prepare(made_up)
        return super()._probe()

    def generate(
        self,
        inputs: Any,
        edits: Edit | Sequence[Edit] = (),
        max_new_tokens: int = 20,
        seed: SeedLike = 0,
        **options: Any,
    ) -> torch.Tensor:
        """Continue the inputs with the model's own ``generate`` and its cache, under edits.

        An edit without a position index acts at every position, of the prompt and of what follows. Positions count
        from the start of the prompt; negative ones from its end.

        Parameters
        ----------
        inputs : tensor, dict or list of str
            The prompts.
        edits : Edit or sequence of Edit
            Applied in every pass.
        max_new_tokens : int
            How many tokens to add.
        seed : int or numpy.random.Generator
            Used when ``do_sample=True``; torch's global generator is left as it was.
        **options
            Passed to the model's ``generate``.

        Returns
        -------
        torch.Tensor of shape (batch, position)
            Token ids, as the model's ``generate`` returns them.

        Raises
        ------
        CapabilityError
            The model cannot generate.
        """
        self._require("generate")
        batch = self._prepare(inputs)
        encoder_decoder = bool(getattr(self.module.config, "is_encoder_decoder", False))
        decoder_ids = batch.kwargs.get("decoder_input_ids")
        length = int(batch.kwargs["input_ids"].shape[1]) if not encoder_decoder else 1
        length = length if decoder_ids is None else int(decoder_ids.shape[1])
        options = {"do_sample": False, "max_new_tokens": max_new_tokens, **options}
        if edits:
            _check_one_growing_sequence(options)
        if "logits_to_keep" in self._parameters:
            options.setdefault(
                "logits_to_keep", 0
            )  # all: an edit of the logits counts positions from the prompt's start
        if getattr(self.module.generation_config, "pad_token_id", None) is None:
            options.setdefault("pad_token_id", getattr(self.tokenizer, "pad_token_id", None) or 0)
        return self._generate(
            lambda: self.module.generate(**batch.kwargs, **options),
            edits,
            batch,
            length,
            max_new_tokens,
            seed,
        )


def _check_one_growing_sequence(options: Mapping[str, Any]) -> None:
    """Refuse ways to generate in which a row or a position of an activation is not that of a prompt."""
    several = {name: options[name] for name in ("num_beams", "num_return_sequences") if options.get(name, 1) != 1}
    if several:
        raise OptionError(
            "edits need one sequence per prompt",
            got=", ".join(f"{name}={value}" for name, value in several.items()),
            fix="repeat the prompts to get several continuations",
        )
    if options.get("use_cache") is False:
        raise OptionError("edits need the cache: positions are counted by it", fix="leave use_cache alone")


def _vocabulary_size(module: Any) -> int | None:
    return getattr(module.config.get_text_config(), "vocab_size", None)
