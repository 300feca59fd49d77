"""Inputs that the tests of site inference share."""

from __future__ import annotations

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
