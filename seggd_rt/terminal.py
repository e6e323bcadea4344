"""Where commands print: results to stdout, everything else to stderr, and no file's text steers the terminal.

`guard` replaces both streams, so that also a library's log lines, warnings and tracebacks are escaped. Only what `rich`
draws goes around the guard, by a console that escapes every text and then adds its own colors.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO, cast

from seggd_rt.wording import escaped, printable

if TYPE_CHECKING:
    from rich.console import Console

_LONGEST = 2000
"""Maximum number of characters printed from one line."""
_UNENCODABLE = "seggd-rt.escaped"
"""The error handler of streams that cannot encode a character, as stdout in ASCII."""


class _Guarded:
    """A text stream that escapes what would steer a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write text of any number of lines."""
        self.stream.write(_lines(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def guard() -> None:
    """Replace stdout and stderr by streams that escape what would steer a terminal."""
    codecs.register_error(_UNENCODABLE, _escape_unencodable)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_UNENCODABLE)
    sys.stdout, sys.stderr = (cast(TextIO, _Guarded(_unguarded(stream))) for stream in (sys.stdout, sys.stderr))


def say(line: str) -> None:
    """Print one line on stderr, of a long one its beginning: a file's text may fill it."""
    print(printable(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."), file=sys.stderr, flush=True)


def result(line: str) -> None:
    """Print one line on stdout."""
    print(printable(line), flush=True)


def result_lines(text: str) -> None:
    """Print text of our own making that has several lines on stdout, as indented JSON, whose values stay equal."""
    print(_lines(text.removesuffix("\n")), flush=True)


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return a console of `rich` without markup that escapes what would steer the terminal.

    Parameters
    ----------
    stderr
        Whether it prints to stderr.
    width
        Columns; the terminal's if None.
    """
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.text import Text

    class Escaping(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            return super().render_str(_lines(text), **how)  # before the layout, which counts columns

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=_lines(segment.text))

    stream = _unguarded(sys.stderr if stderr else sys.stdout)
    return Escaping(file=stream, stderr=stderr, width=width, markup=False, highlight=False)


def _lines(text: str) -> str:
    return text if text.isprintable() else "\n".join(map(printable, text.split("\n")))


def _unguarded(stream: TextIO) -> TextIO:
    stream = getattr(stream, "rich_proxied_file", stream)  # while a bar of `rich` is shown
    return stream.stream if isinstance(stream, _Guarded) else stream


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(escaped, error.object[error.start : error.end])), error.end
