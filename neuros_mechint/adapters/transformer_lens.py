"""TransformerLens models: their own hook points are the sites, and the identities that define them are checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import torch
from torch import nn

from neuros_mechint.adapters.batches import Batch
from neuros_mechint.adapters.inference import SiteMap
from neuros_mechint.adapters.inference.identities import close
from neuros_mechint.adapters.running import count_calls, evaluating
from neuros_mechint.adapters.taps import HeadView, Tap
from neuros_mechint.adapters.tokens import check_token_ids
from neuros_mechint.adapters.torch_module import TorchAdapter
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.random import SeedLike
from neuros_mechint.core.site_names import canonical_name
from neuros_mechint.core.sites import SiteReference

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
_HOOK_DIMS = {
    **{hook.rpartition(".")[2]: dims for hook, dims in _BLOCK_HOOKS.values()},
    **dict.fromkeys(("hook_rot_q", "hook_result", "hook_attn_in", "hook_q_input"), _QUERY_HEADS),
    **dict.fromkeys(("hook_rot_k", "hook_k_input", "hook_v_input"), _KEY_HEADS),
    "hook_attn_scores": ("sample", "head", "query", "key"),
}
"""Axes of further hook points, which are offered as they are, by their own names."""


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
    as it was. Here an edit of ``resid_mid`` is tried out, and where it leaves the skip path behind, it is written
    into ``attn_out`` instead.
    """

    def __init__(self, module: Any, tokenizer: Any = None, example: Any = None) -> None:
        super().__init__(module, tokenizer=tokenizer, example=example)

    @property
    def capabilities(self) -> frozenset[str]:
        """As for torch modules, and generation."""
        return super().capabilities | {"generate"}

    # -- inputs --------------------------------------------------------------------------------------------------

    def _tokenize(self, texts: list[str], padding_side: str | None = None) -> Mapping[str, Any]:
        own = getattr(self.module, "tokenizer", None)
        if self.tokenizer is not None or own is None:
            encoded = super()._tokenize(texts)
            return {"input": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}
        side = padding_side or own.padding_side
        tokens = self.module.to_tokens(texts, padding_side=side)
        if side == "right" or len(texts) == 1:
            return {"input": tokens}  # padding on the right is hidden by the causal mask
        from transformer_lens.utilities import get_attention_mask  # pyright: ignore[reportPrivateImportUsage]

        mask = get_attention_mask(own, tokens, self.module.cfg.default_prepend_bos, padding_side=side)
        return {"input": tokens, "attention_mask": mask}

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

    def _native_tap(self, name: str) -> Tap | None:
        """Return the tap of a module path, or of any hook point that has no canonical name."""
        if name in self._canonical_hooks():
            return None
        path = next((path for hook, path in self._hook_paths.items() if name in (hook, canonical_name(hook))), None)
        return super()._native_tap(name) if path is None else Tap(path)

    def _expand(self, sites: Any, batch: Batch | None) -> list[SiteReference]:
        """As for all models; a pattern may also be one of TransformerLens's names, ``blocks.*.attn.hook_z``."""
        names = [sites] if isinstance(sites, (str, SiteReference)) else list(sites)
        references = [SiteReference.parse(name) for name in names]
        return super()._expand([one for reference in references for one in self._alike(reference)], batch)

    def _alike(self, reference: SiteReference) -> list[SiteReference]:
        if "*" not in reference.name or "hook_" not in reference.name:
            return [reference]
        hooks = [hook for hook in self._hook_paths if fnmatchcase(hook, reference.name)]
        canonical = dict.fromkeys(canonical_name(hook) for hook in hooks)
        return [replace(reference, name=name) for name in canonical] or [reference]

    @cached_property
    def _hook_paths(self) -> dict[str, str]:
        """Module path of each hook point by TransformerLens's name; a bridge has several names for some."""
        paths = {id(submodule): path for path, submodule in self.module.named_modules()}
        return {hook: paths[id(point)] for hook, point in self.module.hook_dict.items() if id(point) in paths}

    def _canonical_hooks(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Return hook point and axes of every canonical name; which of them this model has is another matter."""
        hooks: dict[str, tuple[str, tuple[str, ...]]] = {
            "embed": ("hook_embed", _STREAM),
            "pos_embed": ("hook_pos_embed", _STREAM),
        }
        for layer in range(int(self.module.cfg.n_layers)):
            for name, (hook, dims) in _BLOCK_HOOKS.items():
                hooks[f"blocks.{layer}.{name}"] = (f"blocks.{layer}.{hook}", dims)
        return hooks | {"ln_final": ("ln_final.hook_normalized", _STREAM), "logits": ("", _STREAM)}

    def _native_dims(self, submodule: nn.Module, ndim: int, timed: bool) -> tuple[str, ...]:
        dims = _HOOK_DIMS.get(str(getattr(submodule, "name", "")).rpartition(".")[2], ())
        if len(dims) == ndim:
            return dims
        if ndim == 4:  # heads, more often than not, and never an image
            return ("sample", "axis_1", "axis_2", "axis_3")
        return super()._native_dims(submodule, ndim, timed)

    def _infer(self, probe: Batch) -> SiteMap:
        """Keep TransformerLens's hook points that fire and whose identities hold."""
        taps, withheld = self._declared_taps()
        with evaluating(self.module), _without_hooks(self.module.hook_dict.values()):
            with torch.no_grad():
                fired = count_calls(self.module, lambda: self._call(probe), {tap.path for tap in taps.values()})
            withheld |= {name: "its hook point never runs" for name, tap in taps.items() if not fired[tap.path]}
            taps = {name: tap for name, tap in taps.items() if fired[tap.path]}
            raw = self._hooked(probe, taps, {}, list(taps)).tensors
            taps = {name: self._with_heads(tap, raw[name]) for name, tap in taps.items()}
            middles = {name: [_stirred] for name in taps if name.endswith(".resid_mid")}
            values = self._hooked(probe, taps, {}, list(taps)).tensors
            stirred = self._hooked(probe, taps, middles, list(taps)).tensors
        for layer in range(int(self.module.cfg.n_layers)):
            _Block(f"blocks.{layer}.", taps, values, stirred, withheld).prove()
        return SiteMap(taps, withheld)

    def _with_heads(self, tap: Tap, value: torch.Tensor) -> Tap:
        """Return the tap with its last axis taken apart, where a bridge leaves the heads side by side."""
        if tap.dims not in (_QUERY_HEADS, _KEY_HEADS) or value.ndim != 3:
            return tap
        width = int(self.module.cfg.d_head)
        return replace(tap, view=HeadView(value.shape[-1] // width, width))

    def _declared_taps(self) -> tuple[dict[str, Tap], dict[str, str]]:
        taps: dict[str, Tap] = {}
        withheld: dict[str, str] = {}
        for name, (hook, dims) in self._canonical_hooks().items():
            if name == "logits":
                taps[name] = Tap("", check="the model's output", dims=dims)
            elif hook not in self._hook_paths:
                withheld[name] = f"this model has no {hook}"
            elif name == "ln_final":  # the hook point inside it comes before the gain and the bias
                taps[name] = Tap(name, check="output of the final norm", dims=dims)
            else:
                taps[name] = Tap(self._hook_paths[hook], check=f"TransformerLens's {hook}", dims=dims)
        return taps, withheld

    def _block_paths(self, batch: Batch) -> list[str]:
        return [f"blocks.{layer}" for layer in range(int(self.module.cfg.n_layers))]

    # -- generation ----------------------------------------------------------------------------------------------

    def generate(
        self,
        inputs: Any,
        edits: Edit | Sequence[Edit] = (),
        max_new_tokens: int = 20,
        seed: SeedLike = 0,
        **options: Any,
    ) -> torch.Tensor:
        """Continue the inputs, with the key-value cache, under edits.

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
            ``do_sample``, ``temperature``, ``top_k``, ``top_p``; of a bridge, whatever its ``generate`` takes.

        Returns
        -------
        torch.Tensor of shape (batch, position)
            Token ids of prompt and continuation.

        Raises
        ------
        InputError
            Prompts of different length, padded at the end.
        """
        texts = [inputs] if isinstance(inputs, str) else inputs
        if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts):
            inputs = self._tokenize(texts, padding_side="left")
        batch = self._prepare(inputs)
        ids = batch.kwargs["input"] if batch.kwargs else batch.args[0]
        mask = batch.kwargs.get("attention_mask", torch.ones_like(ids))
        self._check_ends(ids, mask)
        if hasattr(self.module, "get_residual"):
            return self._generate(
                lambda: self._continued(ids, mask, max_new_tokens, **options),
                edits,
                batch,
                int(ids.shape[1]),
                max_new_tokens,
                seed,
            )
        end = getattr(getattr(self.module, "tokenizer", None), "eos_token_id", None)
        options = {"do_sample": False, "stop_at_eos": end is not None, **options}
        if not bool(mask.all()):
            options["attention_mask"] = mask

        def call() -> torch.Tensor:
            return self.module.generate(
                ids, max_new_tokens=max_new_tokens, return_type="tokens", verbose=False, **options
            )

        return self._generate(call, edits, batch, int(ids.shape[1]), max_new_tokens, seed)

    def _check_ends(self, ids: torch.Tensor, mask: torch.Tensor) -> None:
        pad = getattr(getattr(self.module, "tokenizer", None), "pad_token_id", None)
        padded = mask[:, -1] == 0 if pad is None or ids.shape[0] == 1 else (mask[:, -1] == 0) | (ids[:, -1] == pad)
        if bool(padded.any()):
            raise InputError(
                "the prompts have different lengths and are padded at the end",
                expected="prompts that end where generation starts",
                fix="generate from one prompt at a time, or pad on the left",
            )

    def _continued(
        self, ids: torch.Tensor, mask: torch.Tensor, max_new_tokens: int, do_sample: bool = False, **sampling: Any
    ) -> torch.Tensor:
        """Do what ``HookedTransformer.generate`` should.

        With its cache it adds learned position embeddings at twice the position (transformer-lens 3.9), and it calls
        ``forward`` without the hooks of the model itself and of ``hook_embed``.
        """
        from transformer_lens import TransformerLensKeyValueCache
        from transformer_lens.utilities import sample_logits  # pyright: ignore[reportPrivateImportUsage]

        end = getattr(getattr(self.module, "tokenizer", None), "eos_token_id", None)
        cache = TransformerLensKeyValueCache.init_cache(self.module.cfg, ids.device, ids.shape[0])
        new, finished = ids, torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)
        for _ in range(max_new_tokens):
            last = self.module(new, past_kv_cache=cache, attention_mask=mask)[:, -1]
            chosen = sample_logits(last, **sampling) if do_sample else last.argmax(-1)
            if end is not None:
                chosen = torch.where(finished, end, chosen)
                finished |= chosen == end
            new = chosen.to(ids.device).unsqueeze(1)
            ids, mask = torch.cat([ids, new], dim=1), torch.ones_like(new)
            if bool(finished.all()):
                break
        return ids


@dataclass(frozen=True)
class _Block:
    """One block: checks the identities that define its sites, and withholds what fails. Writes into its mappings."""

    prefix: str
    taps: dict[str, Tap]
    values: Mapping[str, torch.Tensor]
    stirred: Mapping[str, torch.Tensor]
    """Activations while every ``resid_mid`` is edited."""
    withheld: dict[str, str]

    def prove(self) -> None:
        if self._has("z", "pattern", "v"):
            pattern, v = self.values[self.prefix + "pattern"], self.values[self.prefix + "v"]
            heads = v.repeat_interleave(pattern.shape[1] // v.shape[2], 2)
            expected = torch.einsum("bhqk,bkhd->bqhd", pattern, heads)
            self._keep("z", "z == pattern @ v", close(self.values[self.prefix + "z"], expected))
        if self._has("resid_mid", "attn_out"):
            self._prove_resid_mid()
        summands = [name for name in ("attn_out", "mlp_out") if self._has(name)]
        if self._has("resid_post") and summands:
            identity = f"resid_pre + {' + '.join(summands)} == resid_post"
            self._keep("resid_post", identity, self._sums_up(self.values, "resid_post", "resid_pre", *summands))

    def _prove_resid_mid(self) -> None:
        identity = "resid_pre + attn_out == resid_mid"
        self._keep("resid_mid", identity, self._sums_up(self.values, "resid_mid", "resid_pre", "attn_out"))
        moves_the_stream = self._has("mlp_out") and self._sums_up(self.stirred, "resid_post", "resid_mid", "mlp_out")
        if self.prefix + "resid_mid" in self.taps and not moves_the_stream:
            base = (self.taps[self.prefix + "resid_pre"],)
            written = self.taps[self.prefix + "attn_out"]
            self.taps[self.prefix + "resid_mid"] = replace(written, base=base, check=identity)

    def _keep(self, name: str, identity: str, holds: bool) -> None:
        if holds:
            self.taps[self.prefix + name] = replace(self.taps[self.prefix + name], check=identity)
        else:
            self.withheld[self.prefix + name] = f"{identity} does not hold"
            del self.taps[self.prefix + name]

    def _has(self, *names: str) -> bool:
        return all(self.prefix + name in self.values for name in names)

    def _sums_up(self, values: Mapping[str, torch.Tensor], total: str, *parts: str) -> bool:
        return close(*(values[self.prefix + name] for name in (total, *parts)))


def _stirred(values: torch.Tensor, _dims: tuple[str, ...], _window: Any) -> torch.Tensor:
    """Return other values of the same size: an edit that must show wherever the activation goes."""
    return values + values.flip(-1)


@contextmanager
def _without_hooks(points: Iterable[nn.Module]) -> Iterator[None]:
    """Set the caller's hooks aside: what they change is no property of the model."""
    own = [(point, point._forward_hooks, point._forward_pre_hooks) for point in dict.fromkeys(points)]
    for point, after, before in own:
        point._forward_hooks, point._forward_pre_hooks = type(after)(), type(before)()
    try:
        yield
    finally:
        for point, after, before in own:
            point._forward_hooks, point._forward_pre_hooks = after, before
