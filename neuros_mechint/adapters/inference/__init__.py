"""Canonical sites of unmodified torch modules, proven by identities."""

from neuros_mechint.adapters.inference.infer import infer_sites
from neuros_mechint.adapters.inference.probe import probe_inputs
from neuros_mechint.adapters.inference.site_map import SiteMap

__all__ = ["SiteMap", "infer_sites", "probe_inputs"]
