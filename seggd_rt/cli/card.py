"""`seggd-rt card`: a bundle's model card, one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seggd_rt import terminal
from seggd_rt.cli.options import BundleFolder, RequireSignature
from seggd_rt.errors import OptionError


def card(
    bundle: BundleFolder,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page, .html.")],
    report: Annotated[
        Path | None,
        typer.Option(help="report.json of an evaluation of the bundle's checkpoint, or its folder."),
    ] = None,
    require_signature: RequireSignature = None,
) -> None:
    """Verify a bundle and write its model card: one page that needs no other file, no network and no scripts."""
    from seggd_rt.atomic import check_output, make_folder, write_file
    from seggd_rt.bundle import Bundle
    from seggd_rt.card import render_card

    if output.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"{output} must end in .html")
    check_output(output)
    page = render_card(Bundle.open(bundle, require_signature=require_signature), report)
    make_folder(output.parent)
    write_file(output, page)
    terminal.result(str(output))
