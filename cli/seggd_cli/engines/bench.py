"""`seggd-rt bench`: how fast engines draw a bundle's images on this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seggd_cli.engines.profile_tables import layer_table, operator_table, profile_remark
from seggd_cli.options import BundleFolder, RequireSignature
from seggd_rt import terminal
from seggd_rt.errors import OutputError
from seggd_rt.wording import printable

if TYPE_CHECKING:
    from rich.table import Table

    from seggd_rt.bench import EngineFigures, Report
    from seggd_rt.engine import Spread


_STDOUT = Path("-")


def bench(
    bundle: BundleFolder,
    engine: Annotated[
        str, typer.Option(help="openvino, onnxruntime, auto, or all that can run here, in turn.")
    ] = "all",
    precision: Annotated[str, typer.Option(help="fp32, fp16, bf16 or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda:0 or another GPU, or auto.")] = "auto",
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler.  [default: the bundle's]")] = None,
    batch: Annotated[int, typer.Option(help="Images drawn at a time.")] = 1,
    threads: Annotated[int | None, typer.Option(help="CPU threads.  [default: the engine's choice]")] = None,
    repeats: Annotated[int, typer.Option(help="Timed images, or batches of them, of each engine.")] = 10,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also time the network's layers, in steps of their own after the others.")
    ] = False,
    require_signature: RequireSignature = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write figures and machine to this file; - prints them."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a --json file that holds no figures.")] = False,
) -> None:
    """Time steps, images and cold starts, and what the runtime adds to the network's own calls."""
    from rich.text import Text

    from seggd_rt.bench import Settings, is_report
    from seggd_rt.bench import bench as run
    from seggd_rt.files import check_output, make_folder, write_file
    from seggd_rt.runs import check_apart, check_own

    settings = Settings(
        engine=engine,
        precision=precision,
        device=device,
        steps=steps,
        batch=batch,
        threads=threads,
        repeats=repeats,
        profile=profile,
    )
    said = terminal.console(stderr=True)
    to_stdout = json_file == _STDOUT
    if json_file is not None and not to_stdout:  # minutes of measuring must not end at a file that cannot be written
        if json_file.is_dir():
            raise OutputError(f"{json_file} is a folder: give the name of a file with --json")
        check_output(json_file)
        check_apart(json_file, bundle, require_signature)
        check_own(json_file, is_report, force=force)
    with said.status("") as status:

        def say(line: str) -> None:
            if said.is_terminal:
                status.update(Text(printable(line)))
            else:
                terminal.say(line)

        report = run(bundle, settings, say, require_signature=require_signature)
    if to_stdout:
        terminal.result_lines(report.to_json().decode())
        return
    if json_file is not None:
        make_folder(json_file.parent)
        write_file(json_file, report.to_json(), may_replace=partial(check_own, json_file, is_report, force=force))
    console = terminal.console()
    console.print(_table(report))
    for figures in report.engines:
        if figures.profile is not None:
            for table in (operator_table(figures, figures.profile), layer_table(figures, figures.profile)):
                console.print()
                console.print(table)
    if report.settings.profile:
        terminal.result("")
    for line in _remarks(report):
        terminal.result(line)


def _table(report: Report) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for figures in report.engines:
        table.add_column(f"{figures.engine} {figures.precision}", justify="right")
    columns = [_column(figures) for figures in report.engines]
    for title in dict.fromkeys(title for column in columns for title in column):
        table.add_row(title, *(column.get(title, "") for column in columns))
    return table


def _column(figures: EngineFigures) -> dict[str, str]:
    overhead, cold = figures.overhead, figures.cold
    low, high = overhead.quartiles_percent
    memory = "unknown" if cold.peak_memory_mib is None else f"{cold.peak_memory_mib:,.0f}"
    outside = "" if overhead.outside_percent is None else f"{overhead.outside_percent:.2f}"
    outside_step = "" if overhead.outside_step_us is None else f"{overhead.outside_step_us:.0f}"
    host = {} if overhead.host_ms is None else {"host's own work, ms an image": f"{overhead.host_ms:.2f}"}
    return {
        "step, ms: p50 / p95 / p99": _spread(figures.step),
        "image, ms: p50 / p95 / p99": _spread(figures.image),
        "images a second": f"{figures.images_per_second:.3g}",
        "runtime overhead, % of image": f"{overhead.percent:.2f}",
        "  its quartiles": f"{low:.2f} to {high:.2f}",
        "outside network, % of image": outside,
        "  us a step": outside_step,
        **host,
        "cold process, first image, ms": f"{cold.total_ms:,.0f}",
        "  imports / load / image": f"{cold.import_ms:,.0f} / {cold.load_ms:,.0f} / {cold.first_image_ms:,.0f}",
        "peak memory, MiB": memory,
    }


def _spread(spread: Spread) -> str:
    digits = 2 if spread.p50_ms < 100 else 0
    return " / ".join(f"{value:,.{digits}f}" for value in (spread.p50_ms, spread.p95_ms, spread.p99_ms))


def _remarks(report: Report) -> list[str]:
    """Say under which conditions the table was made."""
    machine, batch = report.machine, report.settings.batch
    busy = "" if machine.load_average is None else f", load average {machine.load_average:.1f} before"
    drawn = f"an image is {report.steps} steps" + (f", drawn {batch} at a time" if batch > 1 else "")
    return [
        f"{report.bundle} {report.bundle_sha256[:12]}: {drawn}; {report.settings.repeats} repeats, engines in turn",
        f"{machine.device}, {machine.cores} cores{busy}; cold processes recall the engine's self-check",
        *(profile_remark(f, f.profile) for f in report.engines if f.profile is not None),
        *(f"not measured: {reason}" for reason in report.skipped.values()),
        *(f"{engine}: not profiled: {reason}" for engine, reason in report.unprofiled.items()),
        *(f"{f.engine}: passed over {note}" for f in report.engines for note in f.notes),
    ]
