"""TransformerLens models: their own hook points are the sites, and the identities that define them are checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from neuros_mechint.adapters.batches import Batch
from neuros_mechint.adapters.hooks import count_calls, evaluating
from neuros_mechint.adapters.inference import SiteMap
from neuros_mechint.adapters.inference.identities import close
from neuros_mechint.adapters.taps import HeadView, Tap
from neuros_mechint.adapters.tokens import check_token_ids
from neuros_mechint.adapters.torch_module import TorchAdapter
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.random import SeedLike

_STREAM = ("sample", "position", "unit")
_QUERY_HEADS = ("sample", "position", "head", "unit")
_KEY_HEADS = ("sample", "position", "kv_head", "unit")
_BLOCK_HOOKS = {
    "resid_pre": ("hook_resid_pre", _STREAM),
    "q": ("attn.hook_q", _QUERY_HEADS),
    "k": ("attn.hook_k", _KEY_HEADS),
    "v": ("attn.hook_v", _KEY_HEADS),
    "pattern": ("attn.hook_pattern", ("sample", "head", "query", "key")),
    "z": ("attn.hook_z", _QUERY_HEADS),
    "attn_out": ("hook_attn_out", _STREAM),
    "resid_mid": ("hook_resid_mid", _STREAM),
    "pre": ("mlp.hook_pre", _STREAM),
    "post": ("mlp.hook_post", _STREAM),
    "mlp_out": ("hook_mlp_out", _STREAM),
    "resid_post": ("hook_resid_post", _STREAM),
}
"""TransformerLens's definition of its names; which of them hold on a model is checked on that model."""


class TransformerLensAdapter(TorchAdapter):
    """Adapter for ``HookedTransformer`` and ``TransformerBridge``, processed or not, as the caller built them.

    Parameters
    ----------
    module : transformer_lens.HookedTransformer or TransformerBridge
        Used as it is, and left as it was; hooks the caller has set keep running.
    tokenizer : callable, optional
        For inputs given as strings; by default the model's own ``to_tokens``, which prepends a BOS token where the
        model is set to.
    example : torch.Tensor, optional
        Token ids on which the sites are checked; by default some are made up.

    Notes
    -----
    A bridge's own ``hook_resid_mid`` sits on the input of the second norm, so that editing it leaves the skip path
    as it was. Here ``resid_mid`` is ``resid_pre + attn_out``, and its edits move both.
    """

    def __init__(self, module: Any, tokenizer: Any = None, example: Any = None) -> None:
        super().__init__(module, tokenizer=tokenizer, example=example)

    @property
    def capabilities(self) -> frozenset[str]:
        """As for torch modules, and generation."""
        return super().capabilities | {"generate"}

    # -- inputs --------------------------------------------------------------------------------------------------

    def _tokenize(self, texts: list[str]) -> Mapping[str, Any]:
        own = getattr(self.module, "tokenizer", None)
        if self.tokenizer is not None or own is None:
            encoded = super()._tokenize(texts)
            return {"input": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}
        tokens = self.module.to_tokens(texts)
        if own.padding_side != "left" or len(texts) == 1:
            return {"input": tokens}  # padding on the right is hidden by the causal mask
        from transformer_lens.utils import get_attention_mask

        return {"input": tokens, "attention_mask": get_attention_mask(own, tokens, self.module.cfg.default_prepend_bos)}

    def _prepare(self, inputs: Any) -> Batch:
        batch = super()._prepare(inputs)
        ids = batch.kwargs.get("input", batch.args[0] if batch.args else None)
        if isinstance(ids, torch.Tensor):
            check_token_ids("the inputs", ids, getattr(self.module.cfg, "d_vocab", None))
        return batch

    def _probe(self) -> Batch | None:
        if self._example is not None:
            return self._prepare(self._example)
        vocabulary = int(self.module.cfg.d_vocab)
        length = min(6, int(self.module.cfg.n_ctx))
        ids = torch.randint(vocabulary, (2, length), generator=torch.Generator().manual_seed(0))
        return self._prepare(ids)

    # -- sites ---------------------------------------------------------------------------------------------------

    def _infer(self, probe: Batch) -> SiteMap:
        """Keep TransformerLens's hook points that fire and whose identities hold."""
        taps = self._declared_taps()
        with evaluating(self.module), torch.no_grad():
            fired = count_calls(self.module, lambda: self._call(probe), {tap.path for tap in taps.values()})
        withheld = {
            name: "its hook point does not run in this model" for name, tap in taps.items() if not fired[tap.path]
        }
        taps = {name: tap for name, tap in taps.items() if fired[tap.path]}
        values = self._hooked(probe, taps, {}, list(taps)).tensors
        n_heads = int(self.module.cfg.n_heads)
        for name, value in values.items():
            if taps[name].dims in (_QUERY_HEADS, _KEY_HEADS) and value.ndim == 3:
                width = int(self.module.cfg.d_head)
                heads = n_heads if taps[name].dims == _QUERY_HEADS else value.shape[-1] // width
                taps[name] = replace(taps[name], view=HeadView(heads, width))
        values = self._hooked(probe, taps, {}, list(taps)).tensors
        for layer in range(int(self.module.cfg.n_layers)):
            _prove_block(f"blocks.{layer}.", taps, values, withheld)
        return SiteMap(taps, withheld)

    def _declared_taps(self) -> dict[str, Tap]:
        paths = {id(submodule): path for path, submodule in self.module.named_modules()}
        hooks = {name: paths.get(id(point)) for name, point in self.module.hook_dict.items()}
        taps: dict[str, Tap] = {}

        def declare(name: str, hook: str, dims: tuple[str, ...]) -> None:
            path = hooks.get(hook)
            if path is not None:
                taps[name] = Tap(path, check=f"TransformerLens's {hook}", dims=dims)

        declare("embed", "hook_embed", _STREAM)
        declare("pos_embed", "hook_pos_embed", _STREAM)
        for layer in range(int(self.module.cfg.n_layers)):
            for name, (hook, dims) in _BLOCK_HOOKS.items():
                declare(f"blocks.{layer}.{name}", f"blocks.{layer}.{hook}", dims)
        if "ln_final.hook_normalized" in hooks:
            taps["ln_final"] = Tap("ln_final", check="output of the final norm", dims=_STREAM)
        taps["logits"] = Tap("", check="the model's output", dims=_STREAM)
        return taps

    # -- generation ----------------------------------------------------------------------------------------------

    def generate(
        self,
        inputs: Any,
        edits: Edit | Sequence[Edit] = (),
        max_new_tokens: int = 20,
        seed: SeedLike = 0,
        **options: Any,
    ) -> torch.Tensor:
        """Continue the inputs with the model's own ``generate`` and its cache, under edits.

        Parameters
        ----------
        inputs : tensor or list of str
            The prompts.
        edits : Edit or sequence of Edit
            Applied in every pass; positions count from the start of the prompt, negative ones from its end.
        max_new_tokens : int
            How many tokens to add.
        seed : int or numpy.random.Generator
            Used when ``do_sample=True``; torch's global generator is left as it was.
        **options
            Passed to the model's ``generate``.

        Returns
        -------
        torch.Tensor of shape (batch, position)
            Token ids of prompt and continuation.
        """
        batch = self._prepare(inputs)
        ids = batch.kwargs["input"] if batch.kwargs else batch.args[0]
        end = getattr(getattr(self.module, "tokenizer", None), "eos_token_id", None)
        options = {"do_sample": False, "stop_at_eos": end is not None, **options}
        # its own strings TransformerLens pads on the left, as generation needs it
        prompts = inputs if self.tokenizer is None and not hasattr(inputs, "shape") else ids

        def call() -> torch.Tensor:
            return self.module.generate(
                prompts, max_new_tokens=max_new_tokens, return_type="tokens", verbose=False, **options
            )

        return self._generate(call, edits, batch, int(ids.shape[1]), max_new_tokens, seed)


def _prove_block(
    prefix: str, taps: dict[str, Tap], values: Mapping[str, torch.Tensor], withheld: dict[str, str]
) -> None:
    """Check the identities that define a block's sites; withhold what fails. Writes into ``taps`` and ``withheld``."""

    def prove(name: str, identity: str, holds: bool) -> None:
        if holds:
            taps[prefix + name] = replace(taps[prefix + name], check=identity)
        else:
            withheld[prefix + name] = f"{identity} does not hold"
            del taps[prefix + name]

    def has(*names: str) -> bool:
        return all(prefix + name in values for name in names)

    def value(name: str) -> torch.Tensor:
        return values[prefix + name]

    if has("z", "pattern", "v"):
        groups = value("pattern").shape[1] // value("v").shape[2]
        expected = torch.einsum("bhqk,bkhd->bqhd", value("pattern"), value("v").repeat_interleave(groups, 2))
        prove("z", "z == pattern @ v", close(value("z"), expected))
    if has("resid_mid", "attn_out"):
        prove("resid_mid", "resid_pre + attn_out == resid_mid", close(value("resid_mid"), value("resid_pre"), value("attn_out")))
        if prefix + "resid_mid" in taps:
            base = (taps[prefix + "resid_pre"],)
            mid = taps[prefix + "resid_mid"]
            taps[prefix + "resid_mid"] = replace(taps[prefix + "attn_out"], base=base, check=mid.check)
    summands = [name for name in ("attn_out", "mlp_out") if has(name)]
    if has("resid_post") and summands:
        parts = [value("resid_pre"), *(value(name) for name in summands)]
        prove("resid_post", f"resid_pre + {' + '.join(summands)} == resid_post", close(value("resid_post"), *parts))
