"""The state to resume from: one that was damaged, or was made to do harm, is refused in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seggd_rt.errors import CheckpointError, SeggdError
from seggd_training.loop import TrainOptions, train

State = dict[str, Any]
FIRST = "conv_in.weight"


def moments(state: State) -> State:
    first: State = state["optimizer"]["state"][0]
    return first


HUGE = torch.zeros(1).expand(10**6, 10**6)
CHANGES: dict[str, tuple[Callable[[State], object], str]] = {
    "no options": (lambda state: state.update(options=None), "Expected `object`, got `null` - at `$.options`"),
    "options by numbers": (lambda state: state["options"].update({1: 2}), "resume state"),
    "options of tensors": (lambda state: state["options"].update(seed=torch.ones(2)), "resume state"),
    "another key": (lambda state: state.update({1: 2}), "'1' is missing or unknown"),
    "a step before the first": (lambda state: state.update(step=-1), "Expected `int` >= 0 - at `$.step`"),
    "a step of text": (lambda state: state.update(step="2"), "Expected `int`, got `str`"),
    "a step after the last": (lambda state: state.update(step=1 << 62), ", --steps is 8): start another run"),
    "a time of text": (lambda state: state.update(elapsed_s="x"), "Expected `float`, got `str`"),
    "no optimizer": (lambda state: state.update(optimizer={}), "required field `state`"),
    "no moments": (lambda state: state["optimizer"].update(state={}), "lacks the optimizer's state"),
    "a weight's moments missing": (lambda state: state["optimizer"]["state"].pop(0), "lacks the optimizer's state"),
    "a moment missing": (lambda state: moments(state).pop("exp_avg"), "optimizer states of weight 0"),
    "a moment of another shape": (lambda state: moments(state).update(exp_avg=torch.ones(3)), "('exp_avg')"),
    "a moment of integers": (
        lambda state: moments(state).update(exp_avg=moments(state)["exp_avg"].long()), "('exp_avg')"
    ),
    "a moment that is no tensor": (lambda state: moments(state).update(exp_avg=3), "not a complete resume state"),
    "no weights": (lambda state: state.update(weights=None), "Expected `object`, got `null`"),
    "a weight missing": (lambda state: state["weights"].pop(FIRST), f"weights of another network ('{FIRST}')"),
    "a weight of another shape": (lambda state: state["weights"].update({FIRST: torch.ones(1)}), f"('{FIRST}')"),
    "an average of another shape": (lambda state: state["ema"].update({FIRST: torch.ones(1)}), "moving average"),
    "an average of integers": (lambda state: state["ema"].update({FIRST: 5}), "not a complete resume state"),
    "a scale": (lambda state: state.update(scaler={"scale": 1.0}), "a gradient scaler that does not fit this run"),
    "a tensor of 10^12 numbers": (
        lambda state: state["ema"].update({FIRST: HUGE}), "states more tensor data than it stores (4000000"
    ),
    "a sparse tensor": (lambda state: state["ema"].update({FIRST: torch.eye(3).to_sparse()}), "holds a sparse tensor"),
    "a tensor of no memory": (lambda state: moments(state).update(exp_avg=HUGE.to("meta")), "holds a meta tensor"),
}  # fmt: skip


@pytest.fixture
def stopped(options: Callable[..., TrainOptions], tmp_path: Path) -> Path:
    """A run's state after two of eight steps."""
    train(options(stop_after=2))
    return tmp_path / "run" / "resume.pt"


def test_damaged_states_are_refused(options: Callable[..., TrainOptions], stopped: Path) -> None:
    whole = stopped.read_bytes()
    for name, (change, message) in CHANGES.items():
        stopped.write_bytes(whole)
        state = torch.load(stopped, weights_only=True)
        change(state)
        torch.save(state, stopped)
        with pytest.raises(CheckpointError) as caught:
            train(options(resume=True))
        assert message in str(caught.value), name
        assert "\n" not in str(caught.value), name
        assert str(stopped) in str(caught.value), name


def test_settings_of_the_optimizer_are_the_options(options: Callable[..., TrainOptions], stopped: Path) -> None:
    state = torch.load(stopped, weights_only=True)
    state["optimizer"]["param_groups"] = [{"lr": "fast"}]
    torch.save(state, stopped)
    assert train(options(resume=True)).step == 8


def test_a_pipe_is_not_waited_for(options: Callable[..., TrainOptions], stopped: Path) -> None:
    stopped.unlink()
    os.mkfifo(stopped)
    with pytest.raises(SeggdError, match="it is a pipe"):
        train(options(resume=True))


@pytest.mark.parametrize("line", ["\xff", "[1]", '"x"', "null", "{}", '{"step":"x"}', "[" * 100_000])
def test_lines_of_the_log_that_are_not_of_a_run_are_dropped(
    options: Callable[..., TrainOptions], stopped: Path, line: str
) -> None:
    log = stopped.with_name("log.jsonl")
    log.write_bytes(line.encode("latin-1") + b"\n" + b'{"step":1}\n')
    assert train(options(resume=True, stop_after=3)).step == 3
    assert log.read_text().splitlines()[0] == '{"step":1}'
