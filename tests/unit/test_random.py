from __future__ import annotations

import numpy as np
import pytest
import torch

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.random import generator, torch_generator


def test_same_integer_gives_same_numbers():
    assert np.array_equal(generator(3).normal(size=5), generator(3).normal(size=5))
    assert not np.array_equal(generator(3).normal(size=5), generator(4).normal(size=5))


def test_numpy_integers_are_seeds():
    assert generator(np.int64(3)).integers(1000) == generator(3).integers(1000)


def test_a_generator_passes_through():
    source = np.random.default_rng(0)
    assert generator(source) is source


@pytest.mark.parametrize("seed", [None, True, np.True_, 1.0, np.float64(1), "0", -1, [0], np.array([0])])
def test_what_is_not_a_seed_is_refused(seed):
    for make in (generator, torch_generator):
        with pytest.raises(InputError, match="seed"):
            make(seed)


def test_torch_generator_repeats_for_integers_and_moves_on_for_generators():
    def draw(seed):
        return torch.rand(4, generator=torch_generator(seed))

    assert torch.equal(draw(7), draw(7))
    assert not torch.equal(draw(7), draw(8))
    source = np.random.default_rng(7)
    assert torch.equal(draw(source), draw(7))
    assert not torch.equal(draw(source), draw(7))


def test_global_state_is_left_alone():
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    torch.rand(3, generator=torch_generator(0))
    generator(0).normal(size=3)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
