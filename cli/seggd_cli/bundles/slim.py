"""`seggd-rt slim`: a checkpoint small enough to ship."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seggd_rt import terminal
from seggd_rt.errors import OutputError
from seggd_rt.optional import require


def slim(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint of seggd-rt train.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .pt to write.")],
    half: Annotated[bool, typer.Option("--half/--full", help="Store float16 or float32.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Keep only the weights that sample best, the moving average where there is one, in float16."""
    from seggd_rt.files import check_output
    from seggd_rt.runs import check_apart

    require("torch", extra="export", feature="seggd-rt slim")
    from seggd_export.checkpoint import Checkpoint

    check_output(output)
    check_apart(output, None, checkpoint)
    if output.exists() and not force:
        raise OutputError(f"{output} exists: give another file with -o, or replace it by --force")
    Checkpoint.load(checkpoint).slim(half=half).save(output)
    terminal.result(f"{output}  {output.stat().st_size / 1e6:.1f} MB")
