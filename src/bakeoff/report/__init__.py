"""The report of a sweep, from the tracking store alone: the verdict, a page, and tables."""

from bakeoff.report.assembly import Report, build, figure, show

__all__ = ["Report", "build", "figure", "show"]
