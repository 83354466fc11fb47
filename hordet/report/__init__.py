"""One page on a run, or on several beside one another: `write_report`."""

from hordet.report.page import write_report
from hordet.report.run_folder import ReportError

__all__ = ["ReportError", "write_report"]
