"""`smoke.sh` and `measure.sh` without a GPU: all they start exists, and an item that fails takes nothing with it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.gpu.checks import smoke
from benchmarks.gpu.command import PARTS, main
from benchmarks.gpu.contenders.lineup import COMPILE
from benchmarks.gpu.latency import TASKS, group_name
from benchmarks.gpu.machine.checkout import ROOT
from seggd_rt.engine import registry

pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None or sys.platform != "linux", reason="bash and GNU coreutils"
)

FOLDER = ROOT / "benchmarks" / "gpu"
SCRIPTS = ("smoke", "measure")
LONGEST_S = {"smoke": 300, "measure": 480}
"""So that both together, and the start of the machine, fit in 15 minutes."""
# Notes what it is asked to do, writes what is measured, and ends as FAILING says.
STUB = """#!/usr/bin/env bash
printf '%s\\x1f' "$@" >>"$CALLS"; echo >>"$CALLS"
echo "asked for $*"
case "$*" in */gpu.json*|*/bundles.json*) echo '{}' >"$3" ;; esac
if test -n "${FAILING:-}" && [[ "$*" == *$FAILING* ]]; then exit "${CODE:-1}"; fi
"""


class Done(NamedTuple):
    """How a script ended."""

    code: int
    printed: str
    report: dict[str, Any]
    calls: list[list[str]]
    """Arguments of each start of Python."""
    out: Path


def program(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def run(script: str, folder: Path, **environment: str) -> Done:
    parts, tools, out = folder / "parts", folder / "tools", folder / "out"
    for each in (parts, tools):
        each.mkdir(exist_ok=True)
    (folder / "calls").touch()
    program(parts / "seggd_gpu_tests", "#!/bin/sh\necho the tests of the session\n")
    program(tools / "nvidia-smi", "#!/bin/sh\necho a GPU\n")
    given = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": str(program(tools / "python", STUB)),
        "CALLS": str(folder / "calls"),
        "SEGGD_PARTS": str(parts),
        "SEGGD_GPU_STATE": str(folder / "state"),
        "SEGGD_COMMIT": "abc",
        **environment,
    }
    command = ["bash", str(FOLDER / f"{script}.sh"), str(out)]
    done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=60)
    calls = [line.split("\x1f")[:-1] for line in (folder / "calls").read_text("utf-8").splitlines()]
    report = json.loads((out / f"{script}.json").read_text("utf-8"))
    return Done(done.returncode, done.stdout + done.stderr, report, calls, out)


def states(done: Done) -> dict[str, str]:
    return {item["name"]: item["state"] for item in done.report["items"]}


@pytest.mark.parametrize("script", [*SCRIPTS, "items"])
def test_its_syntax_is_bash(script: str) -> None:
    done = subprocess.run(["bash", "-n", str(FOLDER / f"{script}.sh")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_runs_every_item_and_reports_each(script: str, tmp_path: Path) -> None:
    done = run(script, tmp_path)
    assert done.code == 0, done.printed
    assert set(states(done).values()) == {"PASS"}
    assert (done.report["script"], done.report["commit"]) == (script, "abc")
    assert "asked for -m benchmarks.gpu" in (done.out / f"{script}.log").read_text("utf-8")
    assert (done.out / "gpu.json").is_file()
    assert len(list(done.out.iterdir())) <= 8


@pytest.mark.parametrize("script", SCRIPTS)
def test_all_it_starts_exists(script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    help_text = capsys.readouterr().out
    groups = [f"latency/{group_name(task)}" for task in TASKS]
    contenders = ["pytorch eager", f"pytorch {COMPILE}", *(engine.name for engine in registry.engines())]
    items = [item.name for item in smoke.items()]
    known = {"--only": groups, "--contenders": contenders, "--part": [part.name for part in PARTS]}
    calls = run(script, tmp_path).calls
    assert calls
    for call in calls:
        assert call[0] == "-m"
        assert importlib.util.find_spec(call[1]) is not None
        if "--smoke" in call:
            assert all(any(fnmatchcase(item, pattern) for item in items) for pattern in call[3:]), call
            continue
        for option, value in zip(call, [*call[1:], ""], strict=True):
            if option.startswith("--"):
                assert re.search(rf"{option}\b", help_text), option
            if option in known:
                assert any(fnmatchcase(name, value) for name in known[option]), (option, value)
            if option == "--limit-s":
                assert 0 < float(value) <= LONGEST_S[script]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(("code", "state"), [("1", "FAIL"), ("3", "SHORT"), ("137", "TIMEOUT")])
def test_an_item_that_fails_takes_nothing_from_the_others(script: str, code: str, state: str, tmp_path: Path) -> None:
    done = run(script, tmp_path, FAILING="--smoke", CODE=code)
    assert done.code == 1
    found = states(done)
    assert found.pop("libraries") == state
    assert set(found.values()) == {"PASS"}
    assert f"{state} libraries" in done.printed


def test_what_there_is_no_time_for_is_left(tmp_path: Path) -> None:
    done = run("measure", tmp_path, SEGGD_LIMIT_S="5")
    assert done.code == 1
    assert set(states(done).values()) == {"LEFT"}


def test_a_program_that_is_missing_is_a_failed_item(tmp_path: Path) -> None:
    done = run("smoke", tmp_path, SEGGD_GPU_TESTS=str(tmp_path / "none"))
    found = states(done)
    assert found.pop("c++") == "FAIL"
    assert set(found.values()) == {"PASS"}


def test_figures_of_both_scripts_gather_in_one_file(tmp_path: Path) -> None:
    run("smoke", tmp_path)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "state" / "gpu.json").write_text('{"of": "smoke"}', "utf-8")
    measured = run("measure", tmp_path, SEGGD_LIMIT_S="19")  # no item starts
    assert (measured.out / "gpu.json").read_text("utf-8") == '{"of": "smoke"}'


def test_both_fit_in_the_time_that_they_have() -> None:
    for script, longest in LONGEST_S.items():
        limit = re.search(r"^limit_s=(\d+)$", (FOLDER / f"{script}.sh").read_text("utf-8"), re.MULTILINE)
        assert limit is not None
        assert int(limit[1]) <= longest
