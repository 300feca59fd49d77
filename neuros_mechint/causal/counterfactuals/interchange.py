"""Interchange interventions: give a run the value that another input has of one variable, and leave the rest alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from neuros_mechint.causal.counterfactuals.answers import Answers, Read
from neuros_mechint.causal.counterfactuals.one_site import SitePlace, single_site
from neuros_mechint.causal.interventions import measure
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.directions import check_width, orthonormal_directions
from neuros_mechint.core.edits import Add, Edit, Project, Replace
from neuros_mechint.core.errors import InputError


@dataclass(frozen=True, eq=False)
class InterchangeIntervention:
    """Put the part of a source run's activation that lies in a subspace in place of the base run's own.

    Parameters
    ----------
    site : str
        Name of one site, maybe with an index such as ``"blocks.1.resid_post[position=-1]"``.
    basis : array of shape (n_directions, n_units) or (n_units,), optional
        Directions that span the subspace in which the variable is thought to lie; the whole activation by default.
    read : callable, optional
        ``read(output)`` gives the logits of the answer, ``(n_samples, n_classes)``. By default the model's logits, at
        the last position where they have positions.

    Raises
    ------
    InputError
        No directions, or numbers that are not finite.

    References
    ----------
    Geiger et al. 2021, Causal abstractions of neural networks, doi:10.48550/arXiv.2106.02997

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.Identity())
    >>> swap = InterchangeIntervention(":out", basis=[1.0, 0.0])
    >>> swap.run(model, base=torch.tensor([[1.0, 2.0]]), source=torch.tensor([[8.0, 9.0]]))
    tensor([[8., 2.]])
    """

    site: str
    basis: Any = None
    read: Read | None = None

    def __post_init__(self) -> None:
        if self.basis is not None:
            orthonormal_directions(self.basis, self._who)

    @property
    def _who(self) -> str:
        return f"the interchange at {self.site!r}"

    def edits(self, source: SitePlace) -> list[Edit]:
        """Return the edits of the base run, given what the source run has at the site."""
        if self.basis is None:
            return [Replace(source.name, source.values)]
        directions = orthonormal_directions(self.basis, self._who).to(source.values.device)
        features = source.features(self._who)
        check_width(directions, source.values.shape[features], self._who)
        part = within(source.values, directions, features).to(source.values.dtype)
        return [Project(source.name, self.basis), Add(source.name, part)]

    def run(self, model: Adapter, base: Any, source: Any, batch_size: int | None = None) -> Any:
        """Return the model's output for the base inputs with the swap made.

        Parameters
        ----------
        model : Adapter
            From ``nm.adapt``.
        base, source : inputs of the model
            Sample ``i`` of ``base`` receives from sample ``i`` of ``source``.
        batch_size : int, optional
            Samples per call of the model.

        Raises
        ------
        InputError, SiteError, CapabilityError
        """
        _, place = paired_places(model, base, source, self.site, batch_size)
        return model.run(base, edits=self.edits(place), batch_size=batch_size).output

    def accuracy(
        self, model: Adapter, base: Any, source: Any, counterfactual: Any, batch_size: int | None = None
    ) -> float:
        """Return the interchange intervention accuracy: how often the output is the counterfactual answer.

        Parameters
        ----------
        model : Adapter
        base, source : inputs of the model
        counterfactual : integer array of shape (n_samples,)
            The class that the hypothesis predicts: the answer to ``base`` had the variable its value in ``source``.
        batch_size : int, optional

        Returns
        -------
        float
            Between 0 and 1.

        Raises
        ------
        InputError, SiteError, CapabilityError
        """
        answers = Answers.of(counterfactual, self.read)
        edits = self.edits(paired_places(model, base, source, self.site, batch_size)[1])
        return float(measure(model, base, [edits], answers.is_right, batch_size=batch_size).values.mean())


def paired_places(
    model: Adapter, base: Any, source: Any, site: str, batch_size: int | None = None
) -> tuple[SitePlace, SitePlace]:
    """Return what the base run and the source run have at the site.

    Raises
    ------
    InputError
        Base and source are no pairs.
    """
    own, place = (single_site(model, inputs, site, batch_size) for inputs in (base, source))
    if own.values.shape != place.values.shape:
        raise InputError(
            "base and source inputs are not pairs",
            expected=f"activations of shape {tuple(own.values.shape)} at {own.name!r}, as in the base run",
            got=tuple(place.values.shape),
            fix="give as many samples, of the same length",
        )
    return own, place


def within(values: torch.Tensor, directions: torch.Tensor, features: int) -> torch.Tensor:
    """Return the part of an activation in the span of orthonormal ``directions``, ``(n_units, rank)``.

    Examples
    --------
    >>> within(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0], [0.0]]), features=1)
    tensor([[3., 0.]])
    """
    wide = values.to(directions.dtype).movedim(features, -1)
    return ((wide @ directions) @ directions.T).movedim(-1, features)
