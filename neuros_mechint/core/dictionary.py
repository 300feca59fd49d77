"""What a dictionary of features is to the rest of the package: something that encodes and decodes activations."""

from __future__ import annotations

import copy
import hashlib
from typing import Any, Protocol, runtime_checkable

import torch

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.fingerprint import fingerprint_array, fingerprint_module
from neuros_mechint.core.site_names import canonical_name

_PROBED_ROWS = 16
_TOLERANCE = 1e-3


@runtime_checkable
class Dictionary(Protocol):
    """A sparse autoencoder, or anything else that takes activations apart into features and puts them together.

    It may also have ``model_fingerprint`` and ``site``, the model and the place it was made for, and
    ``fingerprint()``, its own identity.
    """

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features ``(..., n_features)`` of activations ``(..., n_inputs)``, row by row."""
        ...

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        """Return the activations ``(..., n_inputs)`` that features ``(..., n_features)`` stand for."""
        ...


def site_of(dictionary: Any) -> str | None:
    """Return the site a dictionary was made for, ours or SAELens's, where it knows."""
    own = getattr(dictionary, "site", None)
    if own is None:
        own = getattr(getattr(getattr(dictionary, "cfg", None), "metadata", None), "hook_name", None)
    return canonical_name(own) if isinstance(own, str) else None


def check_dictionary(dictionary: Any) -> Any:
    """Return a dictionary as it takes plain rows, or raise `InputError` unless it encodes and decodes them alone.

    SAELens's autoencoders of heads put rows in a shape of their own: of these it is a copy that does not.

    Examples
    --------
    >>> check_dictionary(torch.nn.Identity())
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.InputError: this is no dictionary of features
      expected: an object with encode and decode, such as a fitted nm.SparseAutoencoder or a SAELens SAE
      got:      Identity
    """
    if not isinstance(dictionary, Dictionary):
        raise InputError(
            "this is no dictionary of features",
            expected="an object with encode and decode, such as a fitted nm.SparseAutoencoder or a SAELens SAE",
            got=type(dictionary).__name__,
        )
    settings = getattr(dictionary, "cfg", None)
    architecture = getattr(settings, "architecture", None)
    if callable(architecture) and "transcoder" in str(architecture()):
        raise InputError("a transcoder reads one site and writes another", expected="an autoencoder of one site")
    normalization = getattr(settings, "normalize_activations", None)
    if normalization in ("constant_norm_rescale", "layer_norm"):
        raise InputError(
            "what this autoencoder decodes depends on what it encoded last, so that its features cannot be edited",
            expected="one without normalization of each row at inference",
            got=f"normalize_activations={normalization!r}",
        )
    if not getattr(dictionary, "hook_z_reshaping_mode", False):
        return dictionary
    plain: Any = copy.deepcopy(dictionary)
    plain.turn_off_forward_pass_hook_z_reshaping()
    return plain


def n_features(dictionary: Dictionary, n_inputs: int) -> int:
    """Return how many features a dictionary has for activations of this width.

    Raises
    ------
    InputError
        It does not take activations of this width, or the features of one row depend on other rows.
    """
    rows = torch.randn(_PROBED_ROWS, n_inputs, generator=torch.Generator().manual_seed(0))
    rows = as_taken_by(dictionary, rows * torch.arange(1, _PROBED_ROWS + 1)[:, None])  # rows of different size compete
    with torch.no_grad():
        together, rebuilt = taken_apart(dictionary, rows)
        alone = torch.cat([dictionary.encode(row[None]) for row in rows])
    if rebuilt.shape != rows.shape:
        raise InputError(
            "the dictionary does not give back what it is given",
            expected=f"activations of {n_inputs} units",
            got=f"{rebuilt.shape[-1]} units: a transcoder, whose inputs and outputs are different sites?",
        )
    if not torch.allclose(together, alone, atol=_TOLERANCE * float(together.abs().max())):
        raise InputError(
            "the features of a row depend on the other rows it is encoded with",
            expected="a dictionary in its form for inference",
            fix="a BatchTopK autoencoder in training form: save it with save_inference_model and load it, which makes "
            "it a JumpReLU",
        )
    return int(together.shape[-1])


def taken_apart(dictionary: Dictionary, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the features of activations ``(..., n_inputs)`` and the activations they stand for.

    Raises
    ------
    InputError
        The dictionary does not take activations of this width.
    """
    try:
        features = dictionary.encode(rows)
        rebuilt = dictionary.decode(features)
        for what, found in (("encode", features), ("decode", rebuilt)):
            if not isinstance(found, torch.Tensor) or found.shape[:-1] != rows.shape[:-1]:
                shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
                raise InputError(
                    f"the dictionary's {what} does not give one row for each row",
                    expected=f"a tensor of shape {(*rows.shape[:-1], 'n')}",
                    got=shape,
                )
        return features, rebuilt
    except (RuntimeError, IndexError, ValueError) as error:
        if isinstance(error, (torch.OutOfMemoryError, InputError)):
            raise
        raise InputError(
            f"the dictionary does not take activations of {rows.shape[-1]} units: {error}",
            fix="splice it in at the site whose activations it was trained on",
        ) from error


def as_taken_by(dictionary: Dictionary, values: torch.Tensor) -> torch.Tensor:
    """Return activations in the precision, and on the device, of a dictionary that has weights of its own."""
    weights: Any = getattr(dictionary, "parameters", tuple)
    own = next(iter(weights()), None)
    return values.to(own.device, own.dtype) if isinstance(own, torch.Tensor) else values


def fingerprint_dictionary(dictionary: Any, n_inputs: int | None) -> str:
    """Return a short identity of a dictionary: its own, that of its weights, or else of what it computes."""
    own = getattr(dictionary, "fingerprint", None)
    if callable(own):
        return str(own())
    if isinstance(dictionary, torch.nn.Module):
        return fingerprint_module(dictionary)
    if n_inputs is None:
        return type(dictionary).__name__
    with torch.no_grad():
        features, rebuilt = taken_apart(dictionary, torch.eye(n_inputs))
    return hashlib.sha256(f"{fingerprint_array(features)} {fingerprint_array(rebuilt)}".encode()).hexdigest()[:16]
