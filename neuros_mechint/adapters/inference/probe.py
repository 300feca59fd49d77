"""Inputs on which a HuggingFace model's sites can be proven before the user has given any."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

N_SAMPLES = 2
N_POSITIONS = 8

Probe = dict[str, torch.Tensor]


def probe_inputs(model: Any, seed: int = 0) -> Probe | None:
    """Return small random inputs for a HuggingFace model, or ``None`` where its kind of input is not known.

    Token ids are distinct and none is a special token, and encoder and decoder get different ones, so that no
    two tensors are equal by chance.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Tells its kind of input and its sizes.
    seed : int
        Of the generator, which is local.

    Returns
    -------
    dict of str to torch.Tensor or None
        Keyword arguments of the model.
    """
    generator = torch.Generator().manual_seed(seed)
    first = next(model.parameters())
    make = _MAKERS.get(getattr(model, "main_input_name", ""))
    probe = make(model.config, generator) if make is not None else None
    if probe is None:
        probe = _dummy_inputs(model)
    elif getattr(model.config, "is_encoder_decoder", False):
        # fewer positions than the encoder has, so that no shape is equal by chance either
        ids = _token_ids(model.config, generator, N_POSITIONS - 2)
        probe |= {"decoder_input_ids": ids} if ids is not None else {}
    if probe is None:
        return None
    return {
        name: tensor.to(first.device, first.dtype if tensor.is_floating_point() else None)
        for name, tensor in probe.items()
    }


def _tokens(config: Any, generator: torch.Generator) -> Probe | None:
    ids = _token_ids(config, generator, N_POSITIONS)
    return None if ids is None else {"input_ids": ids}


def _token_ids(config: Any, generator: torch.Generator, n_positions: int) -> torch.Tensor | None:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    n_tokens = getattr(text, "vocab_size", None)
    if not n_tokens:
        return None
    special: set[int] = set()
    for name, value in text.to_dict().items():
        if name.endswith("token_id") and value is not None:
            special |= set(value) if isinstance(value, (list, tuple)) else {value}
    ordinary = torch.tensor([token for token in range(n_tokens) if token not in special])
    chosen = torch.randperm(len(ordinary), generator=generator)[: N_SAMPLES * n_positions]
    if len(chosen) < N_SAMPLES * n_positions:
        chosen = torch.randint(len(ordinary), (N_SAMPLES * n_positions,), generator=generator)
    return ordinary[chosen].reshape(N_SAMPLES, n_positions)


def _pixels(config: Any, generator: torch.Generator) -> Probe | None:
    vision = getattr(config, "vision_config", None) or config
    size = getattr(vision, "image_size", None)
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    channels = getattr(vision, "num_channels", 3)
    return {"pixel_values": torch.randn(N_SAMPLES, channels, height, width, generator=generator)}


def _spectrogram(config: Any, generator: torch.Generator) -> Probe | None:
    bins, positions = getattr(config, "num_mel_bins", None), getattr(config, "max_source_positions", None)
    if bins is None or positions is None:
        return None
    # Whisper takes one length only, and halves it before its first block
    return {"input_features": torch.randn(N_SAMPLES, bins, 2 * positions, generator=generator)}


def _waveform(config: Any, generator: torch.Generator) -> Probe | None:
    strides = getattr(config, "conv_stride", None)
    if strides is None:
        return None
    length = (N_POSITIONS + 2) * math.prod(strides)
    return {"input_values": torch.randn(N_SAMPLES, length, generator=generator)}


def _dummy_inputs(model: Any) -> Probe | None:
    """Return the model's own example; it may have none, or fail to make one for this configuration."""
    try:
        inputs = dict(model.dummy_inputs)
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return None
    return {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)} or None


_MAKERS: dict[str, Callable[[Any, torch.Generator], Probe | None]] = {
    "input_ids": _tokens,
    "pixel_values": _pixels,
    "input_features": _spectrogram,
    "input_values": _waveform,
}
