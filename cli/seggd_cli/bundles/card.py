"""`seggd-rt card`: a bundle's model card, one HTML page."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from seggd_cli.options import BundleFolder, RequireSignature
from seggd_rt import terminal
from seggd_rt.errors import OptionError


def card(
    bundle: BundleFolder,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page, .html.")],
    report: Annotated[
        Path | None,
        typer.Option(help="report.json of an evaluation of the bundle's checkpoint, or its folder."),
    ] = None,
    require_signature: RequireSignature = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is no model card.")] = False,
) -> None:
    """Verify a bundle and write its model card: one page that needs no other file, no network and no scripts."""
    from seggd_rt.bundle import Bundle
    from seggd_rt.files import check_output, make_folder, write_file
    from seggd_rt.reports import is_card, render_card
    from seggd_rt.runs import check_apart, check_own

    if output.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"{output} must end in .html")
    check_output(output)
    read = report / "report.json" if report is not None and report.is_dir() else report
    check_apart(output, bundle, read, require_signature)
    may_replace = partial(check_own, output, is_card, force=force)
    may_replace()
    page = render_card(Bundle.open(bundle, require_signature=require_signature), report)
    make_folder(output.parent)
    write_file(output, page, may_replace=may_replace)
    terminal.result(str(output))
