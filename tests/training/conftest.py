"""Small data sets and runs that take milliseconds a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.training.scenes import draw_scenes, npz_arrays

if TYPE_CHECKING:
    from seggd_training.loop import TrainOptions

if any(find_spec(module) is None for module in ("torch", "diffusers", "accelerate", "tensorboard")):
    collect_ignore_glob = ["test_*.py"]  # the core is also tested without the extra `train`


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute on one thread: results repeat bit for bit, and neighbours keep their cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    """An .npz of 9 training and 3 validation images, 16x16."""
    path = tmp_path / "scenes.npz"
    np.savez(path, **npz_arrays())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of the reference's layout: 3 images in each of train and val, 16x12 PNG."""
    root = tmp_path / "scenes"
    drawn = draw_scenes(6, 16, 12)
    for split, part in (("train", slice(3)), ("val", slice(3, 6))):
        images, labels = (array[part] for array in drawn)
        for kind, arrays in (("images", images), ("masks/all", labels)):
            (root / kind / split).mkdir(parents=True)
            for i, array in enumerate(arrays):
                Image.fromarray(array).save(root / kind / split / f"{i}.png")
    return root


@pytest.fixture
def options(npz: Path, tmp_path: Path) -> Callable[..., TrainOptions]:
    """Make options of a tiny run, with changes."""

    from seggd_training.loop import TrainOptions

    def make(**changes: Any) -> TrainOptions:
        defaults: dict[str, Any] = {
            "data": npz, "output": tmp_path / "run", "network": "tiny", "steps": 8, "batch_size": 4, "lr": 1e-3,
            "warmup_steps": 2, "ema_decay": 0.9, "augment": True, "sample_every": 0, "validate_every": 0,
        }  # fmt: skip
        return TrainOptions(**{**defaults, **changes})

    return make
