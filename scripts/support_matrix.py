"""Write adapters/SUPPORT.md, what each kind of model offers; ``--check`` fails where it is out of date."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _generated import write_or_check

ROOT = Path(__file__).resolve().parents[1]
SUPPORT = ROOT / "adapters" / "SUPPORT.md"
CAPABILITIES = ("capture", "intervene", "gradient", "generate", "step", "time")


def rows() -> Iterator[tuple[str, Any, Any]]:
    """Yield a name, an adapter and inputs for every kind of model in the conformance tests and every architecture."""
    import neuros_mechint as nm
    from tests.conformance.architectures import ARCHITECTURES
    from tests.conformance.cases import CASES

    for name, case in CASES.items():
        if not name.startswith("HuggingFace"):
            adapter, _, inputs = case.make()
            yield name, adapter, inputs
    for name, architecture in ARCHITECTURES.items():
        if architecture.is_huggingface:
            model, inputs = architecture.build()
            yield f"HuggingFace {name}", nm.adapt(model), inputs


def row(name: str, adapter: Any, inputs: Any) -> str:
    """Return one line of the table; the sites are listed after a run, which some adapters name them on."""
    adapter.capture(inputs, "*")
    table = adapter.sites()
    proven = [site for site in table.values() if site.check]
    marks = ["yes" if capability in adapter.capabilities else "-" for capability in CAPABILITIES]
    names = f"{len(proven)} named" if proven else "module paths"
    withheld = sorted({_kind(site) for site in table.withheld} - {"*"})
    return f"| {' | '.join([name, *marks, names, ', '.join(withheld) or '-'])} |"


def _kind(site: str) -> str:
    """Return a site's name without the number of its block: ``decoder.blocks.1.q`` is ``decoder q``."""
    start, _, end = site.rpartition(".")
    return f"{start.split('.')[0]} {end}" if start.startswith(("encoder", "decoder")) else end


def support_page() -> str:
    """Return the text of SUPPORT.md."""
    lines = [
        "# What each kind of model offers",
        "",
        "Written by `scripts/support_matrix.py`, which builds a tiny model of each kind; do not edit. Every kind down",
        "to the plug-in passes the conformance kit (`tests/conformance/test_adapters.py`); the sites of the",
        "architectures below it are compared with ground truths (`tests/conformance/test_site_inference.py`).",
        "",
        "*Sites*: how many are named and proven by an identity (two blocks each); module paths work on every torch",
        "model. *Not offered*: names that this architecture does not have, or for which the identity fails;",
        "`model.sites().withheld` gives the reason for each.",
        "",
        f"| model | {' | '.join(CAPABILITIES)} | sites | not offered |",
        "|---" * (len(CAPABILITIES) + 3) + "|",
    ]
    return "\n".join([*lines, *(row(*one) for one in rows())]) + "\n"


def main() -> int:
    """Write or check SUPPORT.md."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.path.insert(0, str(ROOT))
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    return write_or_check(SUPPORT, support_page, __doc__)


if __name__ == "__main__":
    sys.exit(main())
