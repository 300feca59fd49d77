"""Distributed alignment search: learn the rotation under which swapping a few dimensions swaps one variable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch

from neuros_mechint.causal.counterfactuals.alignment_results import InterchangeAccuracy, accuracy_result
from neuros_mechint.causal.counterfactuals.answers import Answers, Read
from neuros_mechint.causal.counterfactuals.interchange import InterchangeIntervention, paired_places
from neuros_mechint.causal.counterfactuals.one_site import SitePlace
from neuros_mechint.causal.counterfactuals.rotation import PairBatch, Rotation, pair_batches
from neuros_mechint.causal.counterfactuals.shuffled import shuffled_weights
from neuros_mechint.causal.interventions import check_differentiable, measure
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.errors import InputError, OptionError, number, whole
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator, torch_generator


class DistributedAlignmentSearch:
    """Find the subspace of a site that carries one variable, by making interchange interventions come true.

    The subspace is learned by gradient descent on the cross-entropy of the counterfactual answers; the model itself
    is not changed.

    Parameters
    ----------
    site : str
        Name of one site, maybe with an index such as ``"blocks.1.resid_post[position=-1]"`` or ``"hidden[time=9]"``.
    n_dimensions : int
        Dimension of the subspace, at most the number of features of the site.
    read : callable, optional
        ``read(output)`` gives the logits of the answer, ``(n_samples, n_classes)``. By default the model's logits, at
        the last position where they have positions.
    epochs : int
        Passes over the training pairs.
    learning_rate : float
        Of Adam.
    n_starts : int
        Random rotations to start from; the one with the lowest loss is kept.
    batch_size : int, optional
        Pairs per gradient step; all of them by default.
    seed : int or numpy.random.Generator
        Draws the starts and the order of the batches.

    Attributes
    ----------
    basis_ : torch.Tensor of shape (n_dimensions, n_units)
        Orthonormal directions that span the subspace.
    losses_ : numpy.ndarray of shape (epochs,)
        Mean cross-entropy on the training pairs of the start that was kept, in nats.
    intervention_ : InterchangeIntervention
        The swap of that subspace.

    Raises
    ------
    OptionError
        A parameter that is no positive number.

    References
    ----------
    Geiger et al. 2024, Finding alignments between interpretable causal variables and distributed neural
    representations, doi:10.48550/arXiv.2303.02536

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(3, 2)))
    >>> with torch.no_grad():  # the class is the sign of the second unit
    ...     _ = model.module[1].weight.copy_(torch.tensor([[0.0, -1, 0], [0.0, 1, 0]])), model.module[1].bias.zero_()
    >>> base, source = torch.randn(2, 64, 3, generator=torch.Generator().manual_seed(0))
    >>> search = DistributedAlignmentSearch("0", n_dimensions=1).fit(model, base, source, (source[:, 1] > 0).long())
    >>> search.basis_.abs().round(decimals=1)
    tensor([[0., 1., 0.]])
    """

    def __init__(
        self,
        site: str,
        n_dimensions: int,
        *,
        read: Read | None = None,
        epochs: int = 200,
        learning_rate: float = 0.03,
        n_starts: int = 3,
        batch_size: int | None = None,
        seed: SeedLike = 0,
    ) -> None:
        for name, value in (("n_dimensions", n_dimensions), ("epochs", epochs), ("n_starts", n_starts)):
            whole(name, value)
        number("learning_rate", learning_rate, 0, np.inf)
        self.site, self.n_dimensions, self.read = site, n_dimensions, read
        self.epochs, self.learning_rate, self.n_starts = epochs, learning_rate, n_starts
        self.batch_size = batch_size
        self.seed = seed
        self._seed = int(generator(seed).integers(2**31))

    def fit(self, model: Adapter, base: Any, source: Any, counterfactual: Any) -> Self:
        """Learn the subspace.

        Parameters
        ----------
        model : Adapter
            From ``nm.adapt``; it must offer gradients.
        base, source : inputs of the model
            Pairs: sample ``i`` of ``base`` receives the variable from sample ``i`` of ``source``.
        counterfactual : integer array of shape (n_samples,)
            The class that the hypothesis predicts: the answer to ``base`` had the variable its value in ``source``.

        Returns
        -------
        DistributedAlignmentSearch

        Raises
        ------
        InputError
            Inputs that are no pairs, answers that are no classes, more dimensions than the site has.
        SiteError, CapabilityError
        """
        check_differentiable(model)
        answers = Answers.of(counterfactual, self.read)
        own, place = paired_places(model, base, source, self.site, self.batch_size)
        self._check(place, answers)
        pieces = list(pair_batches(model, base, place, answers, self.batch_size))
        random = generator(self._seed)
        starts = [
            self._descend(model, pieces, place, random)
            for _ in progress_bar(range(self.n_starts), description="search alignment", enabled=self.n_starts > 1)
        ]
        basis, losses = min(starts, key=lambda start: start[1][-1])
        self.basis_, self.losses_ = basis, losses
        self.intervention_ = InterchangeIntervention(place.name, basis, self.read)
        self.model_ = model
        self._training = (base, source, counterfactual)
        self._seen_pairs = set(_pair_keys(own, place))
        return self

    def score(self, base: Any, source: Any, counterfactual: Any) -> float:
        """Return the interchange intervention accuracy on pairs that were not used for fitting.

        Parameters
        ----------
        base, source, counterfactual
            As in `fit`, held out.

        Returns
        -------
        float
            Between 0 and 1.
        """
        self._require_fitted()
        return self.intervention_.accuracy(self.model_, base, source, counterfactual, self.batch_size)

    def evaluate(
        self,
        base: Any,
        source: Any,
        counterfactual: Any,
        n_null: int = 20,
        untrained: int | Sequence[Adapter] = 1,
    ) -> InterchangeAccuracy:
        """Compare the accuracy on held-out pairs with that of controls.

        Parameters
        ----------
        base, source, counterfactual
            As in `fit`, held out: at least two pairs.
        n_null : int
            Random subspaces of the same dimension.
        untrained : int or sequence of Adapter
            On how many copies of the model with shuffled weights the search is repeated, or such models of your own.

        Returns
        -------
        InterchangeAccuracy

        Raises
        ------
        InputError, SiteError, CapabilityError, OptionError
        """
        self._require_fitted()
        n_null = whole("n_null", n_null)
        answers = Answers.of(counterfactual, self.read)
        own, place = paired_places(self.model_, base, source, self.site, self.batch_size)
        if len(answers) < 2:
            raise InputError("one pair says nothing about the spread", expected="at least two held-out pairs")
        learned, everything = self.intervention_, replace(self.intervention_, basis=None)
        others = [replace(learned, basis=other) for other in self._random_subspaces(n_null)]
        interventions = [swap.edits(place) for swap in (learned, everything, *others)]
        measured = measure(
            self.model_, base, [*interventions, []], answers.is_right, batch_size=self.batch_size, description="swap"
        )
        right = measured.values.numpy()
        refits = [self._refit_score(model, base, source, counterfactual) for model in self._untrained(untrained)]
        shared = float(np.mean([key in self._seen_pairs for key in _pair_keys(own, place)]))
        arguments = {"site": self.site, "n_dimensions": self.n_dimensions, "epochs": self.epochs}
        arguments |= {"learning_rate": self.learning_rate, "n_starts": self.n_starts, "batch_size": self.batch_size}
        provenance = Provenance.record(seed=self.seed, model=self.model_.fingerprint(), arguments=arguments)
        per_pair = {"learned": right[0], "whole site": right[1], "no intervention": right[-1]}
        attributes = {**arguments, "chance": answers.chance(), "training_loss": float(self.losses_[-1])}
        attributes |= {"pairs_seen_in_training": shared}
        return accuracy_result(per_pair, right[2:-1].mean(1), np.array(refits), attributes, provenance, self._seed)

    # -- learning ------------------------------------------------------------------------------------------------

    def _descend(
        self, model: Adapter, pieces: Sequence[PairBatch], place: SitePlace, random: np.random.Generator
    ) -> tuple[torch.Tensor, np.ndarray]:
        rotation = Rotation(place.n_features(self.site), self.n_dimensions, random).to(place.values.device)
        optimizer = torch.optim.Adam(rotation.parameters(), lr=self.learning_rate)
        losses: list[float] = []
        for _ in range(self.epochs):
            total = 0.0
            for rank in random.permutation(len(pieces)):
                optimizer.zero_grad()
                total += pieces[rank].backward(model, rotation)
                optimizer.step()
            losses.append(total / sum(len(piece.answers) for piece in pieces))
        with torch.no_grad():
            basis = rotation.weight.T.to(place.values.dtype).cpu().clone()
        return basis, np.array(losses)

    def _check(self, place: SitePlace, answers: Answers) -> None:
        n_features = place.n_features(f"the search at {self.site!r}")
        if self.n_dimensions > n_features:
            raise OptionError(
                "the site has fewer dimensions than that",
                expected=f"n_dimensions from 1 to {n_features}",
                got=self.n_dimensions,
            )
        if "sample" not in place.dims or place.values.shape[place.dims.index("sample")] != len(answers):
            raise InputError(
                "there is not one counterfactual answer per pair",
                expected=f"as many as samples at {place.name!r}, {tuple(place.values.shape)}",
                got=len(answers),
            )

    # -- controls ------------------------------------------------------------------------------------------------

    def _random_subspaces(self, count: int) -> list[torch.Tensor]:
        shape = (count, self.basis_.shape[1], self.n_dimensions)
        noise = torch.randn(shape, generator=torch_generator(self._seed + 1), dtype=torch.float64)
        return list(torch.linalg.qr(noise).Q.mT.to(self.basis_.dtype))

    def _untrained(self, untrained: int | Sequence[Adapter]) -> list[Adapter]:
        if not isinstance(untrained, int):
            return list(untrained)
        if isinstance(untrained, bool) or untrained < 0:
            raise OptionError("bad untrained", expected="an integer >= 0, or adapters", got=repr(untrained))
        return [shuffled_weights(self.model_, seed=self._seed + draw) for draw in range(untrained)]

    def _refit_score(self, model: Adapter, base: Any, source: Any, counterfactual: Any) -> float:
        search = DistributedAlignmentSearch(
            self.site,
            self.n_dimensions,
            read=self.read,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            n_starts=self.n_starts,
            batch_size=self.batch_size,
            seed=self._seed,
        )
        return search.fit(model, *self._training).score(base, source, counterfactual)

    def _require_fitted(self) -> None:
        if not hasattr(self, "basis_"):
            raise InputError("the search has not been fitted", fix="call .fit(model, base, source, counterfactual)")


def _pair_keys(base: SitePlace, source: SitePlace) -> list[bytes]:
    """Return what tells pairs apart: both activations at the site."""
    axis = base.dims.index("sample")
    rows = torch.stack([place.values.movedim(axis, 0).flatten(1).float().cpu() for place in (base, source)], 1)
    return [row.numpy().tobytes() for row in rows]
