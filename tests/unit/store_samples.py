"""Activations that the tests of stores write, and what a store of them must hold."""

from __future__ import annotations

import numpy as np
import torch

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.stores import store as store_module
from neuros_mechint.core.stores.log import SiteLayout
from neuros_mechint.core.stores.store import ActivationStore

DIMS = {
    "blocks.0.resid_pre": ("sample", "position", "unit"),
    "blocks.0.z[head=2]": ("sample", "position", "unit"),
    "blocks.0.pattern": ("sample", "head", "query", "key"),
    "logit": ("sample",),
}
SHAPES = {
    "blocks.0.resid_pre": (5, 8),
    "blocks.0.z[head=2]": (5, 3),
    "blocks.0.pattern": (2, 5, 5),
    "logit": (),
}
TWO_SITES = ("blocks.0.resid_pre", "blocks.0.z[head=2]")
DTYPES = {
    "blocks.0.resid_pre": torch.float32,
    "blocks.0.z[head=2]": torch.bfloat16,
    "blocks.0.pattern": torch.float16,
    "logit": torch.float64,
}


def samples(n, seed=0, dims=DIMS, shapes=SHAPES, dtypes=DTYPES):
    random = np.random.default_rng(seed)
    tensors = {name: torch.from_numpy(random.normal(size=(n, *shapes[name]))).to(dtypes[name]) for name in dims}
    return Activations(tensors, dims)


def rows_of(acts, start, stop):
    return {name: tensor[start:stop] for name, tensor in acts.items()}


def assert_holds(store, acts):
    for name, tensor in acts.items():
        assert store[name].dtype == tensor.dtype
        assert torch.equal(store[name], tensor), name


def small_chunks(path, n_samples=None, chunk=4, sites=tuple(DIMS)):
    """A store whose chunks are small, so that a few samples cross many of their borders."""
    layouts = {
        name: SiteLayout(name, DIMS[name], SHAPES[name], DTYPES[name], chunk_samples=chunk + i)
        for i, name in enumerate(sites)
    }
    log = store_module.StoreLog.create(path, layouts, n_samples, None)
    return ActivationStore(path, log, writable=True)
