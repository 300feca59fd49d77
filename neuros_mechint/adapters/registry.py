"""``nm.adapt``: find the adapter for any kind of model. Other packages add theirs through an entry point."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.errors import InputError, OptionError, UnknownModelError, near_names

ENTRY_POINT_GROUP = "neuros_mechint.adapters"


@dataclass(frozen=True)
class AdapterEntry:
    """One kind of model in the registry.

    Parameters
    ----------
    name : str
        Short name, as in ``neuros-mechint check-adapter NAME``.
    recognises : callable
        ``recognises(obj) -> bool``. It must not import the library it is about: an object can only come from a
        library that is already imported.
    load : callable
        Returns the adapter class; imports happen here.
    describes : str
        What a user gives to ``nm.adapt``, for the support matrix.

    Examples
    --------
    >>> AdapterEntry("torch", lambda obj: True, lambda: object, "any torch.nn.Module").name
    'torch'
    """

    name: str
    recognises: Callable[[Any], bool]
    load: Callable[[], Callable[..., Adapter]]
    describes: str


def adapt(obj: Any, tokenizer: Any = None, **options: Any) -> Any:
    """Return the one interface over a model: named sites, capture, edits.

    The model is used as it is and left as it was: weights, hooks and train/eval flags. It runs in eval mode, whatever
    its flags say, so that dropout and batch statistics do not blur what is measured.

    Parameters
    ----------
    obj : object
        A torch module, HuggingFace model, TransformerLens ``HookedTransformer`` or ``TransformerBridge``, nnsight
        model, recurrent module or cell, `neuros_mechint.SpikingNeuralNetwork`, ``brian2.Network``,
        `neuros_mechint.Recording`, or anything an installed plug-in recognises. An adapter is returned as it is.
    tokenizer : callable, optional
        For models that take strings.
    **options
        Options of the adapter: ``example=`` inputs to prove the sites on, for torch modules; ``duration``, ``input``,
        ``unit``, ``namespace`` and ``seed`` for Brian2. ``help(type(nm.adapt(obj)))`` explains those of one kind.

    Returns
    -------
    Adapter

    Raises
    ------
    UnknownModelError
        No adapter recognises the object.
    OptionError
        The adapter has no such option.

    Notes
    -----
    Threads may share an adapter, and adapters may share a model: one thread at a time runs a model, since hooks are
    seen by all that call it. A model that is also called without its adapter, from another thread, may meet edits.

    Examples
    --------
    >>> import torch
    >>> adapt(torch.nn.Linear(2, 3))
    TorchAdapter(Linear)
    """
    if isinstance(obj, Adapter):
        return obj
    for entry in adapter_entries():
        if entry.recognises(obj):
            return _build(entry.load(), obj, tokenizer, options)
    hint = "a name is not enough: load the model and pass the object" if isinstance(obj, str) else None
    if _is_a("brian2")(obj):
        hint = "put it into a network, with all that it is connected to: nm.adapt(brian2.Network(...), duration=...)"
    raise UnknownModelError(
        f"no adapter knows how to look inside a {type(obj).__module__}.{type(obj).__qualname__}",
        expected="; ".join(entry.describes for entry in adapter_entries()),
        fix=hint or f"write an adapter and register it under the entry point {ENTRY_POINT_GROUP!r}",
    )


def adapter_entries() -> list[AdapterEntry]:
    """Return the known kinds of model, plug-ins first, the most general last."""
    return [*_plug_ins(), *_BUILT_IN]


@cache
def _plug_ins() -> tuple[AdapterEntry, ...]:
    found: list[AdapterEntry] = []
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            entry = point.load()
        except Exception as error:  # whatever somebody else's package raises when it is imported
            text = f"the plug-in {point.value} cannot be loaded, and its kind of model is unknown: {error!r}"
            warnings.warn(text, stacklevel=2)
            continue
        if not isinstance(entry, AdapterEntry):
            raise InputError(
                "a plug-in registered something that is no AdapterEntry",
                expected="an AdapterEntry object under the entry point",
                got=repr(entry),
            )
        found.append(entry)
    return tuple(found)


def _build(adapter_class: Callable[..., Adapter], obj: Any, tokenizer: Any, options: dict[str, Any]) -> Adapter:
    allowed = inspect.signature(adapter_class).parameters
    if tokenizer is not None:
        options = {"tokenizer": tokenizer, **options}
    for name in options:
        if name not in allowed:
            near = near_names(name, allowed)
            raise OptionError(
                f"{getattr(adapter_class, '__name__', adapter_class)} has no option {name!r}",
                expected=", ".join(list(allowed)[1:]) or "no options",
                fix=f"did you mean {near[0]!r}?" if near else None,
            )
    return adapter_class(obj, **options)


def _classes_of(obj: Any) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of each class of ``obj``: kinds are told apart without importing their libraries."""
    for one in type(obj).__mro__:
        yield one.__module__, one.__name__


def _is_a(library: str, *names: str) -> Callable[[Any], bool]:
    def recognises(obj: Any) -> bool:
        if library not in sys.modules:
            return False
        return any(m.split(".")[0] == library and (not names or n in names) for m, n in _classes_of(obj))

    return recognises


def _is_recurrent(obj: Any) -> bool:
    if not _is_a("torch", "Module")(obj) or not hasattr(obj, "modules"):
        return False
    kinds = ("RNNBase", "RNNCellBase")
    return any(_is_a("torch", *kinds)(submodule) for submodule in obj.modules())


def _load_recording() -> Any:
    from neuros_mechint.adapters.recording import RecordingAdapter

    return RecordingAdapter


def _load_brian2() -> Any:
    from neuros_mechint.adapters.brian2.adapter import Brian2Adapter

    return Brian2Adapter


def _load_nnsight() -> Any:
    from neuros_mechint.adapters.nnsight import adapt_nnsight

    return adapt_nnsight


def _load_transformer_lens() -> Any:
    from neuros_mechint.adapters.transformer_lens import TransformerLensAdapter

    return TransformerLensAdapter


def _load_huggingface() -> Any:
    from neuros_mechint.adapters.huggingface import HuggingFaceAdapter

    return HuggingFaceAdapter


def _load_spiking() -> Any:
    from neuros_mechint.adapters.spiking import SpikingAdapter

    return SpikingAdapter


def _load_recurrent() -> Any:
    from neuros_mechint.adapters.recurrent import RecurrentAdapter

    return RecurrentAdapter


def _load_torch() -> Any:
    from neuros_mechint.adapters.torch_module import TorchAdapter

    return TorchAdapter


_BUILT_IN = (
    AdapterEntry("recording", _is_a("neuros_mechint", "Recording"), _load_recording, "nm.Recording"),
    AdapterEntry("brian2", _is_a("brian2", "Network"), _load_brian2, "a brian2.Network"),
    AdapterEntry(
        "nnsight",
        _is_a("nnsight", "NNsight", "HuggingFaceModel"),
        _load_nnsight,
        "nnsight NNsight or TransformersModel",
    ),
    AdapterEntry(
        "transformer_lens",
        _is_a("transformer_lens", "HookedTransformer", "HookedEncoder", "TransformerBridge"),
        _load_transformer_lens,
        "TransformerLens HookedTransformer or TransformerBridge",
    ),
    AdapterEntry(
        "huggingface",
        _is_a("transformers", "PreTrainedModel"),
        _load_huggingface,
        "a HuggingFace model object",
    ),
    AdapterEntry("spiking", _is_a("neuros_mechint", "SpikingNeuralNetwork"), _load_spiking, "nm.SpikingNeuralNetwork"),
    AdapterEntry(
        "recurrent",
        _is_recurrent,
        _load_recurrent,
        "torch RNN, GRU, LSTM, their cells, modules built on them",
    ),
    AdapterEntry("torch", _is_a("torch", "Module"), _load_torch, "any torch.nn.Module"),
)
