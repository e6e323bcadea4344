"""The bookkeeping of `benchmarks.gpu`: nothing is lost, nothing is measured twice, one failure stops nothing else."""

from __future__ import annotations

import dataclasses
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from benchmarks.gpu.machine.checkout import portable
from benchmarks.gpu.machine.supervise import supervise
from benchmarks.gpu.record import Record, is_bad, read_document
from benchmarks.gpu.results import SCHEMA, Absent, Document, Failed, Host, Rate, Result, Run, Sanitized, Suite
from benchmarks.gpu.run import LISTING, Context, Deadline, DeviceLostError, Part, Piece, attempt, work_through
from seggd_rt.errors import DataError, EngineError
from tests.benchmarks.gpu.late import LateDevice

RATE = Rate(per_second=1.5, unit="byte", of="copy")
HOST = Host(
    device="a GPU", compute_capability="9.0", memory_mib=1, driver="1", cpu="a CPU", cores=2, platform="p",
    versions={"torch": "2"}, commit="abc", changed=False,
)  # fmt: skip


def a_run(command: str = "python -m benchmarks.gpu OUT.json") -> Run:
    return Run(started="2026-01-01T00:00:00+00:00", command=command, host=HOST)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    made = Record(tmp_path / "out.json")
    made.begin(a_run())
    return made


@pytest.fixture
def context(record: Record, tmp_path: Path) -> Context:
    return Context(record, Deadline(None), LateDevice(), tmp_path / "cache", say=lambda line: None)


def part(name: str, **works: Callable[[], Result]) -> Part:
    return Part(name, lambda context: [Piece(piece, work) for piece, work in works.items()])


def fail() -> Result:
    raise EngineError("no such luck in /home/somebody/secret/place.txt")


def names(record: Record) -> list[str]:
    return [f"{m.part}/{m.name}" for m in read_document(record.path).measurements]


def test_the_file_is_whole_after_every_measurement(record: Record, context: Context) -> None:
    seen: list[list[str]] = []

    def look() -> Result:
        document = read_document(record.path)
        seen.append(names(record))
        assert document.in_hand == ("p", "abc"[len(seen) - 1])
        return RATE

    work_through([part("p", a=look, b=look, c=look)], context)
    assert seen == [[], ["p/a"], ["p/a", "p/b"]]
    document = read_document(record.path)
    assert document.schema == SCHEMA
    assert (document.in_hand, document.runs) == (None, (a_run(),))
    assert {m.result for m in document.measurements} == {RATE}
    assert [entry.name for entry in record.path.parent.iterdir()] == ["out.json"]


def test_a_failure_is_recorded_and_the_next_goes_on(record: Record, context: Context) -> None:
    outcome = work_through([part("p", a=fail, b=lambda: RATE), part("q", c=lambda: RATE)], context)
    assert (outcome.done, outcome.left) == (3, [])
    assert names(record) == ["p/a", "p/b", "q/c"]
    failed = record.find("p", "a")
    assert isinstance(failed, Failed)
    assert (failed.error, failed.message) == ("EngineError", "no such luck in place.txt")
    assert failed.where.startswith("test_record.py:")
    assert [m.name for m in record.failed()] == ["a"]


def test_a_part_that_cannot_be_listed_fails_alone(record: Record, context: Context) -> None:
    def pieces(context: Context) -> list[Piece]:
        raise OSError("no folder")

    work_through([Part("p", pieces), part("q", c=lambda: RATE)], context)
    assert names(record) == [f"p/{LISTING}", "q/c"]


def test_going_on_skips_what_is_there_and_tries_again_what_failed(record: Record, context: Context) -> None:
    ran: list[str] = []

    def work(name: str, result: Result) -> Callable[[], Result]:
        def call() -> Result:
            ran.append(name)
            return result

        return call

    bad = Suite(passed=3, failed=1, skipped=0)
    parts = [part("p", a=work("a", RATE), b=work("b", bad), c=work("c", Absent(reason="not there")), d=fail)]
    work_through(parts, context)
    assert ran == ["a", "b", "c"]
    assert work_through(parts, context).skipped == 4  # in the same run nothing is tried twice
    again = Record(record.path)
    again.begin(a_run("second"))
    outcome = work_through(parts, Context(again, Deadline(None), LateDevice(), record.path.parent, lambda line: None))
    assert (outcome.done, outcome.skipped) == (3, 1)
    assert ran == ["a", "b", "c", "b", "c"]
    document = read_document(record.path)
    assert {m.name: m.run for m in document.measurements} == {"a": 0, "b": 1, "c": 1, "d": 1}
    assert [run.command for run in document.runs] == [a_run().command, "second"]


def test_what_is_bad() -> None:
    assert is_bad(Failed(error="E", message=""))
    assert is_bad(Sanitized(errors=1, summary=()))
    assert not is_bad(Sanitized(errors=0, summary=()))
    assert not is_bad(Suite(passed=1, failed=0, skipped=2))
    assert not is_bad(Absent(reason="x"))


def test_only_names_asked_for_run(record: Record, context: Context) -> None:
    work_through([part("p", abc=lambda: RATE, abd=lambda: RATE, xyz=lambda: RATE)], context, only=["ab*"])
    assert names(record) == ["p/abc", "p/abd"]


def test_redo_forgets(record: Record, context: Context) -> None:
    work_through([part("p", abc=lambda: RATE, xyz=lambda: RATE), part("q", abc=lambda: RATE)], context)
    assert record.forget("p/a*") == 1
    assert names(record) == ["p/xyz", "q/abc"]
    assert record.forget("nothing") == 0


def test_what_needs_more_time_than_is_left_is_not_begun(record: Record, tmp_path: Path) -> None:
    pieces = [Piece("long", fail, needs_s=1000), Piece("short", lambda: RATE, needs_s=1)]
    context = Context(record, Deadline(60), LateDevice(), tmp_path, say=lambda line: None)
    outcome = work_through([Part("p", lambda context: pieces)], context)
    assert (outcome.left, names(record)) == (["p/long"], ["p/short"])


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="this system has no alarms")
def test_the_limit_ends_a_measurement_that_takes_too_long(record: Record, tmp_path: Path) -> None:
    def stuck() -> Result:
        for _ in range(600):
            attempt(lambda: time.sleep(0.1))  # even where every exception is swallowed
        raise AssertionError("it was not stopped")

    before = signal.getsignal(signal.SIGALRM)
    pieces = [Piece("stuck", stuck, needs_s=0), Piece("next", lambda: RATE, needs_s=0)]
    context = Context(record, Deadline(0.3), LateDevice(), tmp_path, say=lambda line: None)
    outcome = work_through([Part("p", lambda context: pieces)], context)
    assert outcome.left == ["p/stuck", "p/next"]
    assert names(record) == []
    assert signal.getsignal(signal.SIGALRM) is before


def test_a_device_that_is_lost_leaves_the_rest_to_another_process(record: Record, context: Context) -> None:
    with pytest.raises(DeviceLostError, match="p/a"):
        work_through([part("p", a=fail, b=lambda: RATE)], dataclasses.replace(context, healthy=lambda: False))
    assert names(record) == ["p/a"]
    assert read_document(record.path).in_hand is None


CHILD = """
    import os, sys, signal, time
    from pathlib import Path
    sys.path[:0] = {paths!r}
    from benchmarks.gpu.record import Record
    from benchmarks.gpu.results import Rate
    record = Record(Path({file!r}))
    for name in "abc":
        if record.settled("p", name):
            continue
        record.take_in_hand("p", name)
        if name == "b":
            {death}
        record.keep("p", name, Rate(per_second=1, unit="byte", of="x"), 0)
    sys.exit(1 if record.failed() else 0)
"""


def child(record: Record, death: str) -> Callable[[float | None], list[str]]:
    code = textwrap.dedent(CHILD).format(paths=sys.path, file=str(record.path), death=death)
    return lambda left: [sys.executable, "-c", code]


@pytest.mark.parametrize(("death", "cause"), [("os.kill(os.getpid(), 9)", "SIGKILL"), ("os._exit(5)", "exit code 5")])
def test_a_process_that_dies_is_started_again_behind_what_it_died_of(record: Record, death: str, cause: str) -> None:
    said: list[str] = []
    assert supervise(child(record, death), record.path, Deadline(None), said.append) == 1
    assert sorted(names(record)) == ["p/a", "p/b", "p/c"]
    failed = Record(record.path).find("p", "b")
    assert isinstance(failed, Failed)
    assert cause in failed.message
    assert said == [f"p/b: the process died of {cause}"]


def test_a_process_that_does_not_stop_is_killed_with_what_it_started(record: Record, tmp_path: Path) -> None:
    grandchild = tmp_path / "grandchild"
    death = (
        "import subprocess; g = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        f" Path({str(grandchild)!r}).write_text(str(g.pid)); time.sleep(60)"
    )
    said: list[str] = []
    began = time.monotonic()
    code = supervise(child(record, death), record.path, Deadline(3), said.append, grace_s=0)
    assert code == 3
    assert time.monotonic() - began < 50
    assert names(record) == ["p/a"]
    status = Path("/proc", grandchild.read_text(), "status")
    deadline = time.monotonic() + 20
    while status.exists() and "State:\tZ" not in status.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not status.exists() or "State:\tZ" in status.read_text()


def test_a_process_that_dies_before_it_takes_anything_in_hand_ends_it_all(record: Record) -> None:
    said: list[str] = []
    assert (
        supervise(
            lambda left: [sys.executable, "-c", "import os; os._exit(9)"], record.path, Deadline(None), said.append
        )
        == 1
    )
    assert said == ["the measuring process ended with exit code 9, and nothing was in hand"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": "seggd-gpu/9"}', b'{"measurements": [{"part": 1}]}'])
def test_a_file_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"out\.json"):
        Record(path)
    assert path.read_bytes() == content


def test_every_result_survives_its_json() -> None:
    results: list[Result] = [
        RATE,
        Failed(error="E", message="m"),
        Suite(passed=1, failed=0, skipped=1, skips={"why": 1}),
    ]
    for result in results:
        encoded = msgspec.json.encode(result)
        assert msgspec.json.decode(encoded, type=Result) == result
    assert msgspec.json.decode(msgspec.json.encode(Document()), type=Document) == Document()


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("cannot open /tmp/x/y.onnx: no", "cannot open y.onnx: no"),
        ("python -m benchmarks.gpu /home/me/out.json --append", "python -m benchmarks.gpu out.json --append"),
        ("float16/float32, 1/2 and a/b/c stay", "float16/float32, 1/2 and a/b/c stay"),
        ("see https://pytorch.org/docs/stable/x.html", "see https://pytorch.org/docs/stable/x.html"),
    ],
)
def test_paths_are_cut_to_names(text: str, cut: str) -> None:
    assert portable(text) == cut
