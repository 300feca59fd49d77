"""The report: results, figures, tables and words in one self-contained HTML page."""

from neuros_mechint.report.report import Report, Section

__all__ = ["Report", "Section"]
