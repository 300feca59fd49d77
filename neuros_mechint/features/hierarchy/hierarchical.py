"""HierarchicalSAE: a Matryoshka autoencoder, whose features stand in order from general to special."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch

from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.features.hierarchy.edges import check_widths, count_coactivity, feature_tree
from neuros_mechint.features.hierarchy.tree import FeatureTree
from neuros_mechint.features.observations import row_batches
from neuros_mechint.features.sparse_autoencoder import TRAINING_SETTINGS, SparseAutoencoder


class HierarchicalSAE(SparseAutoencoder):
    """A Matryoshka autoencoder with the tree of its features.

    Each prefix of the features must reconstruct the activations on its own, so that the first ones are general and
    stay active where a special case of theirs is (Bussmann et al. 2025). `tree` says which is a special case of which.

    Parameters
    ----------
    widths : sequence of int
        Features of each nested prefix, the narrowest first; the last is the number of features. A prefix needs room
        for more features than there are general concepts: see the method card.
    k : float, optional
        Features active in an observation, on average; by default an eighth of them, at most 32. More than there are
        in the data split concepts up, and the tree is then one of the pieces.
    **training
        As for `SparseAutoencoder`.

    Raises
    ------
    InputError
        Fewer than two widths, or widths that do not increase.

    References
    ----------
    Bussmann et al. 2025, Learning Multi-Level Features with Matryoshka Sparse Autoencoders,
    doi:10.48550/arXiv.2503.17547

    Examples
    --------
    >>> x = torch.randn(2048, 8, generator=torch.Generator().manual_seed(0))
    >>> sae = HierarchicalSAE(widths=[4, 16], k=2, epochs=1, batch_size=256, progress=False).fit(x)
    >>> sae.tree(x).to_networkx().is_directed()
    True
    """

    def __init__(self, widths: Sequence[int], *, k: float | None = None, **training: Any) -> None:
        widths = check_widths(widths)
        for name in training:
            check_option("training setting", name, TRAINING_SETTINGS)
        super().__init__(widths[-1], "matryoshka", k=k, widths=widths, **training)

    @classmethod
    def _blank(cls, n_features: int, widths: Sequence[int] | None) -> Self:
        if widths is None:
            raise InputError(
                "this autoencoder has no nested widths", expected="one trained and saved as a HierarchicalSAE",
                fix="SparseAutoencoder.load opens any",
            )  # fmt: skip
        return cls(widths)

    def tree(
        self,
        x: Any,
        site: str | None = None,
        *,
        minimum: float = 0.8,
        alpha: float = 0.05,
        correction: str = "holm",
        minimum_active: int = 10,
    ) -> FeatureTree:
        """Return which feature of an earlier prefix each feature of a later one is a special case of.

        Parent -> child where P(parent active | child active) is at least ``minimum`` and larger than when the child's
        activations are shuffled over the observations, with p below ``alpha`` after correction for all pairs. Of
        several such parents, the one whose probability exceeds the shuffled one most.

        Parameters
        ----------
        x : array of shape (n_observations, n_inputs), Activations or ActivationStore
            Activations to count on, better not those it was fitted on. Observations should be independent.
        site : str, optional
            Which site of Activations or a store; without it, the one it was fitted on.
        minimum : float
            Least P(parent active | child active) of an edge.
        alpha : float
            Largest p of an edge, after correction.
        correction : {"holm", "fdr", "none"}
            See `neuros_mechint.core.statistics.p_values.adjust_p`.
        minimum_active : int
            Features active in fewer observations are not tested.

        Returns
        -------
        FeatureTree
            With ``edges()``, ``to_networkx()`` and ``plot()``.

        Raises
        ------
        InputError
            Not fitted, or activations of another width, or not finite.
        OptionError
            An option out of its range.

        Examples
        --------
        >>> from neuros_mechint.core.errors import InputError, check_option
        >>> try:
        ...     HierarchicalSAE(widths=[4, 16], k=2).tree(torch.zeros(20, 8))
        ... except InputError as error:
        ...     print("refused")
        refused
        """
        widths = check_widths(self.widths or ())
        site = site or self.site
        options = {"minimum": minimum, "alpha": alpha, "correction": correction, "minimum_active": minimum_active}
        return feature_tree(
            count_coactivity(self._codes(x, site), widths),
            widths,
            **options,
            attributes={"site": site},
            provenance=Provenance.record(
                model=self.model_fingerprint, arguments={"x": x, "sae": self.fingerprint(), **options}
            ),
        )

    @torch.no_grad()
    def _codes(self, x: Any, site: str | None) -> Iterator[torch.Tensor]:
        for rows in row_batches(x, site):
            yield self.encode(rows)
