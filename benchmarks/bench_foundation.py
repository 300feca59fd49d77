"""What the foundation costs: import, site inference, capture and a head sweep against TransformerLens."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median

import torch

import neuros_mechint as nm
from neuros_mechint.adapters.inference import infer_sites

torch.set_num_threads(1)
warnings.filterwarnings("ignore")
REPEATS = 7


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def interleaved(**functions: Callable[[], object]) -> dict[str, float]:
    """Return the median time of each function, the functions taking turns."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(REPEATS):
        for name, function in functions.items():
            times[name].append(seconds(function))
    return {name: median(values) for name, values in times.items()}


def import_ratio() -> float:
    """Time of ``import neuros_mechint`` over that of ``import numpy``, fresh processes taking turns."""

    def measure(module: str) -> float:
        code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)

    pairs = [(measure("neuros_mechint"), measure("numpy")) for _ in range(REPEATS)]
    return median(ours for ours, _ in pairs) / median(theirs for _, theirs in pairs)


def gpt2_small() -> torch.nn.Module:
    import transformers

    return transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()


def inference_cost() -> float:
    """Cost of proving all sites, in forward passes of the same inputs."""
    module, tokens = gpt2_small(), torch.randint(0, 50000, (2, 64))
    with torch.no_grad():
        module(tokens)
        times = interleaved(
            forward=lambda: module(tokens), infer=lambda: infer_sites(module, (), {"input_ids": tokens})
        )
    return times["infer"] / times["forward"]


def hooked_transformer() -> torch.nn.Module:
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    config = HookedTransformerConfig(
        n_layers=6, d_model=256, n_ctx=32, d_head=32, n_heads=8, d_vocab=5000, act_fn="gelu", device="cpu", seed=0
    )
    return HookedTransformer(config).eval()


def capture_ratio(module: torch.nn.Module, tokens: torch.Tensor) -> float:
    """Time of ``run_with_cache`` over that of ``capture`` for the residual stream after every layer."""
    model = nm.adapt(module)
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(6)]

    def theirs() -> object:
        with torch.no_grad():
            return module.run_with_cache(tokens, names_filter=names)[1]

    ours = partial(model.capture, tokens, names)
    ours_values, their_values = ours(), theirs()
    for name in names:
        assert torch.equal(ours_values[name], their_values[name]), name
    times = interleaved(ours=ours, theirs=theirs)
    return times["theirs"] / times["ours"]


def head_sweep_ratio(module: torch.nn.Module, tokens: torch.Tensor) -> float:
    """Time of TransformerLens's patching of every head over that of `ActivationPatcher.sweep`."""
    from transformer_lens import patching

    corrupted = tokens.clone()
    corrupted[:, 3] = (corrupted[:, 3] + 1) % 5000
    metric = nm.logit_difference(1, 2)
    patcher = nm.ActivationPatcher(nm.adapt(module), metric)

    def theirs() -> torch.Tensor:
        with torch.no_grad():
            _, cache = module.run_with_cache(tokens)
            return patching.get_act_patch_attn_head_out_all_pos(
                module, corrupted, cache, lambda logits: metric(logits).mean()
            )

    def ours() -> object:
        return patcher.sweep(tokens, corrupted, "blocks.*.z", by=("head",))

    difference = abs(torch.as_tensor(ours().values.values) - theirs()).max()
    assert difference < 1e-5, difference
    times = interleaved(ours=ours, theirs=theirs)
    return times["theirs"] / times["ours"]


def main() -> None:
    module = hooked_transformer()
    tokens = torch.randint(0, 5000, (4, 32), generator=torch.Generator().manual_seed(0))
    print(f"import neuros_mechint / import numpy: {import_ratio():.2f} (bar: at most 2)")
    print(f"site inference, GPT-2 small, 2 x 64 tokens: {inference_cost():.1f} forward passes")
    print(f"capture of 6 sites, run_with_cache / capture: {capture_ratio(module, tokens):.2f}")
    print(f"head sweep 6 x 8, TransformerLens / sweep: {head_sweep_ratio(module, tokens):.2f}")


if __name__ == "__main__":
    main()
