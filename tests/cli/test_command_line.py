"""The command line as a whole: version, help, what reaches stdout, and commands that are kept in files."""

import subprocess
from pathlib import Path

import pytest

import seggd_rt
from seggd_cli.command_line import portable_command
from tests.commands import COMMAND, run_command


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "--data", "/home/someone/acdc.npz", "-o", "runs/a"], "seggd-rt train --data acdc.npz -o runs/a"),
        (["train", "--data=/home/someone/acdc.npz"], "seggd-rt train --data=acdc.npz"),
        (["train", "--licence", "CC BY 4.0", "--resume"], "seggd-rt train --licence 'CC BY 4.0' --resume"),
    ],
)
def test_no_folder_of_this_machine_travels(arguments: list[str], expected: str) -> None:
    assert portable_command(arguments) == expected


def test_the_version_alone() -> None:
    done = run_command("--version")
    assert (done.code, done.out, done.err) == (0, f"{seggd_rt.__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_the_commands(arguments: list[str]) -> None:
    done = run_command(*arguments)
    assert (done.code, done.err) == (0, "")
    assert "generate" in done.out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_is_one_line(tiny_bundle: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, "inspect", tiny_bundle, "--json"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == b"error: No space left on device"


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        ("slim", "CHECKPOINT"),
        ("export", "CHECKPOINT"),
        ("inspect", "BUNDLE"),
        ("evaluate", "BUNDLE"),
        ("bench", "BUNDLE"),
    ],
)
def test_usage_says_what_to_give(command: str, argument: str) -> None:
    usage = next(line for line in run_command(command, "--help").out.splitlines() if line.startswith("Usage"))
    assert usage.split()[-1].strip("{}") == argument
    assert f"Missing argument '{argument}'" in run_command(command).error_lines[0]
