"""A run that starts from another checkpoint's weights has them, whatever the image size; other networks are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seggd_export.checkpoint import Checkpoint
from seggd_rt.diffusion import MaskEncoding, Prediction
from seggd_rt.errors import CheckpointError, OptionError
from seggd_training.loop import TrainOptions, train

Make = Callable[..., TrainOptions]


@pytest.fixture
def source(options: Make, tmp_path: Path) -> Path:
    """A checkpoint of 16x16 images."""
    train(options(output=tmp_path / "source", steps=2))
    return tmp_path / "source" / "last.pt"


def test_weights_are_those_of_the_checkpoint(options: Make, source: Path, tmp_path: Path) -> None:
    run = tmp_path / "larger"
    train(options(output=run, init=source, image_size=(32, 32), steps=1, lr=1e-30, ema_decay=0.0))
    expected, found = Checkpoint.load(source).best_weights(), Checkpoint.load(run / "last.pt")
    assert (found.config.height, found.config.width) == (32, 32)
    assert all(torch.equal(found.best_weights()[name], expected[name]) for name in expected)


def test_a_run_with_initial_weights_resumes_without_them(options: Make, source: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(options(output=whole, init=source, steps=6))
    train(options(output=parts, init=source, steps=6, stop_after=3))
    source.unlink()
    train(options(output=parts, resume=True, steps=6))
    first, second = (Checkpoint.load(run / "last.pt").best_weights() for run in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_resume_with_initial_weights_is_refused(options: Make, source: Path) -> None:
    with pytest.raises(OptionError, match="--init and --resume cannot be combined"):
        options(init=source, resume=True)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"network": "small"}, "network"),
        ({"encoding": MaskEncoding.LABEL_OVER_255}, "network"),
        ({"prediction": Prediction.V}, "prediction"),
    ],
)
def test_another_network_is_refused(options: Make, source: Path, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(OptionError, match=f"has another {what} than this run"):
        train(options(init=source, output=source.parent / "other", **changes))


def test_only_the_entries_that_differ_are_named(options: Make, source: Path, tmp_path: Path) -> None:
    unet = Checkpoint.load(source).config.unet
    config = tmp_path / "unet.json"
    config.write_text(
        json.dumps({key: unet[key] for key in unet if key != "attention_head_dim"} | {"layers_per_block": 2})
    )
    with pytest.raises(OptionError) as caught:
        train(options(init=source, output=tmp_path / "other", network=str(config)))
    found = "attention_head_dim 8, here not set; layers_per_block 1, here 2"
    assert f"has another network than this run ({found}): choose the same options" in str(caught.value)


def test_a_missing_checkpoint_is_refused(options: Make, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        train(options(init=tmp_path / "no.pt"))
