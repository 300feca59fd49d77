"""One site, looked at before it is edited: its axes and what the model has there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from neuros_mechint.causal.interventions import check_editable
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.directions import feature_axis
from neuros_mechint.core.errors import SiteError
from neuros_mechint.core.sites import SiteReference


@dataclass(frozen=True)
class SitePlace:
    """The selected block of one site.

    Parameters
    ----------
    name : str
        The site with its index.
    dims : tuple of str
        Axes of the block.
    values : torch.Tensor
        The activation there.
    attention_mask : torch.Tensor of shape (n_samples, n_positions), optional
        False where the inputs are padded.
    """

    name: str
    dims: tuple[str, ...]
    values: torch.Tensor
    attention_mask: torch.Tensor | None = None

    @property
    def reference(self) -> SiteReference:
        """The site and its index."""
        return SiteReference.parse(self.name)

    def features(self, who: str) -> int:
        """Return which axis counts the features."""
        return feature_axis(self.dims, who)

    def n_features(self, who: str) -> int:
        """Return how many features there are."""
        return self.values.shape[self.features(who)]


def single_site(model: Any, inputs: Any, site: str, batch_size: int | None = None) -> SitePlace:
    """Return the one site of that name, as the model has it on these inputs.

    Raises
    ------
    SiteError
        Unknown, or several sites.
    InputError, CapabilityError
        No adapter, or one that cannot be edited.

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> single_site(nm.adapt(torch.nn.Linear(3, 2)), torch.ones(5, 3), ":out").dims
    ('sample', 'unit')
    """
    check_editable(model)
    captured = model.capture(inputs, site, batch_size=batch_size)
    assert isinstance(captured, Activations)
    if len(captured) != 1:
        raise SiteError(
            f"{site!r} names {len(captured)} sites",
            expected="one",
            got=", ".join(list(captured)[:4]),
            fix="call this once per site",
        )
    (name,) = captured
    return SitePlace(name, captured.dims(name), captured[name], captured.attention_mask)
