"""Activations, and a finished store of them, for the tests of stores."""

from __future__ import annotations

import pytest

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.stores.store import ActivationStore
from tests.unit.store_samples import rows_of, samples, small_chunks


@pytest.fixture(scope="module")
def acts() -> Activations:
    return samples(23)


@pytest.fixture
def finished(tmp_path, acts) -> ActivationStore:
    with small_chunks(tmp_path / "acts.zarr") as store:
        for start in range(0, 23, 5):
            store.append(rows_of(acts, start, start + 5))
    return ActivationStore.open(tmp_path / "acts.zarr")
