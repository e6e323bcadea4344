"""What a bundle states and what an evaluation found, as text and HTML."""

from seggd_rt.reports.card import is_card, render_card
from seggd_rt.reports.evaluation_report import MAX_PICTURE_BYTES, MAX_REPORT_BYTES
from seggd_rt.reports.page import Picture, environment

__all__ = ["MAX_PICTURE_BYTES", "MAX_REPORT_BYTES", "Picture", "environment", "is_card", "render_card"]
