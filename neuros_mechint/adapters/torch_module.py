"""Any ``torch.nn.Module``: sites by module path, and by canonical name where an identity proves it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Self

import torch
from torch import nn

from neuros_mechint.adapters.base import BaseAdapter, Dims, Edits, Tensors
from neuros_mechint.adapters.batches import Batch, at_least_two_samples, on_device
from neuros_mechint.adapters.generation import generate_with_edits
from neuros_mechint.adapters.hooks import HookedRun, run_hooked
from neuros_mechint.adapters.inference import SiteMap, infer_sites
from neuros_mechint.adapters.observe import module_sites, open_sizes
from neuros_mechint.adapters.replay.proof import Proofs
from neuros_mechint.adapters.replay.record import NotReplayableError, Recorder
from neuros_mechint.adapters.replay.replay import Replay
from neuros_mechint.adapters.running import evaluating, explained, lock_of
from neuros_mechint.adapters.splice import Splice, Spliced, host_patterns, splice, with_dictionaries
from neuros_mechint.adapters.taps import Tap, any_overlap, native_tap
from neuros_mechint.adapters.tensors import native_dims
from neuros_mechint.core.adapter import Metric
from neuros_mechint.core.dictionary import Dictionary
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.fingerprint import fingerprint_module
from neuros_mechint.core.random import SeedLike
from neuros_mechint.core.site_names import part_of_dictionary
from neuros_mechint.core.sites import Site, SiteReference, SiteTable

_CANONICAL = re.compile(
    r"((encoder|decoder)\.)?(blocks\.(\d+|\*)\..*|embed|ln_final|logits|(layers\.\d+\.)?(hidden|cell))"
)
_MOST_PROBED_SAMPLES = 3
_PROVEN: dict[str, SiteMap] = {}
"""Site maps of this process by model fingerprint: proving them again would give the same."""


class TorchAdapter(BaseAdapter):
    """Adapter for a plain torch module: MLP, CNN, transformer or anything else.

    Parameters
    ----------
    module : torch.nn.Module
        Used as it is, and left as it was.
    tokenizer : callable, optional
        Turns strings into a dict of tensors, as HuggingFace tokenizers do.
    example : tensor, tuple or dict, optional
        Inputs on which the sites are proven. Without it the module's own ``dummy_inputs`` are used, or the first
        batch it is run on.
    sample_axis : int, optional
        Which axis of the inputs counts the samples; 0 unless the module itself is told otherwise.

    Examples
    --------
    >>> adapter = TorchAdapter(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    >>> adapter.capture(torch.zeros(5, 3), "1")["1"].shape
    torch.Size([5, 4])
    """

    def __init__(
        self, module: nn.Module, tokenizer: Any = None, example: Any = None, sample_axis: int | None = None
    ) -> None:
        self.module: Any = module  # the classes of HuggingFace and TransformerLens have attributes of their own
        self.tokenizer = tokenizer
        self._example = example
        self._stated_axis = sample_axis
        self._map: SiteMap | None = None
        self._tried: tuple[str, list[tuple[int, ...]]] | None = None
        self._named = SiteTable([])
        self._modules: list[Site] | None = None
        self._first: Batch | None = None
        self._dictionaries: Mapping[str, Spliced] = {}
        self.proofs = Proofs()

    def __repr__(self) -> str:
        spliced = "".join(f", dictionary at {site}" for site in self._dictionaries)
        return f"{type(self).__name__}({type(self.module).__name__}{spliced})"

    @property
    def capabilities(self) -> frozenset[str]:
        """Capture, edits and gradients."""
        return frozenset({"capture", "intervene", "gradient"})

    def fingerprint(self) -> str:
        """Return a hash of the module's classes, settings and weights, and of the dictionaries spliced in."""
        return " ".join([fingerprint_module(self.module), *(one.fingerprint for one in self._dictionaries.values())])

    def with_sae(self, sae: Dictionary, site: str) -> Self:
        """Return this model with a dictionary of features spliced in at a site.

        The activation becomes what the dictionary reconstructs plus the error it leaves: nothing changes before one
        of them is edited.

        Parameters
        ----------
        sae : Dictionary
            A fitted `neuros_mechint.SparseAutoencoder`, a SAELens SAE, or anything with ``encode`` and ``decode``.
        site : str
            Where. Heads and their units are taken together, as SAELens does.

        Returns
        -------
        Adapter
            Another one, with the further sites ``SITE.sae.features``, ``SITE.sae.error`` and
            ``SITE.sae.reconstruction``, which are read and edited after the site itself.

        Raises
        ------
        InputError
            No dictionary, one that does not take activations of this width, or a second one at a site.
        SiteError

        Examples
        --------
        >>> class Halves:
        ...     def encode(self, x):
        ...         return torch.relu(torch.cat([x, -x], -1))
        ...     def decode(self, features):
        ...         return features[..., :2] - features[..., 2:]
        >>> model = TorchAdapter(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))).with_sae(Halves(), "0")
        >>> model.capture(torch.zeros(5, 3), "0.sae.features")["0.sae.features"].shape
        torch.Size([5, 4])
        """
        reference = SiteReference.parse(site)
        own = self._own_table([reference.name], None)[reference.name]
        if reference.index or own.name in self._dictionaries:
            raise InputError(
                f"a dictionary cannot be spliced in at {site!r}",
                expected="a whole site that has none yet",
                fix="give the name without an index, and start from the model without the other dictionary",
            )
        other = copy.copy(self)
        spliced = splice(sae, own, lambda: fingerprint_module(self.module))
        other._dictionaries = {**self._dictionaries, own.name: spliced}
        other.proofs = Proofs()
        return other

    # -- inputs --------------------------------------------------------------------------------------------------

    def _prepare(self, inputs: Any) -> Batch:
        args, kwargs = self._arguments(inputs)
        device = next((p.device for p in self.module.parameters()), torch.device("cpu"))
        return Batch.of(
            tuple(on_device(value, device) for value in args),
            {name: on_device(value, device) for name, value in kwargs.items()},
            self._sample_axis(),
        )

    def _arguments(self, inputs: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        if isinstance(inputs, str):
            inputs = [inputs]
        if isinstance(inputs, list) and inputs and all(isinstance(text, str) for text in inputs):
            return (), self._tokenize(inputs)
        if isinstance(inputs, Mapping):
            return (), dict(inputs)
        if isinstance(inputs, tuple):
            return inputs, {}
        if hasattr(inputs, "shape"):
            return (inputs,), {}
        raise InputError(
            "these inputs cannot be given to the model",
            expected="a tensor, a tuple of tensors, a dict of them, or strings with a tokenizer",
            got=type(inputs).__name__,
        )

    def _tokenize(self, texts: list[str]) -> Mapping[str, Any]:
        if self.tokenizer is None:
            raise InputError(
                "strings need a tokenizer",
                expected="token ids",
                fix="pass it: nm.adapt(model, tokenizer=...)",
            )
        if len(texts) > 1 and getattr(self.tokenizer, "pad_token", "") is None:
            raise InputError(
                "the tokenizer has no padding token, so texts of different length make no batch",
                fix="set tokenizer.pad_token = tokenizer.eos_token (the attention mask hides the padding)",
            )
        return dict(self.tokenizer(texts, return_tensors="pt", padding=len(texts) > 1))

    def _sample_axis(self) -> int:
        return self._stated_axis or 0

    def _check_splittable(self) -> None:
        kinds = (nn.MultiheadAttention, nn.RNNBase)
        sequence_first = [
            path for path, one in self.module.named_modules() if isinstance(one, kinds) and not one.batch_first
        ]
        if sequence_first and self._stated_axis is None:
            raise InputError(
                f"{sequence_first[0]!r} takes the sequence first, so which axis of the inputs counts the samples?",
                fix="say it: nm.adapt(model, sample_axis=1), or 0; or leave batch_size out",
            )

    def _call(self, batch: Batch) -> Any:
        return self.module(*batch.args, **batch.kwargs)

    def _native_dims(self, submodule: nn.Module, ndim: int, timed: bool) -> tuple[str, ...]:
        dims = native_dims(submodule, ndim, timed)
        if self._sample_axis() == 1 and not timed and dims[:2] == ("sample", "position"):
            return ("position", "sample", *dims[2:])
        return dims

    # -- sites ---------------------------------------------------------------------------------------------------

    def _table(self, wanted: Sequence[str], batch: Batch | None) -> SiteTable:
        if not self._dictionaries:
            return self._own_table(wanted, batch)
        table = self._own_table(host_patterns(wanted, self._dictionaries), batch)
        return with_dictionaries(table, self._dictionaries)

    def _own_table(self, wanted: Sequence[str], batch: Batch | None) -> SiteTable:
        native = {name: self._native_tap(name) for name in wanted}
        # a name means the same whatever was asked before: what reads like a canonical name is tried as one first
        if not wanted or any(tap is None or _CANONICAL.fullmatch(name) for name, tap in native.items()):
            with lock_of(self.module):
                self._prove(batch)
        sites = dict(self._named)
        withheld = dict(self._named.withheld)
        for name, tap in native.items():
            if tap is not None and name not in sites:
                sites[name] = Site(name, tap.native)
            elif "*" in name and not any(fnmatchcase(known, name) for known in self._named):
                sites |= {site.name: site for site in self._module_sites(batch) if fnmatchcase(site.name, name)}
        if not sites:
            sites = {site.name: site for site in self._module_sites(batch)}
            if not wanted and self._map is not None:
                withheld = {}  # reasons for names that nobody expects of such a model
        note = "" if wanted or not self._named else "every module path is a site too: 'PATH:in', 'PATH:out'"
        return SiteTable(sites.values(), withheld, f"sites of {type(self.module).__name__}", note)

    def _module_sites(self, batch: Batch | None) -> list[Site]:
        """Return the outputs of all submodules as sites: what ran on a probe, or just their paths before any input."""
        absent = any(parameter.is_meta for parameter in self.module.parameters())  # weights that are elsewhere
        probe = None if absent else self._probe() or self._first_inputs(batch)
        if probe is None:
            containers = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
            paths = [path for path, one in self.module.named_modules() if path and not isinstance(one, containers)]
            return [Site(path, f"{path}:out") for path in paths]
        if self._modules is None:
            with explained(probe):
                self._modules = module_sites(self.module, lambda: self._call(probe.copied()), self._native_dims)
        return self._modules

    def _first_inputs(self, batch: Batch | None) -> Batch | None:
        """Return, and keep, the first few samples the model was ever given."""
        if self._first is None and batch is not None:
            self._first = batch.rows(0, _MOST_PROBED_SAMPLES).copied()
        return self._first

    def _native_tap(self, name: str) -> Tap | None:
        """Return the tap a module path names, or ``None`` where it is no module path."""
        return native_tap(self.module, name)

    def _tap(self, name: str) -> Tap:
        inside = part_of_dictionary(name)
        if inside is not None and inside[0] in self._dictionaries:
            return replace(self._tap(inside[0]), splice=Splice(self._dictionaries[inside[0]].dictionary, inside[1]))
        if self._map is not None and name in self._map.taps:
            return self._map.taps[name]
        tap = self._native_tap(name)
        assert tap is not None  # `_expand` has looked every name up in the table
        return tap

    def overlap(self, names: Iterable[str]) -> bool:
        """Return whether some of these sites lie in one tensor: not apart from each other, as q, k and v may."""
        return any_overlap([self._tap(name) for name in names])

    def _prove(self, batch: Batch | None) -> None:
        """Prove the canonical names, once, on the model's own probe or on the first samples of ``batch``."""
        if self._map is not None and self._map.taps:
            return
        probe = self._probe()
        if probe is None:
            # of the batch at hand: the first one may have been too short to prove anything
            first = batch.rows(0, _MOST_PROBED_SAMPLES) if batch is not None else self._first_inputs(None)
            probe = at_least_two_samples(first) if first is not None else None
        if probe is None:
            waiting = "names are proven on the first batch; run the model once, or give nm.adapt(..., example=inputs)"
            self._named = SiteTable([], {"blocks.*": waiting}, f"sites of {type(self.module).__name__}")
            return
        key = f"{type(self).__name__} {self.fingerprint()} {len(probe.args)} {sorted(probe.kwargs)}"
        shapes = [tuple(value.shape) for value in (*probe.args, *probe.kwargs.values()) if hasattr(value, "shape")]
        if self._map is not None and self._tried == (key, shapes):
            return  # inputs of these shapes have proven nothing before
        self._tried = (key, shapes)
        self._map = _PROVEN.get(key)
        if self._map is None:
            with explained(probe), torch.random.fork_rng():
                self._map = self._infer(probe)
            if self._map.taps:  # an input too small to prove anything must not stand in the way of the next
                _PROVEN[key] = self._map
        self._named = self._describe(self._map, probe)

    def _infer(self, probe: Batch) -> SiteMap:
        own = probe.copied()
        with evaluating(self.module):
            return infer_sites(self.module, own.args, dict(own.kwargs))

    def _probe(self) -> Batch | None:
        """Return inputs to prove the sites on, where the model or the user offers some."""
        example = self._example if self._example is not None else getattr(self.module, "dummy_inputs", None)
        return None if example is None else self._prepare(example)

    def _describe(self, site_map: SiteMap, probe: Batch) -> SiteTable:
        """Run the probe once through all taps: shapes and order come from what really happens."""
        seen = self._hooked(probe, site_map.taps, {}, list(site_map.taps))
        sites = []
        for order, (name, tensor) in enumerate(seen.tensors.items()):
            dims = seen.dims[name]
            shape = open_sizes(dims, tuple(tensor.shape))
            heads = next((size for axis, size in zip(dims, shape, strict=True) if axis.endswith("head")), None)
            layer = re.search(r"blocks\.(\d+)\.", name)
            tap = site_map.taps[name]
            sites.append(Site(name, tap.native, dims, shape, heads, int(layer[1]) if layer else None, order, tap.check))
        return SiteTable(sites, site_map.withheld, f"sites of {type(self.module).__name__}")

    # -- running -------------------------------------------------------------------------------------------------

    def _hooked(
        self,
        batch: Batch,
        taps: Mapping[str, Tap],
        edits: Edits,
        capture: Sequence[str],
        gradient: bool = False,
        call: Callable[[], Any] | None = None,
        stop_early: bool = False,
    ) -> HookedRun:
        with explained(batch):
            return run_hooked(
                self.module,
                call or (lambda: self._call(batch.copied())),
                taps,
                edits,
                capture,
                n_samples=batch.n_samples,
                window=batch.window,
                gradient=gradient,
                dims_of=self._native_dims,
                stop_early=stop_early,
            )

    def _read(self, batch: Batch, capture: Sequence[str]) -> tuple[Tensors, Dims]:
        self._first_inputs(batch)
        taps = {name: self._tap(name) for name in capture}
        run = self._hooked(batch, taps, {}, capture, stop_early=True)
        self._check_calls(run, taps)
        return run.tensors, run.dims

    def _execute(self, batch: Batch, edits: Edits, capture: Sequence[str]) -> tuple[Any, Tensors, Dims]:
        self._first_inputs(batch)
        taps = {name: self._tap(name) for name in (*edits, *capture)}
        run = self._hooked(batch, taps, edits, capture)
        self._check_calls(run, taps)
        return run.output, run.tensors, run.dims

    def _differentiate(self, batch: Batch, edits: Edits, sites: Sequence[str], metric: Metric) -> tuple[Tensors, Dims]:
        taps = {name: self._tap(name) for name in (*edits, *sites)}
        with torch.inference_mode(False), torch.enable_grad():  # whatever mode the caller is in
            run = self._hooked(batch, taps, edits, sites, gradient=True)
            self._check_calls(run, taps)
            values = metric(run.output)
            if not isinstance(values, torch.Tensor) or not values.requires_grad:
                raise InputError(
                    "the metric does not depend on the model's output through torch operations",
                    expected="a tensor that is differentiable with respect to the output",
                    fix="use no .item(), .detach(), argmax or numpy inside the metric",
                )
            if not bool(torch.isfinite(values).all()):
                raise InputError("the metric is not finite", got=str(values.detach()))
            if values.ndim > 1:
                raise InputError(
                    "the metric has too many axes", expected="(batch,) or a scalar", got=tuple(values.shape)
                )
            return run.gradients(values.sum()), run.dims

    # -- running on from the middle ------------------------------------------------------------------------------

    def replay(self, batch: Batch, capture: Sequence[str]) -> tuple[Replay, HookedRun]:
        """Run the model once; return a run from any block of which it can be run on, and what was captured.

        Raises
        ------
        NotReplayableError
            The model has no stack of blocks that run once each, in order.
        """
        recorder = Recorder(self.module, self._block_paths(batch))

        def call() -> Any:
            with recorder.recording():
                return self._call(batch.copied())

        taps = {name: self._tap(name) for name in capture}
        run = self._hooked(batch, taps, {}, capture, call=call)
        taps = taps | (self._map.taps if self._map is not None else {})
        again, blocks = partial(self._call, batch.copied()), recorder.blocks()
        return Replay(self.module, again, taps, blocks, run.output, self._native_dims, batch.window), run

    def _block_paths(self, batch: Batch) -> list[str]:
        with lock_of(self.module):
            self._prove(batch)
        named = {} if self._map is None else self._map.taps
        taps = [tap for name, tap in named.items() if re.fullmatch(r"blocks\.\d+\.resid_pre", name)]
        if not taps or any(tap.side != "in" for tap in taps):
            raise NotReplayableError("no stack of blocks was proven on this model")
        return [tap.path for tap in taps]

    def _generate(
        self,
        call: Callable[[], torch.Tensor],
        edits: Edit | Sequence[Edit],
        batch: Batch,
        prompt_length: int,
        max_new_tokens: int,
        seed: SeedLike,
    ) -> torch.Tensor:
        """Run the model's own generation under edits; adapters that generate say how it is called."""
        expanded = self._expand_edits(edits, batch)
        named = {} if self._map is None else dict(self._map.taps)
        return generate_with_edits(
            self.module,
            call,
            expanded,
            named | {edit.reference.name: self._tap(edit.reference.name) for edit in expanded},
            batch,
            prompt_length=prompt_length,
            horizon=prompt_length + max_new_tokens,
            seed=seed,
        )

    def _check_calls(self, run: HookedRun, taps: Mapping[str, Tap]) -> None:
        """Refuse a plain path of a module that ran several times: an edit of only one of them must be asked for."""
        for name, tap in taps.items():
            calls = run.calls.get(tap.path, 0)
            if not tap.check and tap.call == 0 and calls > 1 and "#" not in name and tap.side in ("in", "out"):
                raise InputError(
                    f"module {tap.path!r} runs {calls} times in one pass",
                    expected="the call to be named: " + ", ".join(f"'{name}#{call}'" for call in range(calls)),
                )
