"""Noise ceilings: how well a perfect model could do, given how much subjects differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.alignment.rsa.compare import METHODS, check_varied
from neuros_mechint.neuro.alignment.rsa.inference.general import subject_ceilings
from neuros_mechint.neuro.alignment.rsa.stack import rdm_stack

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BOUNDS = ("lower", "upper")
_CITATIONS = ("nili2014",)


class NoiseCeiling(Result):
    """The best score that a model can hope for.

    ``data`` holds ``ceiling`` over ``(bound,)``, lower and upper, and ``subject_ceiling`` over ``(bound, subject)``,
    the similarity of each subject with the mean of the others (lower) and of all (upper).
    """

    @property
    def lower(self) -> float:
        """Mean similarity of each subject with the mean RDM of the others; what an ideal model may fall short of."""
        return float(self.main.sel(bound="lower"))

    @property
    def upper(self) -> float:
        """Mean similarity of each subject with the mean RDM of all, itself included; no model can do better."""
        return float(self.main.sel(bound="upper"))

    def _summary_lines(self) -> list[str]:
        """Return both ceilings in words."""
        about = self.attributes
        return [
            f"{about['n_subjects']} subjects, {about['n_conditions']} conditions, {about['compare']}",
            f"lower {self.lower:.3f}, upper {self.upper:.3f}",
        ]

    def _draw(self, ax: Axes) -> None:
        subjects = self.data["subject"].values
        places = np.arange(subjects.size)
        ax.axhspan(self.lower, self.upper, color=MUTED_INK, alpha=0.22, linewidth=0, label="mean, lower to upper")
        for bound, colour, text in zip(_BOUNDS, PALETTE, ("mean of the others", "mean of all"), strict=False):
            values = self.data["subject_ceiling"].sel(bound=bound).values
            ax.plot(places, values, linestyle="none", marker="o", color=colour, label=f"with the {text}")
        ax.set_xticks(places, [str(name) for name in subjects])
        ax.set_xlabel("subject")
        ax.set_ylabel(str(self.data["subject_ceiling"].attrs["long_name"]))
        ax.set_ylim(min(0.0, ax.get_ylim()[0]), 1.05 * float(self.data["subject_ceiling"].max()))
        ax.set_xlim(-0.6, subjects.size - 0.4)
        ax.grid(axis="y")
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))


def noise_ceiling(rdms: Any, compare: str = "spearman") -> NoiseCeiling:
    """Return the range in which the score of a perfect model lies.

    The upper ceiling is the mean similarity of each subject's RDM with the RDM that is most similar to all of them;
    it holds that subject too, so that it is too high. The lower ceiling leaves the subject out, so that it is too low.
    With many subjects both approach the truth. With two, the lower ceiling is the similarity of the two.

    Parameters
    ----------
    rdms : array_like, torch.Tensor, xarray.DataArray or rsatoolbox RDMs
        One RDM for each subject, ``(n_subjects, n, n)`` or ``(n_subjects, n_pairs)``.
    compare : {"spearman", "corr", "cosine", "tau-a", "rho-a", "corr_cov", "cosine_cov"}
        As in `compare_rdms`. For Kendall's tau and the whitened measures the RDM that is most similar to all is
        approximated, by mean ranks and by the mean of standardised RDMs, so that the upper ceiling is a little low.

    Returns
    -------
    NoiseCeiling
        With ``.lower`` and ``.upper``.

    Raises
    ------
    InputError
        One subject, a subject whose RDM is constant, pairs that are missing, fewer than three conditions, or what is
        no RDM.
    OptionError
        Unknown measure.

    References
    ----------
    Nili et al. 2014, A Toolbox for Representational Similarity Analysis, doi:10.1371/journal.pcbi.1003553

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> ceiling = nm.noise_ceiling([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]], compare="corr")
    >>> round(ceiling.lower, 3), round(ceiling.upper, 3)
    (0.5, 0.866)
    """
    check_option("compare", compare, METHODS)
    stack = rdm_stack(rdms, "rdms")
    if len(stack) < 2:
        raise InputError(
            "one subject has no noise ceiling",
            expected="RDMs of at least two subjects",
            got=f"{len(stack)} RDM",
            fix="give one RDM for each subject, not their mean; for the reliability of one subject see split_half",
        )
    check_varied(stack.pairs, compare, "rdms")
    found = subject_ceilings(stack.pairs, compare)
    names = list(stack.names) if stack.names is not None else [str(number) for number in range(len(stack))]
    label = f"similarity, {compare}"
    data = xr.Dataset(
        {
            "ceiling": ("bound", found.mean(1), {"long_name": f"noise ceiling, {compare}"}),
            "subject_ceiling": (("bound", "subject"), found, {"long_name": label}),
        },
        {"bound": list(_BOUNDS), "subject": names},
    )
    return NoiseCeiling(
        data,
        "Noise ceiling of RDMs",
        attributes={"compare": compare, "n_subjects": len(stack), "n_conditions": stack.n_conditions},
        provenance=Provenance.record(arguments={"rdms": stack.pairs, "compare": compare}),
        citations=_CITATIONS,
    )
