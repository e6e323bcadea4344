"""The same network, mask, noise and steps through plain diffusers loops and through every engine here, in turn.

    python -m benchmarks.peers OUT.json --reference-network
    python -m benchmarks.peers OUT.json --bundle B.seggd --checkpoint C.pt

All contenders live in one process and draw one image a round, A B C A B C, with the same number of threads. Ratios are
those of medians. The images are compared with that of the eager fp32 loop.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import seggd_rt
from benchmarks.diffusers_loop import DiffusersLoop
from benchmarks.reference_network import reference_network
from seggd_export.forms import read_checkpoint
from seggd_export.unet import build_unet
from seggd_rt.bench import Machine, this_machine
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import encode, encode_table, psnr_db
from seggd_rt.engine import Spread, interleaved, registry, spread, this_cpu
from seggd_rt.errors import EngineError, OptionError, SeggdError
from seggd_rt.files import NewFile

SCHEMA = "seggd-peers/1"
EAGER = "diffusers eager fp32"
COMPILED = "diffusers compiled bf16"

Image = NDArray[np.float32]
Draw = Callable[[], Image]
"""Draws the benchmark's image: (C, H, W) float32 in [0, 1]."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one contender.

    Attributes
    ----------
    image
        Durations of an image.
    step_ms
        Median image over steps.
    first_s
        The first image, in seconds: with what is compiled at it.
    faster_than_eager, faster_than_compiled
        Ratios of medians; None where that rival was left out.
    psnr_db
        Of the image against the eager fp32 loop's; None where it is equal, or that was left out.
    """

    name: str
    image: Spread
    step_ms: float
    first_s: float
    faster_than_eager: float | None
    faster_than_compiled: float | None
    psnr_db: float | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that one run found."""

    schema: str = SCHEMA
    bundle: str
    bundle_sha256: str
    parameters: int
    machine: Machine
    threads: int
    steps: int
    repeats: int
    peers: tuple[Peer, ...]
    skipped: dict[str, str]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the file."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.bundle is not None and options.checkpoint is None:
        parser.error("--bundle needs the --checkpoint it was exported from")
    try:
        with NewFile(options.out) as file:
            if options.reference_network:
                checkpoint, bundle = reference_network(options.cache, say=_say)
            else:
                checkpoint, bundle = options.checkpoint, options.bundle
            report = compare(
                checkpoint,
                bundle,
                steps=options.steps,
                repeats=options.repeats,
                threads=options.threads or this_cpu().usable_cores,
                without=tuple(options.without),
            )
            file.write(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    except SeggdError as error:
        _say(f"error: {error}")
        sys.exit(2)
    console = Console()
    console.print(table(report), width=max(console.width, 120))  # also where a file takes it: nothing is folded
    for name, reason in report.skipped.items():
        console.print(f"without {name}: {reason}", highlight=False, markup=False)


def compare(
    checkpoint: Path, bundle: Path, *, steps: int | None, repeats: int, threads: int, without: tuple[str, ...] = ()
) -> Report:
    """Draw with every contender in turn.

    Raises
    ------
    SeggdError
        What reading a checkpoint and loading a bundle raise.
    OptionError
        The bundle was not exported from the checkpoint, or a number is outside its range.
    """
    if threads < 1:
        raise OptionError(f"threads is {threads}; it must be at least 1")
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    steps = manifest.defaults.steps if steps is None else steps
    machine = this_machine()
    with ExitStack() as stack:
        skipped = dict.fromkeys(without, "left out")
        draws = {
            **_loops(checkpoint, opened, steps, threads, without),
            **_engines(opened, steps, threads, stack, skipped),
        }
        images: dict[str, Image] = {}

        def keep(name: str, draw: Draw) -> Callable[[], None]:
            def call() -> None:
                images[name] = draw()

            return call

        calls = {name: keep(name, draw) for name, draw in draws.items()}
        first = interleaved(calls, 1, warmups=0, on_turn=lambda name, turn: _say(f"{name}: first image"))
        seconds = interleaved(
            calls, repeats, warmups=0, on_turn=lambda name, turn: _say(f"{name}: {turn + 1} of {repeats}")
        )
    spreads = {name: spread(taken) for name, taken in seconds.items()}
    return Report(
        bundle=opened.path.name,
        bundle_sha256=opened.sha256,
        parameters=manifest.provenance.parameters,
        machine=machine,
        threads=threads,
        steps=steps,
        repeats=repeats,
        peers=tuple(
            Peer(
                name=name,
                image=spreads[name],
                step_ms=spreads[name].p50_ms / steps,
                first_s=first[name][0],
                faster_than_eager=_ratio(spreads, EAGER, name),
                faster_than_compiled=_ratio(spreads, COMPILED, name),
                psnr_db=_psnr(images, name),
            )
            for name in draws
        ),
        skipped=skipped,
    )


def table(report: Report) -> Table:
    """Return the report as a table."""
    title = (
        f"{report.bundle}: {report.parameters / 1e6:.2f} M parameters, {report.steps} steps, {report.repeats} repeats "
        f"in turn, {report.threads} threads of {report.machine.device}"
    )
    shown = Table("contender", title=title, box=None, padding=(0, 2, 0, 0))
    for heading in ("image p50, ms", "p95", "step, ms", "x eager", "x compiled", "PSNR, dB"):
        shown.add_column(heading, justify="right")
    for peer in report.peers:
        shown.add_row(
            peer.name,
            f"{peer.image.p50_ms:,.0f}",
            f"{peer.image.p95_ms:,.0f}",
            f"{peer.step_ms:,.1f}",
            *(
                "-" if ratio is None else f"{ratio:.2f}"
                for ratio in (peer.faster_than_eager, peer.faster_than_compiled)
            ),
            "-" if peer.psnr_db is None else f"{peer.psnr_db:.1f}",
        )
    return shown


def _loops(checkpoint: Path, bundle: Bundle, steps: int, threads: int, without: tuple[str, ...]) -> dict[str, Draw]:
    """Return the plain loops of PyTorch."""
    source = read_checkpoint(checkpoint)
    if source.sha256 != bundle.manifest.provenance.checkpoint_sha256:
        raise OptionError(f"{bundle.path} was not exported from {checkpoint}: give the checkpoint of this bundle")
    torch.set_num_threads(threads)
    manifest, golden = bundle.manifest, bundle.golden
    unet = build_unet(source.unet, source.weights)
    mask = encode(golden.label_map, encode_table(manifest.mask.encoding, len(manifest.classes)))[None]

    def draw(loop: DiffusersLoop) -> Draw:
        return lambda: loop(golden.noise[None], steps)[0]

    draws = {}
    if EAGER not in without:
        draws[EAGER] = draw(DiffusersLoop(unet, manifest.schedule, mask))
    if COMPILED not in without:
        loop = DiffusersLoop(unet, manifest.schedule, mask, dtype=torch.bfloat16, compiled=True)
        draws[COMPILED] = draw(loop)
    return draws


def _engines(bundle: Bundle, steps: int, threads: int, stack: ExitStack, skipped: dict[str, str]) -> dict[str, Draw]:
    """Return every engine here, in every precision it has, but those left out."""
    golden = bundle.golden

    def draw(generator: seggd_rt.Generator) -> Draw:
        shape = (bundle.manifest.image.height, bundle.manifest.image.width, bundle.manifest.image.channels)
        return lambda: np.moveaxis(generator(golden.label_map, noise=golden.noise, steps=steps).reshape(shape), -1, 0)

    draws: dict[str, Draw] = {}
    for engine in registry.engines():
        there = engine.availability("cpu")
        if not there.usable:
            skipped[engine.name] = there.reason
        for precision in there.precisions:
            name = f"{engine.name} {precision}"
            if name in skipped:
                continue
            _say(f"{name}: loading and checking")
            try:
                generator = seggd_rt.load(bundle.path, engine=engine.name, precision=precision, threads=threads)
            except EngineError as error:
                skipped[name] = str(error)
            else:
                draws[name] = draw(stack.enter_context(generator))
    return draws


def _ratio(spreads: dict[str, Spread], rival: str, name: str) -> float | None:
    return spreads[rival].p50_ms / spreads[name].p50_ms if rival in spreads else None


def _psnr(images: dict[str, Image], name: str) -> float | None:
    if EAGER not in images:
        return None
    found = psnr_db(images[name], images[EAGER])
    return found if np.isfinite(found) else None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT.json", help="file for the figures")
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument("--reference-network", action="store_true", help="the reference's, with random weights")
    network.add_argument("--bundle", type=Path, help="a bundle; needs --checkpoint")
    parser.add_argument("--checkpoint", type=Path, help="what the bundle was exported from")
    default_cache = platformdirs.user_cache_path("seggd-rt") / "benchmarks"
    parser.add_argument("--cache", type=Path, default=default_cache, help="keeps the reference network")
    parser.add_argument("--steps", type=int, help="steps of an image; the bundle's by default")
    parser.add_argument("--repeats", type=int, default=5, help="timed images of each contender")
    parser.add_argument("--threads", type=int, help="threads of each contender; the usable cores by default")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="NAME",
        help=f"leave out one, as '{COMPILED}' or 'openvino fp32'",
    )
    return parser


if __name__ == "__main__":
    main()
