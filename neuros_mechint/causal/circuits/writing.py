"""What heads write to the residual stream: their share of the attention's output, recovered by running it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neuros_mechint.causal.circuits.calls import Calls
from neuros_mechint.core.edits import Replace
from neuros_mechint.core.errors import CapabilityError

_LINEARITY = 1e-3


def output_map(calls: Calls, layer: int, values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the linear map from each head's ``z`` to the attention's output, ``(head, unit, n_units)``.

    The block is run on unit vectors in place of ``z``, one per position, so that no weight has to be found.

    Parameters
    ----------
    calls : Calls
    layer : int
    values : sequence of torch.Tensor
        Values of ``z`` on which the map must hold, ``(sample, position, head, unit)``, the clean ones first.

    Raises
    ------
    CapabilityError
        What the block adds to the stream is not linear in ``z``.
    """
    z_site, out_site = f"blocks.{layer}.z", f"blocks.{layer}.attn_out"
    shape = values[0].shape
    n_rows, n_inputs = shape[0] * shape[1], shape[2] * shape[3]
    n_copies = -(-(n_inputs + 1) // n_rows)
    units = torch.zeros(n_copies * n_rows, n_inputs, dtype=values[0].dtype, device=values[0].device)
    units[torch.arange(n_inputs), torch.arange(n_inputs)] = 1  # the rows after them stay zero: they show the bias
    probes = units.reshape(n_copies, *shape)
    interventions = [[Replace(z_site, value)] for value in [*probes, *values]]
    written = calls.captured_in_block(layer, interventions, [out_site])[out_site]
    flat = written[:n_copies].double().flatten(0, 2)
    bias = flat[n_inputs]
    weight = flat[:n_inputs] - bias
    _check_linear(weight, bias, values, written[n_copies:], layer)
    return weight.reshape(shape[2], shape[3], -1)


def _check_linear(
    weight: torch.Tensor, bias: torch.Tensor, values: Sequence[torch.Tensor], written: torch.Tensor, layer: int
) -> None:
    for value, expected in zip(values, written, strict=True):
        got = value.double().flatten(2) @ weight + bias
        error, size = float((got - expected.double()).abs().max()), float(expected.double().abs().max())
        if error > _LINEARITY * size + 1e-6:
            raise CapabilityError(
                f"heads of block {layer} cannot be told apart: what attention adds to the stream is not linear in z",
                expected="attention whose output is projected and added as it is, without a norm after it",
                got=f"an error of {error:.3g} in values up to {size:.3g}",
                fix='give nodes=[...], for example the blocks\' "blocks.0.attn_out", to run circuits of nodes',
            )
