"""The conformance kit: what every adapter must do, checked on a model of yours in one call."""

from neuros_mechint.adapters.conformance.kit import check_adapter
from neuros_mechint.adapters.conformance.report import ConformanceReport, Outcome

__all__ = ["ConformanceReport", "Outcome", "check_adapter"]
