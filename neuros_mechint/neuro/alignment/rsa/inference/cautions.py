"""What the reader of an evaluation must know before believing it."""

from __future__ import annotations

from collections.abc import Iterator

from neuros_mechint.core.statistics.p_values import SIGNIFICANT
from neuros_mechint.core.statistics.sign_flips import smallest_sign_flip_p
from neuros_mechint.neuro.alignment.rsa.inference.permutation import n_permutations
from neuros_mechint.neuro.alignment.rsa.stack import RDMStack

_MANY_LOST = 0.1


def _too_small(inference: str, over: str, n_subjects: int, n_conditions: int, n_resamples: int) -> Iterator[str]:
    if inference != "permutation":
        return
    if over != "conditions":
        smallest = smallest_sign_flip_p(n_subjects, n_resamples)
        if smallest > SIGNIFICANT:
            yield (
                f"{n_subjects} subjects that change their sign give p of at least {smallest:.2g}, "
                "so that nothing can be found: ask over='conditions', or measure at least 6 subjects"
            )
    if over != "subjects" and 1 / n_permutations(n_conditions, n_resamples) > SIGNIFICANT:
        smallest = 1 / n_permutations(n_conditions, n_resamples)
        yield f"{n_conditions} conditions have few permutations: p is at least {smallest:.2g}, and nothing can be found"


def cautions(
    inference: str, over: str, compare: str, n_resamples: int, n_degenerate: int, data: RDMStack
) -> tuple[str, ...]:
    """Return what to warn of: tests that are wrong too often in this setting, or that cannot find anything."""
    n_subjects, unbiased = len(data), bool((data.pairs < 0).any())  # those of crossnobis may be negative
    found = [*_too_small(inference, over, n_subjects, data.n_conditions, n_resamples)]
    if inference != "permutation" and compare in ("cosine", "cosine_cov") and not unbiased:
        found.append(
            f"{compare} of dissimilarities that are never negative is far above zero by chance: p against zero means "
            "nothing; compare models with each other, use 'corr', or inference='permutation', over='conditions'"
        )
    if n_subjects == 1:
        found.append("one subject: no noise ceiling, and nothing is known about other subjects")
    lost = n_degenerate / n_resamples
    if lost > _MANY_LOST:
        found.append(
            f"{lost:.0%} of the resamples were degenerate (fewer than three different conditions, or an RDM that is "
            "constant among those drawn): intervals are those of the others; more conditions, or over='subjects'"
        )
    return tuple(found)
