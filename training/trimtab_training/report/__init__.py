"""An evaluation as one HTML file that needs nothing else: the proof, for whoever decides."""

from trimtab_training.report.page import require_packages, write_report

__all__ = ["require_packages", "write_report"]
