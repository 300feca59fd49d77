"""What an autoencoder is made of: activations captured, and an autoencoder trained on them, against the peers.

Captures run against TransformerLens's ``run_with_cache(names_filter=)`` on the same weights, whole data sets in batches
and single calls. Training runs against SAELens's ``SAETrainer``, which is fed shuffled batches from memory and takes as
many of the same steps; ours streams the activations to a store on disk and trains from there. Memory is that of a
capture to a store, and a training from it, of more activations than are ever held at once.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import math
import resource
import tempfile
import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import torch
from bench_sweeps import Shape, models, ratio
from torch import nn

import neuros_mechint as nm
from neuros_mechint.features.architectures import training_sae
from neuros_mechint.features.training import make_trainer

torch.set_num_threads(1)
warnings.filterwarnings("ignore")

SHAPE = Shape(6, 256, 8, 64, 512, 5000)
BATCH = 32
N_FEATURES, K, STEP_ROWS, EPOCHS = 1024, 32, 512, 2


def tokens_of(shape: Shape) -> torch.Tensor:
    return torch.randint(
        shape.vocabulary, (shape.n_samples, shape.n_positions), generator=torch.Generator().manual_seed(1)
    )


def cached(lens: nn.Module, tokens: torch.Tensor, site: str, **options: object) -> torch.Tensor:
    """Capture with TransformerLens, batch by batch."""
    layer, name = site.removeprefix("blocks.").split(".")
    hook = f"blocks.{layer}.hook_{name}"
    with torch.no_grad():
        parts = [lens.run_with_cache(part, names_filter=hook, **options)[1][hook] for part in tokens.split(BATCH)]
    return torch.cat(parts)


def capture_rows() -> Iterator[tuple[str, str, float, float]]:
    """Yield what is captured, how, how many times faster, and the difference of the values."""
    huggingface, lens = models(SHAPE)
    tokens = tokens_of(SHAPE)
    for layer in (2, 5):
        site = f"blocks.{layer}.resid_post"
        for kind, module in (("same object", lens), ("HuggingFace model of the same weights", huggingface)):
            model = nm.adapt(module)
            difference = float(
                (model.capture(tokens[:BATCH], site)[site] - cached(lens, tokens[:BATCH], site)).abs().max()
            )
            for amount, own in ((f"{len(tokens)} samples", tokens), (f"one call, {BATCH} samples", tokens[:BATCH])):
                theirs, ours = ratio(
                    lambda own=own, site=site: cached(lens, own, site),
                    lambda own=own, site=site, model=model: model.capture(own, site, batch_size=BATCH),
                    3 if own is tokens else 15,
                )
                yield f"capture of {site}", f"{kind}; {amount}", theirs / ours, difference
    own = nm.adapt(lens)
    theirs, ours = ratio(
        lambda: cached(lens, tokens, "blocks.2.resid_post", stop_at_layer=3),
        lambda: own.capture(tokens, "blocks.2.resid_post", batch_size=BATCH),
        3,
    )
    yield (
        "capture of blocks.2.resid_post",
        f"same object; {len(tokens)} samples; peer told stop_at_layer=3",
        theirs / ours,
        0.0,
    )


def train_theirs(rows: torch.Tensor, n_steps: int) -> torch.Tensor:
    """Train SAELens's autoencoder with its own trainer, from memory."""
    torch.manual_seed(0)
    sae = training_sae("topk", rows.shape[1], N_FEATURES, {"k": K})

    def batches() -> Iterator[torch.Tensor]:
        while True:
            for picked in torch.randperm(len(rows)).split(STEP_ROWS):
                if len(picked) == STEP_ROWS:
                    yield rows[picked]

    make_trainer(sae, batches(), n_steps, STEP_ROWS, 3e-3).fit()
    return sae.W_dec.detach()


def training_rows() -> Iterator[tuple[str, str, float, float]]:
    _, lens = models(SHAPE)
    model, tokens, site = nm.adapt(lens), tokens_of(SHAPE), "blocks.2.resid_post"
    n_steps = int(EPOCHS * 0.9 * tokens.numel() / STEP_ROWS)
    size = f"{tokens.numel():,} activations of {SHAPE.width} units, topk {N_FEATURES}, {n_steps} steps of {STEP_ROWS}"

    def trained(activations: object) -> nm.SparseAutoencoder:
        settings = {"k": K, "epochs": EPOCHS, "batch_size": STEP_ROWS, "progress": False}
        return nm.SparseAutoencoder(N_FEATURES, **settings).fit(activations, site)  # type: ignore[arg-type]

    def ours() -> object:
        with tempfile.TemporaryDirectory() as folder:
            return trained(model.capture(tokens, site, batch_size=BATCH, to=Path(folder) / "store"))

    def theirs() -> object:
        return train_theirs(cached(lens, tokens, site).flatten(0, 1), n_steps)

    yield _row("capture to a store, and training from it", size, theirs, ours)
    rows = cached(lens, tokens, site).flatten(0, 1)
    with tempfile.TemporaryDirectory() as folder:
        store = model.capture(tokens, site, batch_size=BATCH, to=Path(folder) / "store")
        yield _row(
            "training alone, ours from a store", size, lambda: train_theirs(rows, n_steps), lambda: trained(store)
        )


def _row(
    work: str, size: str, theirs: Callable[[], object], ours: Callable[[], object]
) -> tuple[str, str, float, float]:
    slow, fast = ratio(theirs, ours, 3)
    return work, size, slow / fast, float("nan")


def memory() -> tuple[int, int]:
    """Return bytes of activations written to a store, and how much more the process held at most."""
    huggingface, _ = models(Shape(2, 256, 8, 64, 1, 1000))
    model, tokens = nm.adapt(huggingface), torch.randint(1000, (16384, 64))
    model.capture(tokens[:64], "blocks.1.resid_post", batch_size=32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        store = model.capture(tokens, "blocks.1.resid_post", batch_size=32, to=Path(folder) / "store")
        nm.SparseAutoencoder(64, k=4, epochs=1, progress=False, batch_size=8192).fit(store, "blocks.1.resid_post")
        size = store.nbytes
    return size, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def main() -> None:
    size, held = memory()
    print(
        f"capture of {size / 1e9:.2f} GB to a store and training from it: {held / 1e9:.2f} GB more held at most",
        flush=True,
    )
    print("| work | peer | ratio | same answer within |", flush=True)
    for work, note, faster, difference in chain(training_rows(), capture_rows()):
        same = "-" if math.isnan(difference) else f"{difference:.0e}"
        print(f"| {work} | {note} | {faster:.2f} | {same} |", flush=True)


if __name__ == "__main__":
    main()
