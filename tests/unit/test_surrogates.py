"""Surrogates: same spectra, same correlations where asked, and nothing else."""

import numpy as np
import pytest

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError


@pytest.mark.parametrize("shape", [(101,), (3, 64), (2, 3, 65)])
def test_spectra_are_kept_and_values_are_not(shape):
    x = np.random.default_rng(0).normal(size=shape)
    before = x.copy()
    y = nm.phase_randomised(x, seed=1)
    assert np.allclose(abs(np.fft.rfft(x)), abs(np.fft.rfft(y)))
    assert abs(np.corrcoef(x.ravel(), y.ravel())[0, 1]) < 0.4
    assert np.array_equal(x, before)
    assert np.array_equal(y, nm.phase_randomised(x, seed=1))


def test_correlations_between_units_are_kept_together_only():
    x = np.random.default_rng(0).normal(size=(1, 4096)) * np.ones((2, 1))
    together, alone = (np.corrcoef(nm.phase_randomised(x, together=flag))[0, 1] for flag in (True, False))
    assert together == pytest.approx(1)
    assert abs(alone) < 0.1


def test_what_has_no_surrogates_is_refused():
    for wrong in ([1.0, np.nan, 2.0], [1.0, 2.0], ["a", "b", "c"], 1.0, np.ones(5) * 1j):
        with pytest.raises(InputError):
            nm.phase_randomised(wrong)
    with pytest.raises(InputError, match="seed"):
        nm.phase_randomised(np.ones(5), seed=-1)
    with pytest.raises(OptionError):
        nm.phase_randomised(np.ones(5), together="yes")
