"""Inputs that the tests of site inference share, and silence for those that train with libraries that warn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch

from tests.conformance.architectures import WIDTH


@pytest.fixture(scope="module")
def stream():
    return torch.randn(3, 7, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def ids():
    return torch.randint(3, 97, (3, 7), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def delta():
    return torch.randn(3, 7, WIDTH, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
