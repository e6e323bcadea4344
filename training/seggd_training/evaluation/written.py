"""A report's files: `report.json`, `report.html`, and its plots as PNG."""

from __future__ import annotations

from pathlib import Path

from seggd_rt.atomic import write_file
from seggd_rt.evaluation_report import MAX_PICTURE_BYTES
from seggd_rt.limits import read_file
from seggd_rt.page import Picture
from seggd_training.evaluation.page import render_page
from seggd_training.evaluation.plots import plots
from seggd_training.evaluation.record import Report

_SHEETS = {
    "faithfulness": ("sheet.png", "masks, generated and real images, and what the segmenter finds in them"),
    "interpolation": ("sheet-interpolation.png", "images between a generation and the mask's own real image"),
    "memorisation": ("sheet-memorisation.png", "images nearest to a training image, that image, the difference"),
}


def write_report(report: Report, folder: Path) -> None:
    """Write everything that follows from a report; the page also shows the sheets that lie in the folder.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    drawn = plots(report)
    for part, png in drawn.items():
        write_file(folder / f"plot-{part}.png", png)
    pictures = [Picture(part, f"plot of {part}", png) for part, png in drawn.items()]
    for part, (name, alt) in _SHEETS.items():
        if part in drawn and (folder / name).is_file():
            pictures.append(Picture(part, alt, read_file(folder / name, MAX_PICTURE_BYTES)))
    write_file(folder / "report.html", render_page(report, tuple(pictures)))
    write_file(folder / "report.json", report.to_json())
