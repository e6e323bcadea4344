"""What was measured, as a record, tables, plots, pictures and a page."""

from seggd_training.evaluation.report.earlier import Settings, earlier_report, require_same, settings_of
from seggd_training.evaluation.report.kept import keep_images, kept_images, kept_or_drawn
from seggd_training.evaluation.report.record import (
    SCHEMA,
    BundleRecord,
    DataRecord,
    GenerationRecord,
    Report,
    SegmenterRecord,
    parse_report,
)
from seggd_training.evaluation.report.sheet import render_closest, render_interpolation, render_sheet, spread_cases
from seggd_training.evaluation.report.tabulation import TextTable, cost_table, for_terminal, markdown, tables
from seggd_training.evaluation.report.written import check_files, write_report

__all__ = [
    "SCHEMA",
    "BundleRecord",
    "DataRecord",
    "GenerationRecord",
    "Report",
    "SegmenterRecord",
    "Settings",
    "TextTable",
    "check_files",
    "cost_table",
    "earlier_report",
    "for_terminal",
    "keep_images",
    "kept_images",
    "kept_or_drawn",
    "markdown",
    "parse_report",
    "render_closest",
    "render_interpolation",
    "render_sheet",
    "require_same",
    "settings_of",
    "spread_cases",
    "tables",
    "write_report",
]
