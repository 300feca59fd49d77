"""What every engine must agree on."""

from __future__ import annotations

from neuros_mechint.causal.interventions import measure

CLOSE = 1e-5


def assert_engines_agree(model, inputs, interventions, metric, engines=("batched", "suffix", "auto")):
    expected = measure(model, inputs, interventions, metric, engine="loop")
    assert (expected.values - expected.baseline).abs().max() > 1e-2  # something happens at all
    found = {engine: measure(model, inputs, interventions, metric, engine=engine) for engine in engines}
    for engine, measured in found.items():
        difference = (measured.values - expected.values).abs().max().item()
        assert difference <= CLOSE, (engine, difference)
        assert (measured.baseline - expected.baseline).abs().max() <= CLOSE
    return found
