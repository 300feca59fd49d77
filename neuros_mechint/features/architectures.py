"""Names of SAE architectures, and the SAELens training configuration that each stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neuros_mechint.core.errors import InputError, OptionError, check_option, number, whole

# Which arguments an architecture takes, and what SAELens calls them.
ARGUMENTS: dict[str, dict[str, str]] = {
    "standard": {"sparsity": "l1_coefficient"},
    "topk": {"k": "k"},
    "batchtopk": {"k": "k"},
    "jumprelu": {"sparsity": "l0_coefficient"},
    "gated": {"sparsity": "l1_coefficient"},
    "matching_pursuit": {"k": "max_iterations"},
    "matryoshka": {"k": "k", "widths": "matryoshka_widths"},
}
ARGUMENT_NAMES = ("architecture", "k", "sparsity", "widths")
SAE_LENS_NAMES = {"matryoshka": "matryoshka_batchtopk"}
SAVED_AS_JUMPRELU = ("batchtopk", "matryoshka")


def check_arguments(
    architecture: str, n_features: int, k: float | None, sparsity: float | None, widths: Sequence[int] | None
) -> dict[str, Any]:
    """Return the arguments of an architecture under SAELens's names.

    Raises
    ------
    OptionError
        An unknown architecture, or an argument that it does not use.
    InputError
        A value out of range.

    Examples
    --------
    >>> check_arguments("gated", 64, None, 0.5, None)
    {'l1_coefficient': 0.5}
    """
    check_option("architecture", architecture, list(ARGUMENTS))
    used = ARGUMENTS[architecture]
    given: dict[str, Any] = {"k": k, "sparsity": sparsity, "widths": widths}
    for name, value in given.items():
        if value is not None and name not in used:
            raise OptionError(
                f"architecture {architecture!r} does not use {name}",
                expected="only " + ", ".join(used),
                got=f"{name}={value!r}",
                fix=f"leave {name} out",
            )
    defaults = {"k": max(1, min(32, n_features // 8)), "sparsity": 1.0}
    values: dict[str, Any] = {name: defaults.get(name) if given[name] is None else given[name] for name in used}
    if "k" in values:
        values["k"] = _checked_k(architecture, n_features, values["k"])
    if "sparsity" in values:
        values["sparsity"] = number("sparsity", values["sparsity"], 0, 1e38, closed="both")
    if "widths" in values:
        values["widths"] = _checked_widths(n_features, values["widths"])
    return {used[name]: value for name, value in values.items()}


def _checked_k(architecture: str, n_features: int, k: Any) -> float:
    k = number("k", k, 0, n_features)
    if architecture not in ("topk", "matching_pursuit"):
        return k
    if k != int(k):
        raise InputError("k is out of range", expected=f"a whole number for {architecture}", got=k)
    return int(k)


def _checked_widths(n_features: int, widths: Any) -> list[int]:
    try:
        found = [whole("widths", width) for width in widths]
    except TypeError:
        found = []
    if len(found) < 2 or sorted(set(found)) != found or found[-1] != n_features:
        raise InputError(
            "widths do not fit",
            expected=f"two or more increasing integers that end with n_features={n_features}",
            got=repr(widths)[:80],
        )
    return found


def training_sae(architecture: str, n_inputs: int, n_features: int, arguments: dict[str, Any]) -> Any:
    """Return a new SAELens training SAE; its weights are drawn from torch's global generator."""
    from sae_lens.registry import get_sae_training_class

    sae_class, config_class = get_sae_training_class(SAE_LENS_NAMES.get(architecture, architecture))
    config: Any = config_class
    if architecture == "matching_pursuit":
        arguments = {"decoder_init_norm": 1.0, **arguments}  # the only one it takes; SAELens warns of its own default
    return sae_class(
        config(d_in=n_inputs, d_sae=n_features, normalize_activations="expected_average_only_in", **arguments)
    )
