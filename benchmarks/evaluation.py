"""Figures of `seggd-rt evaluate` as tables in `docs/results.md`.

    python -m benchmarks.evaluation

reads the reports in examples/cardiac/evaluation and benchmarks/results/evaluation-*.json. What lies between the two
marks of the page is replaced; the rest of it is written by hand. Running it again changes nothing.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.gpu.machine.checkout import ROOT
from benchmarks.marked_page import replace_measured
from seggd_rt.errors import DataError, SeggdError
from seggd_training.evaluation.measures import Estimate
from seggd_training.evaluation.report import Report, TextTable, cost_table, markdown, parse_report, tables

SCRIPT = "benchmarks/evaluation.py"
PAGE = ROOT / "docs" / "results.md"
DEMO = ROOT / "examples" / "cardiac" / "evaluation"
RESULTS = ROOT / "benchmarks" / "results"
_PLOTS = {
    "faithfulness": "Dice by class",
    "ablation": "Dice by size of subset",
    "interpolation": "Similarity and Dice by weight",
    "memorisation": "Distance to the nearest training image",
    "use": "Dice of segmenters by what they were trained on",
    "cost": "Quality against time",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evaluation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write into")
    options = parser.parse_args(arguments)
    try:
        write_page(options.page, DEMO, RESULTS)
    except SeggdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def write_page(page: Path, demo: Path, results: Path) -> None:
    """Replace what the page says was measured.

    Parameters
    ----------
    page
        Has the marks.
    demo
        The folder of the demo model's evaluation.
    results
        The folder of the others.

    Raises
    ------
    DataError
        A report is missing or cannot be read, or the page lacks the marks.
    OutputError
        The page cannot be written.
    """
    encodings = [read_report(path) for path in sorted(results.glob("evaluation-encoding-*.json"))]
    many = [read_report(path) for path in sorted(results.glob("evaluation-masks-*.json"))]
    use, ddpm = (sorted(results.glob(f"evaluation-{part}.json")) for part in ("use", "ddpm"))
    sections = [
        demo_section(read_report(demo / "report.json"), demo, page.parent),
        *(use_section(read_report(path), path.with_suffix(".png"), page.parent) for path in use),
        *(
            cost_section(
                report,
                f"Samplers on {report.data.images} masks",
                "The validation masks, and the same turned by 10 degrees with their images "
                "(`examples/cardiac/more_masks.py`): more masks, but no more patients, over whom the intervals are.",
            )
            for report in many
        ),
        *(
            cost_section(
                read_report(path),
                "DDPM",
                "On another machine, on masks spread evenly over the others': all of its steps take twenty times as "
                "long as the base.",
            )
            for path in ddpm
        ),
        *([encodings_section(encodings)] if encodings else []),
    ]
    replace_measured(page, SCRIPT, "\n\n".join(sections))


def read_report(path: Path) -> Report:
    """Read a report.

    Raises
    ------
    DataError
        It is missing or none.
    """
    try:
        return parse_report(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no report of `seggd-rt evaluate`: {error}") from error


def demo_section(report: Report, folder: Path, docs: Path) -> str:
    """Return everything that was measured of the demo model."""
    parts = ["## The demo model, part by part", _subject(report)]
    for part, of_part in itertools.groupby(tables(report), key=lambda table: table.part):
        for table in of_part:
            parts += _table(table)
        picture = folder / f"plot-{part}.png"
        if picture.is_file():
            parts.append(f"![{_PLOTS[part]}]({Path(os.path.relpath(picture, docs)).as_posix()})")
        parts += _commands(report, part)
    return "\n\n".join(parts)


def use_section(report: Report, plot: Path, docs: Path) -> str:
    """Return what segmenters make of real images that were trained on real pairs, synthetic ones, and both."""
    found = [table for table in tables(report) if table.part == "use"]
    if not found:
        raise DataError(f"the report of {report.data.name} has no segmenters: evaluate it with --use")
    return "\n\n".join(
        [
            "## Segmenters trained on synthetic pairs",
            _subject(report),
            *(line for table in found for line in _table(table)),
            f"![{_PLOTS['use']}]({Path(os.path.relpath(plot, docs)).as_posix()})",
            *_commands(report, "use"),
        ]
    )


def cost_section(report: Report, title: str, about: str) -> str:
    """Return samplers and steps of a report that has nothing else of interest."""
    if report.cost is None:
        raise DataError(f"the report of {report.data.name} has no costs: evaluate it with --cost")
    return "\n\n".join(
        [
            f"## {title}",
            about,
            _subject(report),
            *_table(cost_table(report.cost)),
            *_commands(report, "cost"),
        ]
    )


def encodings_section(reports: Sequence[Report]) -> str:
    """Return networks of one budget of training that differ in how masks are encoded, and in ablation."""
    first = reports[0]
    for report in reports:
        settings = [
            (r.data.content_sha256, r.segmenter.sha256, r.generation.steps, r.generation.seed) for r in (first, report)
        ]
        if settings[0] != settings[1] or not report.ablation:
            raise DataError(
                f"{report.bundle.name} and {first.bundle.name} must be evaluated on the same data, with one segmenter, "
                "the same steps and seed, and with --ablation"
            )
    sizes = range(1, len(first.generated.classes))
    headings = (
        "mask encoding", "trained with ablation", "Dice", "Frechet distance",
        *(f"{size} given, Dice" for size in sizes), *(f"{size} given, the others" for size in sizes),
    )  # fmt: skip
    rows = []
    for report in reports:
        by_size = {row.size: row for row in report.ablation}
        rows.append(
            (
                report.bundle.mask_encoding,
                {True: "yes", False: "no", None: "-"}[report.bundle.trained_with_ablation],
                str(report.generated.dice),
                "-" if report.realism is None else str(report.realism.frechet.generated),
                *(_text(by_size[size].given) for size in sizes),
                *(_text(by_size[size].others) for size in sizes),
            )
        )
    real = reports[0].real.dice
    table = TextTable("encodings", "", headings, tuple(rows))
    return "\n\n".join(
        [
            "## Encodings of the mask",
            _subject(reports[0]),
            markdown(table),
            f"The segmenter reaches {real} on the real images of the same masks.",
            *(line for report in reports for line in _commands(report, "ablation")),
        ]
    )


def _commands(report: Report, part: str) -> list[str]:
    return [f"    {command}" for command in report.commands[part]]


def _subject(report: Report) -> str:
    generation, data = report.generation, report.data
    return (
        f"`{report.bundle.name}` at {data.height}x{data.width} on {data.images} masks of {data.patients} patients of "
        f"{data.name} ({data.split}); {generation.sampler}, {generation.steps} steps, {generation.engine.engine} "
        f"{generation.engine.version} in {generation.engine.precision} on {generation.engine.device_name}; seed "
        f"{generation.seed}."
    )


def _table(table: TextTable) -> list[str]:
    return [f"### {table.title}", markdown(table), *([table.caption] if table.caption else [])]


def _text(estimate: Estimate | None) -> str:
    return "-" if estimate is None else str(estimate)


if __name__ == "__main__":
    sys.exit(main())
