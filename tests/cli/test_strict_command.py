"""No option is empty, and none is ignored because it lacks another."""

from __future__ import annotations

import pytest
import typer

from seggd_cli.app import app
from tests.commands import run_command


def commands() -> dict[str, typer.core.TyperCommand]:
    """Return every command by its words, as "cache list"."""
    found, groups = {}, [("", typer.main.get_command(app))]
    for words, group in groups:
        for name, command in group.commands.items():  # type: ignore[attr-defined]
            if hasattr(command, "commands"):
                groups.append((f"{name} ", command))
            else:
                found[f"{words}{name}"] = command
    return found


TAKE_A_VALUE = [
    (words, param.opts[0])
    for words, command in commands().items()
    for param in command.params
    if param.param_type_name == "option" and not param.is_flag  # type: ignore[attr-defined]
]


@pytest.mark.parametrize(("words", "option"), TAKE_A_VALUE)
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_value_is_refused(words: str, option: str, value: str) -> None:
    done = run_command(*words.split(), option, value)
    assert (done.code, done.err) == (2, f"error: {option} is empty: give a value, or leave it out\n")


@pytest.mark.parametrize(
    ("command", "name"),
    [(("generate", "", "-m", "a.png"), "BUNDLE"), (("verify", "a.png", ""), "BUNDLE"), (("cache", "add", ""), "PLANS")],
)
def test_an_empty_argument_is_refused(command: tuple[str, ...], name: str) -> None:
    done = run_command(*command)
    assert (done.code, done.err) == (2, f"error: {name} is empty: give a value, or leave it out\n")


NEEDED = [
    ("generate B -m M -o O --at 0.5", "--at", "--from"),
    ("generate B -m M -o O --from-slice 2", "--from-slice", "--from"),
    ("generate B -m M -o O --against a", "--against", "--guidance"),
    ("generate B -m M -o O --every 2", "--every", "--preview or --gif"),
    ("generate B -m M -o O --min-dice 0", "--min-dice", "--check"),
    ("generate B -m M -o O --check --retries 3", "--retries", "--min-dice"),
    ("verify F --mask M", "--mask", "BUNDLE"),
    ("verify F --require-signature K", "--require-signature", "BUNDLE"),
    ("verify F B --real R", "--real", "--mask"),
    ("verify F B --region R", "--region", "--mask"),
    ("verify F B --noise N", "--noise", "--mask"),
    ("verify F B --axis axial", "--axis", "--mask"),
    ("verify F B --map A=a", "--map", "--mask"),
    ("verify F B --threshold 0.5", "--threshold", "--mask"),
    ("verify F B --engine auto", "--engine", "--mask"),
    ("verify F B --precision fp32", "--precision", "--mask"),
    ("verify F B --device cpu", "--device", "--mask"),
    ("verify F B --threads 1", "--threads", "--mask"),
    ("verify F B --batch 2", "--batch", "--mask"),
    ("evaluate B --data D -o O --grid ddim:5", "--grid", "--cost or --all"),
    ("export C --segmenter S", "--segmenter", "--data"),
    ("export C --data D", "--data", "--segmenter"),
    ("export C --axis axial", "--axis", "--data"),
    ("export C --threshold 0.5", "--threshold", "--data"),
    ("sign --new-key K.pem --force", "--force", "--key"),
]


@pytest.mark.parametrize(("line", "option", "other"), NEEDED)
def test_an_option_that_lacks_another_is_refused(line: str, option: str, other: str) -> None:
    done = run_command(*line.split())
    expected = f"error: {option} has no effect without {other}: give that too, or leave it out\n"
    assert (done.code, done.err) == (2, expected)


MAY_BE_REPEATED = {"--map"}


@pytest.mark.parametrize(("words", "option"), TAKE_A_VALUE)
def test_an_option_is_given_once(words: str, option: str) -> None:
    done = run_command(*words.split(), option, "first", option, "second")
    said = f"error: {option} is given twice (first, second): give it once\n"
    assert done.code == 2
    assert (done.err == said) != (option in MAY_BE_REPEATED)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("generate B -m M --mask N --mask=L -o O", "--mask is given 3 times (M, N, L): give it once"),
        ("generate B -m M -oO --output P", "--output is given twice (O, P): give it once"),
        ("generate B -m M -o O --force --force", "--force is given twice: give it once"),
        ("slim C -o O --half --full", "--half and --full exclude each other: give one of them"),
    ],
)
def test_every_way_to_write_an_option_counts(line: str, said: str) -> None:
    done = run_command(*line.split())
    assert (done.code, done.err) == (2, f"error: {said}\n")


def test_what_is_declared_is_tested() -> None:
    declared = {
        (words.split()[0], name)
        for words, command in commands().items()
        for name in getattr(command.callback, "needs", {})
    }
    assert len(declared) == len(NEEDED)
    for words, command in commands().items():
        names = {param.name for param in command.params}
        for name, others in getattr(command.callback, "needs", {}).items():
            assert {name, *others} <= names, words


def test_help_is_shown_all_the_same() -> None:
    done = run_command("generate", "--at", "0.5", "--help")
    assert done.code == 0
    assert "--from-slice" in done.out
