"""What commands print steers no terminal, whoever wrote it: lines, JSON, tables, log lines of libraries."""

import io
import json
import logging
import sys

import pytest
from rich.table import Table
from rich.text import Text

from seggd_rt import terminal
from seggd_rt.wording import printable

HOSTILE = "a\x1b[2J\x9b31m\u202egnp\u2066\r\x07\x7f\U000e0041\udc9b"
"""Of C0, C1, bidirectional marks, tags, and a surrogate that would become the byte of a C1 character."""
STEERING = set(HOSTILE) - set("a[2J31mgnp")


class Streams:
    """Standard streams as a terminal has them, guarded."""

    def __init__(self, patch: pytest.MonkeyPatch, encoding: str = "utf-8") -> None:
        self.raw = {name: io.BytesIO() for name in ("stdout", "stderr")}
        for name, raw in self.raw.items():
            patch.setattr(sys, name, io.TextIOWrapper(raw, encoding=encoding))
        terminal.guard()

    def text(self, name: str) -> str:
        getattr(sys, name).flush()
        return self.raw[name].getvalue().decode()


@pytest.mark.parametrize("text", ["", "plain", "Ærø 心臓", "ideographic\u3000space", "no-break\xa0space"])
def test_plain_text_stays(text: str) -> None:
    assert printable(text) == text


def test_what_steers_is_escaped() -> None:
    assert printable(HOSTILE) == r"a\u001b[2J\u009b31m\u202egnp\u2066\r\u0007\u007f\udb40\udc41\udc9b"
    assert printable("one\ntwo\u2028three") == r"one\ntwo\u2028three"


def test_json_keeps_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    value = {HOSTILE[:-1]: [HOSTILE[:-1], 1.5, "Ærø"]}
    for printed in (json.dumps(value, ensure_ascii=False), json.dumps(value, ensure_ascii=False, indent=2)):
        assert STEERING & set(printed)
        terminal.result_lines(printed)
    out = streams.text("stdout")
    assert not STEERING & set(out)
    decoder, found = json.JSONDecoder(), []
    while out.strip():
        one, end = decoder.raw_decode(out.lstrip())
        found.append(one)
        out = out.lstrip()[end:]
    assert found == [value, value]


def test_a_line_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    terminal.say(f"first\nerror: forged {HOSTILE}")
    terminal.result(f"first\nforged {HOSTILE}")
    for name in ("stdout", "stderr"):
        assert streams.text(name).count("\n") == 1
        assert not STEERING & set(streams.text(name))


def test_whatever_writes_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    logger = logging.Logger("of a library")
    logger.addHandler(logging.StreamHandler())
    logger.warning("a header says %s", HOSTILE)
    print(HOSTILE, file=sys.stderr)
    sys.stderr.writelines([HOSTILE, "\n"])
    assert streams.text("stderr").count("\n") == 3
    assert not STEERING & set(streams.text("stderr"))


def test_tables_are_escaped_and_hold_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    table = Table(HOSTILE, title=HOSTILE, caption=HOSTILE)
    for cell in (HOSTILE, Text(HOSTILE), "[bold]x[/]", "[/nothing]"):
        table.add_row(cell)
    for console, name in ((terminal.console(width=100), "stdout"), (terminal.console(stderr=True), "stderr")):
        console.print(table)
        assert "[bold]x[/]" in streams.text(name)
        assert not STEERING & set(streams.text(name))


def test_a_console_keeps_its_own_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    streams = Streams(monkeypatch)
    console = terminal.console()
    console.print(Text(HOSTILE, style="red"))
    assert "\x1b[31m" in streams.text("stdout")
    assert "\x1b[2J" not in streams.text("stdout")


def test_a_stream_of_another_encoding_escapes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch, "ascii")
    terminal.result(json.dumps({"name": "心臓\U0001fac0"}, ensure_ascii=False))
    assert json.loads(streams.text("stdout")) == {"name": "心臓\U0001fac0"}


def test_of_a_long_line_the_beginning_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say("a" * 2000)
    terminal.say("b" * 2001)
    assert capsys.readouterr().err == f"{'a' * 2000}\n{'b' * 2000}...\n"
