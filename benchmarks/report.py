"""Figures from GPU hosts as tables and a plot in `docs/performance.md`.

    python -m benchmarks.report                 every benchmarks/results/*.json that benchmarks.gpu wrote

What lies between the two marks of the page is replaced; the rest of it is written by hand. Running it again changes
nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.gpu.machine.checkout import ROOT
from benchmarks.gpu.machine.floor import floor_of
from benchmarks.gpu.record import Record, is_bad, read_document
from benchmarks.gpu.results import (
    SCHEMA,
    Absent,
    Document,
    Failed,
    Group,
    Profile,
    Rate,
    Sanitized,
    Suite,
    Timed,
    Trained,
)
from benchmarks.marked_page import replace_measured
from benchmarks.report_plot import plot
from benchmarks.report_targets import COMPILED, targets
from seggd_rt.diffusion import Precision
from seggd_rt.errors import SeggdError
from seggd_rt.files import decode

PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"
SCRIPT = "benchmarks/report.py"
NOTHING = """\
**Nothing has been run on a GPU yet.** No figure of this page was measured on one. The session, its kernels and the
sampling loop have run on a CPU alone, on emulated streams and by NVIDIA's own cuda.core above an emulated driver, which
proves their arithmetic and that their calls are ones that cuda.core takes, and says nothing of speed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.json", help="figures; all results by default")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write into")
    options = parser.parse_args(arguments)
    try:
        records = [Record(path) for path in options.files or files_of_figures(RESULTS)]
        write_page(options.page, records)
    except SeggdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def files_of_figures(folder: Path) -> list[Path]:
    """Return the files of a folder that benchmarks.gpu wrote, by name."""
    found = []
    for path in sorted(folder.glob("*.json")):
        content = decode(path.read_bytes())
        if isinstance(content, dict) and str(content.get("schema", "")).partition("/")[0] == SCHEMA.partition("/")[0]:
            read_document(path)
            found.append(path)
    return found


def write_page(page: Path, records: Sequence[Record]) -> None:
    """Replace what the page says was measured, and its plots.

    Raises
    ------
    DataError
        The page lacks the marks.
    OutputError
        It cannot be written.
    """
    sections = [section(record, page.parent) for record in records if record.document.measurements]
    replace_measured(page, SCRIPT, "\n\n".join(sections) if sections else NOTHING)


def section(record: Record, folder: Path) -> str:
    """Return what one file says, as Markdown; its plot is written below `folder`."""
    document, name = record.document, record.path.stem
    host = document.runs[-1].host
    commits = sorted({run.host.commit[:10] + (" and changes" if run.host.changed else "") for run in document.runs})
    versions = ", ".join(f"{package} {version}" for package, version in host.versions.items())
    parts = [
        f"### {host.device} ({name})",
        f"Compute capability {host.compute_capability}, {host.memory_mib / 1024:.0f} GiB, driver {host.driver}; "
        f"{host.cpu}, {host.cores} cores. {versions}. Commit {', '.join(commits)}; {len(document.runs)} runs, the "
        f"latest {document.runs[-1].started[:10]}.",
        *_when("Targets", targets(record)),
        *_when("Rates", _rates(document)),
        *(line for group in groups(document) for line in _latency(record, group)),
    ]
    picture = folder / "images" / f"performance-{name}.png"
    if plot(record, picture):
        parts.append(f"![A step of each contender, over the floor](images/{picture.name})")
    parts += [
        *_when("Tests and sanitizer", _checks(document)),
        *_when("Where a step's time goes", _profiles(document)),
        *_when("The demo model, trained there", _trained(document)),
        *_when("What failed", _failures(document)),
    ]
    return "\n\n".join(parts)


def groups(document: Document) -> list[tuple[str, Group]]:
    """Return the groups of contenders that were measured together, by name."""
    return [(m.name, m.result) for m in document.measurements if isinstance(m.result, Group)]


def timed_of(record: Record, name: str, group: Group) -> dict[str, Timed]:
    """Return the figures of a group's contenders, then of those that were measured in it another time."""
    found = {contender: record.find("latency", f"{name}/{contender}") for contender in group.contenders}
    for m in record.document.measurements:
        if m.part == "latency" and m.name.startswith(f"{name}/"):
            found.setdefault(m.name.removeprefix(f"{name}/"), m.result)
    return {contender: timed for contender, timed in found.items() if isinstance(timed, Timed)}


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is left, the others right."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _when(title: str, text: str) -> list[str]:
    return [f"#### {title}", text] if text else []


def _rates(document: Document) -> str:
    rates = [m.result for m in document.measurements if isinstance(m.result, Rate)]
    scale = {"FLOP": (1e12, "TFLOP/s"), "byte": (1e12, "TB/s")}
    rows = [(rate.of, f"{rate.per_second / scale[rate.unit][0]:.2f} {scale[rate.unit][1]}") for rate in rates]
    return table(("measured in the run", "rate"), rows) if rows else ""


def _latency(record: Record, named: tuple[str, Group]) -> list[str]:
    name, group = named
    timed = timed_of(record, name, group)
    if not timed:
        return []
    floor = floor_of(record, group.subject, Precision(group.precision), group.batch)
    compiled = timed.get(COMPILED)
    counts = [image.steps for image in next(iter(timed.values())).images]
    headings = [
        "contender", "step, ms", "x compiled", "x floor",
        *(f"{count} steps, ms" for count in counts), "images/s", "on the device, ms", "host, ms", "memory, MiB",
        "peak, MiB", "first image, s", "PSNR, dB",
    ]  # fmt: skip
    rows = []
    for contender, found in timed.items():
        first = found.images[0]
        together = contender in group.contenders and COMPILED in group.contenders
        rows.append(
            [
                f"{contender} {found.precision}{'' if contender in group.contenders else ' (another time)'}",
                _number(found.step.p50_ms),
                _number(compiled.step.p50_ms / found.step.p50_ms) if compiled and together else "",
                _number(found.step.p50_ms / floor.ms) if floor else "",
                *(_number(image.image.p50_ms) for image in found.images),
                _number(found.images_per_second),
                _number(first.device.p50_ms) if first.device else "",
                _number(first.host.p50_ms) if first.host else "",
                f"{found.memory_mib:,.0f}",
                "" if found.peak_mib is None else f"{found.peak_mib:,.0f}",
                _number(found.make_s + found.first_s),
                _psnr(found, group),
            ]
        )
    lines = [
        f"#### {name}",
        table(headings, rows),
        f"{_how(group)}; {floor or 'no floor was measured'}. {_weights(group)}".rstrip(),
    ]
    notes = [f"{contender}: {', '.join(found.notes)}" for contender, found in timed.items() if found.notes]
    lines += ["; ".join(notes)] if notes else []
    if group.absent:
        lines.append("Not measured: " + "; ".join(f"{engine}: {reason}" for engine, reason in group.absent.items()))
    return lines


def _how(group: Group) -> str:
    turns = f"{group.rounds} rounds, in turn, medians" if group.rounds else "One turn each"
    cut = "" if group.finished else "; the run ended before the group did"
    return turns + cut + (f"; the GPU: {group.state}" if group.state else "")


def _weights(group: Group) -> str:
    return "" if group.trained else "Random weights: images amplify rounding, and their PSNR says little."


def _psnr(timed: Timed, group: Group) -> str:
    if timed.psnr_db is not None:
        return f"{timed.psnr_db:.1f}"
    return "equal" if group.batch == 1 else ""


def _checks(document: Document) -> str:
    rows = []
    for m in document.measurements:
        if m.part not in ("suites", "sanitizer"):
            continue
        match m.result:
            case Suite():
                why = "; ".join(f"{count} skipped: {reason}" for reason, count in m.result.skips.items())
                found = f"{m.result.passed} passed, {m.result.failed} failed, {m.result.skipped} skipped"
                rows.append((m.name, found, _cell("; ".join([*m.result.failures, *([why] if why else [])]))))
            case Sanitized():
                rows.append((f"compute-sanitizer {m.name}", f"{m.result.errors} errors", ""))
            case Absent():
                rows.append((m.name, "not run", _cell(m.result.reason)))
            case _:
                pass
    return table(("what", "outcome", "remarks"), rows) if rows else ""


def _profiles(document: Document) -> str:
    parts = []
    for m in document.measurements:
        if isinstance(m.result, Profile):
            rows = [
                (f"`{layer.name[:70]}`", f"{layer.calls:g}", f"{layer.device_ms:.3f}")
                for layer in [*m.result.layers[:10], *m.result.kernels[:10]]
            ]
            parts.append(f"{m.name}, a step of {_number(m.result.step_ms)} ms:")
            parts.append(table(("layer or kernel", "times a step", "ms a step"), rows))
    return "\n\n".join(parts)


def _trained(document: Document) -> str:
    return "\n".join(
        f"- {m.result.checkpoint}: {m.result.step:,} steps, {m.result.images_seen:,} images seen in "
        f"{m.result.minutes:g} minutes, {m.result.megabytes:g} MB"
        + (f", validation loss {m.result.val_loss:.4f}" if m.result.val_loss is not None else "")
        for m in document.measurements
        if isinstance(m.result, Trained)
    )


def _failures(document: Document) -> str:
    lines = []
    for m in document.measurements:
        if isinstance(m.result, Failed):
            lines.append(f"- {m.part}, {m.name}: {m.result.error}: {_cell(m.result.message)}")
        elif is_bad(m.result):
            lines.append(f"- {m.part}, {m.name}: see above")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())[:300]


if __name__ == "__main__":
    sys.exit(main())
