"""Exact sweeps of activation patching against TransformerLens's, on the same weights.

Both sides do the whole job: the clean run, the corrupted run, and one patched run per place. The peer runs a
``HookedTransformer``, this library a HuggingFace GPT-2 with the same weights; rows marked "same object" run both on the
``HookedTransformer``. ``--plot`` draws how the time grows with places, positions and layers instead.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import io
import random
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.causal.interventions import measure
from neuros_mechint.causal.places import patch, places_at

torch.set_num_threads(1)
warnings.filterwarnings("ignore")
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Shape:
    """Size of a model and of its inputs; ``differs`` are the positions at which clean and corrupted differ."""

    n_layers: int
    width: int
    n_heads: int
    n_positions: int
    n_samples: int
    vocabulary: int
    differs: str = "all tokens"

    @property
    def text(self) -> str:
        size = f"{self.n_layers} layers, d {self.width}, {self.n_samples} x {self.n_positions} tokens"
        return f"{size}, vocabulary {self.vocabulary:,}; {self.differs} differ{'s' if 'one' in self.differs else ''}"


BIG = Shape(12, 768, 12, 64, 1, 50257)
SMALL = Shape(6, 256, 8, 32, 4, 5000)
TINY = Shape(2, 64, 4, 8, 1, 100)


def models(shape: Shape) -> tuple[nn.Module, nn.Module]:
    """Return a HuggingFace GPT-2 and a ``HookedTransformer`` with the same random weights."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.loading_from_pretrained import convert_gpt2_weights
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=shape.n_layers,
        n_head=shape.n_heads,
        n_embd=shape.width,
        vocab_size=shape.vocabulary,
        n_positions=shape.n_positions,
        bos_token_id=0,
        eos_token_id=0,
    )
    huggingface = GPT2LMHeadModel(config).eval()
    with torch.no_grad():  # the usual initialisation hardly moves the stream
        for name, parameter in huggingface.named_parameters():
            if parameter.ndim > 1 and "wte" not in name:
                parameter *= 2
    lens_config = HookedTransformerConfig(
        n_layers=shape.n_layers,
        d_model=shape.width,
        n_heads=shape.n_heads,
        d_head=shape.width // shape.n_heads,
        n_ctx=shape.n_positions,
        d_vocab=shape.vocabulary,
        d_mlp=4 * shape.width,
        act_fn="gelu_new",
        normalization_type="LN",
        device="cpu",
    )
    lens = HookedTransformer(lens_config)
    unprocessed = {
        "fold_ln": False,
        "center_writing_weights": False,
        "center_unembed": False,
        "fold_value_biases": False,
    }
    lens.load_and_process_state_dict(convert_gpt2_weights(huggingface, lens_config), **unprocessed)
    return huggingface, lens.eval()


def inputs(shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    clean, other = torch.randint(shape.vocabulary, (2, shape.n_samples, shape.n_positions), generator=generator)
    if shape.differs == "all tokens":
        return clean, other
    corrupted = clean.clone()
    middle = shape.n_positions // 2
    corrupted[:, middle] = (clean[:, middle] + 1) % shape.vocabulary
    return clean, corrupted


class Contest:
    """One sweep, ours and theirs."""

    def __init__(self, shape: Shape, by: str, n_timed: int | None = None, same_object: bool = False) -> None:
        self.shape, self.by = shape, by
        huggingface, self.lens = models(shape)
        self.clean, self.corrupted = inputs(shape)
        self.metric = nm.logit_difference(3, 11)
        self.patcher = nm.ActivationPatcher(nm.adapt(self.lens if same_object else huggingface), self.metric)
        self.sites = "blocks.*.resid_pre" if by == "position" else "blocks.*.z"
        self.n_entries = shape.n_positions if by == "position" else shape.n_heads
        places = [(layer, entry) for layer in range(shape.n_layers) for entry in range(self.n_entries)]
        timed = len(places) if n_timed is None else n_timed
        self.timed = sorted(random.Random(0).sample(places, timed))
        self.scale = len(places) / timed

    def ours(self, **options: object) -> torch.Tensor:
        effects = self.patcher.sweep(self.clean, self.corrupted, self.sites, by=(self.by,), **options)  # type: ignore[arg-type]
        return torch.as_tensor(effects.values.values)

    def theirs(self) -> torch.Tensor:
        """The clean run and TransformerLens's own loop, over the places that are timed."""
        with torch.no_grad():
            _, cache = self.lens.run_with_cache(self.clean, names_filter=lambda hook: hook.endswith(self.hook))
            self.metric(self.lens(self.corrupted))
        return self.their_loop(cache)

    @property
    def hook(self) -> str:
        return "resid_pre" if self.by == "position" else "hook_z"

    def their_loop(self, cache: object) -> torch.Tensor:
        from transformer_lens import patching

        position = self.by == "position"
        setter = patching.layer_pos_patch_setter if position else patching.layer_head_vector_patch_setter
        index = pd.DataFrame(self.timed, columns=["layer", "pos" if position else "head"])
        name = "resid_pre" if position else "z"
        with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
            return patching.generic_activation_patch(
                self.lens,
                self.corrupted,
                cache,
                lambda logits: self.metric(logits).mean(),
                setter,
                name,
                index_df=index,
            )

    def loops(self) -> tuple[Callable[[], object], Callable[[], object]]:
        """Their loop and our engine alone: both are given the clean activations, and give bare numbers."""
        model = self.patcher.model
        activations = model.capture(self.clean, self.sites)
        _, cache = self.lens.run_with_cache(self.clean)

        def ours() -> object:
            edits = [[patch(place, activations)] for place in places_at(activations, (self.by,))]
            return measure(model, self.corrupted, edits, self.metric).values

        return lambda: self.their_loop(cache), ours

    def check(self) -> float:
        found = self.ours()
        chosen = torch.stack([found[layer, entry] for layer, entry in self.timed])
        difference = float((chosen - self.theirs()).abs().max())
        assert difference < TOLERANCE, difference
        return difference


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def ratio(first: Callable[[], object], second: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the median times of two functions that take turns."""
    pairs = [(seconds(first), seconds(second)) for _ in range(repeats)]
    return median(one for one, _ in pairs), median(two for _, two in pairs)


def rows() -> Iterator[tuple[str, str, str, float, float]]:
    """Yield work, size, note, ratio and difference of every row of the table."""
    for shape, timed, repeats in ((TINY, None, 31), (SMALL, None, 3), (BIG, 12, 3)):
        for by in ("position", "head"):
            kinds = [shape] if by == "head" else [shape, replace(shape, differs="one token")]
            for kind in kinds:
                contest = Contest(kind, by, timed)
                difference = contest.check()
                theirs, ours = ratio(contest.theirs, contest.ours, repeats)
                note = "" if timed is None else f"peer timed on {timed} of {int(timed * contest.scale)} places"
                yield f"(layer, {by})", kind.text, note, theirs * contest.scale / ours, difference
    for shape, repeats in ((TINY, 31), (SMALL, 3)):
        contest = Contest(shape, "position", same_object=True)
        difference = contest.check()
        theirs, ours = ratio(contest.theirs, contest.ours, repeats)
        yield "(layer, position)", shape.text, "same object", theirs / ours, difference
    contest = Contest(TINY, "position")
    theirs, ours = ratio(*contest.loops(), 31)
    yield "(layer, position)", TINY.text, "engine alone, given the clean activations", theirs / ours, float("nan")
    contest = Contest(BIG, "position", 12)
    estimate = lambda: contest.ours(engine="attribution", verify=16)  # noqa: E731
    estimate()
    exact, estimated = ratio(contest.ours, estimate, 2)
    yield "attribution + 16 verified", BIG.text, "peer: the exact sweep, ours", exact / estimated, float("nan")


def plot(path: Path) -> None:
    """Draw the time of a sweep over places, positions and layers, ours and theirs."""
    import matplotlib.pyplot as plt

    from neuros_mechint.core.figures.plotting import PALETTE
    from neuros_mechint.core.figures.style import style

    base = Shape(4, 128, 4, 32, 2, 1000)
    studies = {
        "layers": [replace(base, n_layers=n) for n in (2, 4, 8, 12)],
        "positions": [replace(base, n_positions=n) for n in (8, 16, 32, 64)],
        "width": [replace(base, width=n) for n in (64, 128, 256, 512)],
    }
    values = {"layers": "n_layers", "positions": "n_positions", "width": "width"}
    with style():
        figure, axes = plt.subplots(1, 3, figsize=(9.5, 3), layout="constrained", sharey=True)
        for ax, (name, shapes) in zip(axes, studies.items(), strict=True):
            x = [getattr(shape, values[name]) for shape in shapes]
            times = []
            for shape in shapes:
                contest = Contest(shape, "position", n_timed=12)
                contest.check()
                theirs, ours = ratio(contest.theirs, contest.ours, 3)
                times.append((theirs * contest.scale, ours))
            for label, series, colour in zip(
                ("TransformerLens", "neuros-mechint"), zip(*times, strict=True), PALETTE[1::-1], strict=True
            ):
                ax.loglog(x, series, marker="o", color=colour, label=label)
            ax.set_xticks(x, [str(value) for value in x])
            ax.minorticks_off()
            ax.set_xlabel(name)
            ax.grid(axis="y")
        axes[0].set_ylabel("seconds for all (layer, position)")
        axes[0].legend()
        figure.suptitle(
            f"Exact sweep of the residual stream; base: {base.text}, 1 thread", x=0.01, ha="left", fontsize=9
        )
        figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="draw the scaling into this file")
    arguments = parser.parse_args()
    if arguments.plot:
        plot(arguments.plot)
        return
    print("| work | size | note | ratio | same answer within |", flush=True)
    for work, size, note, faster, difference in rows():
        same = "" if np.isnan(difference) else f"{difference:.0e}"
        print(f"| {work} | {size} | {note} | {faster:.1f} | {same} |", flush=True)


if __name__ == "__main__":
    main()
