"""The report of a sweep, from the tracking store alone: the verdict, a page, and tables."""

from bakeoff.report.builder import Report, build_report, export_figure, render_terminal

__all__ = ["Report", "build_report", "export_figure", "render_terminal"]
