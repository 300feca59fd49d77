"""Small trained models that ship with the package, so that everything runs without a download."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from neuros_mechint.core.errors import CapabilityError, MissingDependencyError, StorageError, check_option
from neuros_mechint.datasets.networks import AttentionBlock, InductionTransformer, RecurrentNetwork

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

WEIGHTS = Path(__file__).parent / "weights"
NETWORKS: Mapping[str, type[nn.Module]] = {
    network.__name__: network for network in (InductionTransformer, RecurrentNetwork)
}


@dataclass(frozen=True)
class EmbeddedModel:
    """What is known of a model that ships with the package.

    Parameters
    ----------
    name : str
        As `load_model` takes it.
    description : str
        What the model is and does.
    sha256 : str
        Checksum of its file of weights.

    Examples
    --------
    >>> embedded_models()["induction"].path.name
    'induction.safetensors'
    """

    name: str
    description: str
    sha256: str

    @property
    def path(self) -> Path:
        """The file of weights."""
        return WEIGHTS / f"{self.name}.safetensors"


_MODELS = {
    model.name: model
    for model in (
        EmbeddedModel(
            "induction",
            "2-layer attention-only transformer (4 heads, width 64): continues repeated tokens by induction",
            "fe0ae1ac2a389b253715a14d5e255a66947b449ecc100b33a63720bda16d39b4",
        ),
        EmbeddedModel(
            "flip_flop_rnn",
            "tanh RNN (64 units) that remembers the last pulse on each of three inputs",
            "f23dea53a3caccdbcbb0934c23d8359e9e9530a5db1d1fbc89f92c1ff8edf1bd",
        ),
        EmbeddedModel(
            "flip_flop_gru",
            "GRU (32 units) that does the same as flip_flop_rnn",
            "82d3725a5ee6d2525e6a0355dcdfff09d130757c6f905ab0beb5fd44e5cce83a",
        ),
        EmbeddedModel(
            "decision_rnn",
            "tanh RNN (64 units) that judges motion or color, as the context asks (Mante et al. 2013)",
            "0874a8a866b903edccf2ad9d1d0f8647bfaa2bc7c91d5640515cadc7af4345e8",
        ),
        EmbeddedModel(
            "decision_dale_rnn",
            "relu RNN that does the same as decision_rnn with 80 excitatory, then 20 inhibitory units:"
            " each column of weight_hh_l0 keeps one sign",
            "053ef1950c32c1e074e0ec40ea60987b3b32458fc319e6be0a2d1468ac11a13d",
        ),
    )
}


def embedded_models() -> dict[str, EmbeddedModel]:
    """Return the models that ship with the package, by name.

    Returns
    -------
    dict of str to EmbeddedModel

    Examples
    --------
    >>> list(embedded_models())
    ['induction', 'flip_flop_rnn', 'flip_flop_gru', 'decision_rnn', 'decision_dale_rnn']
    """
    return dict(_MODELS)


def load_model(name: str, backend: Literal["torch", "transformer_lens"] = "torch") -> Any:
    """Load a model that ships with the package, trained and in evaluation mode.

    Parameters
    ----------
    name : str
        One of `embedded_models`.
    backend : {"torch", "transformer_lens"}
        ``"torch"``: a plain module of `neuros_mechint.datasets.networks`. ``"transformer_lens"``: the same
        weights as an unprocessed ``HookedTransformer``, for ``"induction"`` only.

    Returns
    -------
    InductionTransformer, RecurrentNetwork or transformer_lens.HookedTransformer

    Raises
    ------
    OptionError
        If the name or the backend is unknown.
    CapabilityError
        If a recurrent network is asked for as a TransformerLens model.
    MissingDependencyError
        If the installed TransformerLens has no ``HookedTransformer``.
    StorageError
        If the file of weights is missing or damaged.

    Examples
    --------
    >>> model = load_model("induction")
    >>> tokens = torch.tensor([[0, 17, 42, 8, 5, 23, 11, 17, 42, 8]])
    >>> int(model(tokens)[0, -1].argmax())
    5
    """
    check_option("name", name, _MODELS)
    check_option("backend", backend, ("torch", "transformer_lens"))
    network = _load_network(_MODELS[name])
    if backend == "torch":
        return network
    if not isinstance(network, InductionTransformer):
        raise CapabilityError(
            f"{name!r} cannot be loaded as a TransformerLens model",
            expected="a transformer",
            got=type(network).__name__,
            fix='use backend="torch"',
        )
    return to_hooked_transformer(network)


def to_hooked_transformer(model: InductionTransformer) -> HookedTransformer:
    """Return an `InductionTransformer` as an unprocessed TransformerLens model with a copy of its weights.

    Parameters
    ----------
    model : InductionTransformer
        Left as it is.

    Returns
    -------
    transformer_lens.HookedTransformer
        In evaluation mode, on the CPU; its logits equal those of ``model`` up to rounding.

    Raises
    ------
    MissingDependencyError
        If the installed TransformerLens has no ``HookedTransformer`` (it left with version 4).

    Examples
    --------
    >>> hooked = to_hooked_transformer(load_model("induction"))
    >>> hooked.cfg.attn_only, hooked.cfg.positional_embedding_type
    (True, 'shortformer')
    """
    try:
        from transformer_lens import HookedTransformer, HookedTransformerConfig
    except ImportError as error:
        raise MissingDependencyError(
            "the installed TransformerLens has no HookedTransformer",
            expected="transformer-lens < 4 (its successor TransformerBridge has no shortformer positions)",
            got=error,
            fix='pip install "transformer-lens<4", or load the model with backend="torch"',
        ) from error
    n_ctx, d_model = model.position_embedding.weight.shape
    d_vocab = model.token_embedding.num_embeddings
    config = HookedTransformerConfig(
        n_layers=len(model.blocks),
        d_model=d_model,
        n_heads=model.n_heads,
        d_head=d_model // model.n_heads,
        n_ctx=n_ctx,
        d_vocab=d_vocab,
        attn_only=True,
        normalization_type=None,
        positional_embedding_type="shortformer",
        init_weights=False,
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "HookedTransformer is deprecated", DeprecationWarning)
        hooked = HookedTransformer(config)
    # Not strict, because the causal masks are buffers that the constructor has filled already.
    hooked.load_state_dict(_hooked_weights(model), strict=False)
    return hooked.eval()


def _load_network(entry: EmbeddedModel) -> nn.Module:
    advice = "reinstall neuros-mechint, or train the model again with its script in scripts/"
    try:
        checksum = hashlib.sha256(entry.path.read_bytes()).hexdigest()
        if checksum != entry.sha256:
            raise StorageError(f"{entry.path} is damaged", expected=f"sha256 {entry.sha256}", got=checksum, fix=advice)
        with safe_open(entry.path, framework="pt") as file:
            architecture = json.loads(file.metadata()["architecture"])
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - this is no dict
    except (FileNotFoundError, SafetensorError) as error:
        raise StorageError(f"{entry.path} cannot be read", got=error, fix=advice) from error
    # Built without storage, then filled by assignment: initial weights would advance the global random state.
    with torch.device("meta"):
        network = NETWORKS[architecture["network"]](**architecture["arguments"])
    network.load_state_dict(weights, assign=True)
    return network.eval()


def _hooked_weights(model: InductionTransformer) -> dict[str, torch.Tensor]:
    """Return the weights under TransformerLens's names and shapes: heads first, inputs before outputs."""
    weights = {
        "embed.W_E": model.token_embedding.weight,
        "pos_embed.W_pos": model.position_embedding.weight,
        "unembed.W_U": model.unembedding.weight.T,
        "unembed.b_U": model.unembedding.bias,
    }
    for layer, block in enumerate(model.blocks):
        attention = cast(AttentionBlock, block).attention
        for letter, linear in (("Q", attention.query), ("K", attention.key), ("V", attention.value)):
            by_head = linear.weight.unflatten(0, (attention.n_heads, -1))  # (head, d_head, d_model)
            weights[f"blocks.{layer}.attn.W_{letter}"] = by_head.transpose(1, 2)
            weights[f"blocks.{layer}.attn.b_{letter}"] = linear.bias.unflatten(0, (attention.n_heads, -1))
        by_head = attention.output.weight.unflatten(1, (attention.n_heads, -1))  # (d_model, head, d_head)
        weights[f"blocks.{layer}.attn.W_O"] = by_head.permute(1, 2, 0)
        weights[f"blocks.{layer}.attn.b_O"] = attention.output.bias
    return weights
