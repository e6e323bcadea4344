"""Pages of which a part is measured: what lies between two marks is replaced, the rest is written by hand."""

from __future__ import annotations

from pathlib import Path

from seggd_rt.errors import DataError
from seggd_rt.files import write_file


def replace_measured(page: Path, script: str, measured: str) -> None:
    """Replace what a page says was measured.

    Parameters
    ----------
    page
        Has the marks of the script.
    script
        Its path in the checkout, named in the marks.
    measured
        Markdown.

    Raises
    ------
    DataError
        The page cannot be read, or lacks the marks.
    OutputError
        It cannot be written.
    """
    begin, end = marks(script)
    try:
        text = page.read_text("utf-8")
    except OSError as error:
        raise DataError(f"{page} cannot be read: {error.strerror}") from error
    before, begun, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not begun or not ended:
        raise DataError(f"{page} lacks the marks between which measurements go: {begin} and {end}")
    write_file(page, f"{before}{begin}\n\n{measured}\n\n{end}{after}".encode())


def marks(script: str) -> tuple[str, str]:
    """Return the marks of a script."""
    return f"<!-- measured: begin, by {script} -->", "<!-- measured: end -->"
