"""`report.html`: a report's tables, plots and sheets as one page that needs no other file and no network."""

from __future__ import annotations

from dataclasses import dataclass

from seggd_rt.reports import Picture, environment
from seggd_training.evaluation.report.record import Report
from seggd_training.evaluation.report.tabulation import TextTable, tables

PARTS = {
    "faithfulness": "Do images follow their masks?",
    "realism": "Do they look real?",
    "ablation": "May classes be left out?",
    "interpolation": "Can the similarity to a real image be dialled?",
    "memorisation": "Are they copies of training images?",
    "use": "What are synthetic pairs good for?",
    "cost": "What do fewer steps cost?",
}


@dataclass(frozen=True)
class _Section:
    part: str
    title: str
    tables: tuple[TextTable, ...]
    pictures: tuple[Picture, ...]
    commands: tuple[str, ...]


def render_page(report: Report, pictures: tuple[Picture, ...]) -> bytes:
    """Return the page, UTF-8."""
    every = tables(report)
    sections = [
        _Section(
            part,
            title,
            tuple(table for table in every if table.part == part),
            tuple(picture for picture in pictures if picture.part == part),
            report.commands.get(part, ()),
        )
        for part, title in PARTS.items()
    ]
    templates = environment("seggd_training.evaluation.report", extra="eval", feature="an evaluation's page")
    page = templates.get_template("page.html.j2").render(
        report=report, sections=[section for section in sections if section.tables], provenance=_provenance(report)
    )
    return page.encode()


def _provenance(report: Report) -> tuple[tuple[str, str], ...]:
    segmenter = report.segmenter
    return (
        ("bundle", f"{report.bundle.name}, SHA-256 {report.bundle.sha256}"),
        ("data", f"{report.data.name}, SHA-256 of its arrays {report.data.content_sha256}"),
        (
            "segmenter",
            f"{segmenter.parameters / 1e6:.2f} M parameters, {segmenter.config.steps} steps, {segmenter.source}, "
            f"SHA-256 {segmenter.sha256}",
        ),
        ("versions", ", ".join(f"{package} {version}" for package, version in report.versions.items())),
    )
