"""The checkpoint's file: its bytes' meaning, what is refused, and that it is whole or absent."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from seggd_export.checkpoint import Checkpoint, CheckpointConfig, Provenance, load_weights_only, save_atomically
from seggd_rt.diffusion import MaskEncoding, NoiseSchedule, Prediction, name_classes
from seggd_rt.errors import CheckpointError, OutputError
from tests.training.scenes import CLASSES


@pytest.fixture
def checkpoint() -> Checkpoint:
    config = CheckpointConfig(
        unet={"in_channels": 3, "out_channels": 1, "sample_size": [16, 24]},
        image_channels=1,
        height=16,
        width=24,
        classes=name_classes(CLASSES),
        encoding=MaskEncoding.ONE_HOT,
        schedule=NoiseSchedule(prediction=Prediction.V),
        ablation=True,
        provenance=Provenance(licence="CC0-1.0", step=7, command="seggd-rt train"),
    )
    return Checkpoint(config, weights={"a": torch.ones(3)}, ema={"a": torch.full((3,), 0.1), "n": torch.tensor(5)})


def test_tensors_that_are_no_plain_arrays_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path, ones = tmp_path / "a.pt", torch.ones(2, 2)
    strange = {
        "meta": ones.to("meta"),
        "sparse": ones.to_sparse(),
        "complex64": ones.to(torch.complex64),
        "float8_e5m2": ones.to(torch.float8_e5m2),
    }
    for kind, tensor in strange.items():
        for content in ({"weights": {"a": tensor}}, [[{"deep": (tensor,)}]]):
            torch.save(content, path)
            with pytest.raises(CheckpointError, match=f"holds a {kind} tensor: save plain tensors"):
                load_weights_only(path)
    # A few bytes that state 10^12 numbers: to copy them would exhaust memory.
    torch.save({"weights": {"a": torch.zeros(1).expand(10**6, 10**6)}}, path)
    with pytest.raises(CheckpointError, match=r"states more tensor data than it stores \(4000000000000 bytes, not 4\)"):
        load_weights_only(path)
    shared = torch.ones(4)
    torch.save({"a": shared, "b": shared.view(2, 2)}, path)  # tied weights are fine
    assert load_weights_only(path)["b"].shape == (2, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: 2, (3,): None}, "has an unknown key '(3,)'"),
        ({"config": None}, "config that cannot be read"),
        ({"config": {"unet": torch.ones(2)}}, "config that cannot be read"),
        ({"config": {1: {2: []}}}, "config that cannot be read"),
        ({"weights": [1]}, "no table of tensors by name"),
        ({"weights": {1: torch.ones(1)}}, "no table of tensors by name"),
    ],
)
def test_strange_values_are_refused(
    change: dict[Any, Any], message: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path)
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.load(path)
    assert message in str(caught.value)


def test_sizes_that_no_image_has_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for height in (10**9, 10**30):
        checkpoint.save(path)
        content = torch.load(path, weights_only=True)
        content["config"]["height"] = height
        torch.save(content, path)
        with pytest.raises(CheckpointError, match="config that cannot be read"):
            Checkpoint.load(path)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pt")
    (tmp_path / "b.pt").symlink_to("/dev/zero")
    for path in (tmp_path / "a.pt", tmp_path / "b.pt"):
        with pytest.raises(CheckpointError, match="it is a pipe or a device"):
            Checkpoint.load(path)


def test_file_is_plain(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    assert content["format"] == "seggd-checkpoint/1"
    assert set(content) == {"format", "config", "weights", "ema"}
    assert content["config"]["classes"][2] == {"id": 2, "name": "disc", "color": (77, 187, 213)}
    assert content["config"]["encoding"] == "one-hot"
    assert content["config"]["schedule"]["prediction"] == "v"
    assert content["config"]["provenance"]["licence"] == "CC0-1.0"
    assert torch.equal(content["ema"]["a"], torch.full((3,), 0.1))


def test_round_trip(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "new" / "a.pt")
    loaded = Checkpoint.load(tmp_path / "new" / "a.pt")
    assert loaded.config == checkpoint.config
    assert loaded.weights is not None
    assert torch.equal(loaded.weights["a"], torch.ones(3))


def test_best_weights_are_the_average_where_there_is_one(checkpoint: Checkpoint) -> None:
    assert checkpoint.best_weights()["a"][0].item() == pytest.approx(0.1)
    assert replace(checkpoint, ema=None).best_weights()["a"][0].item() == 1
    with pytest.raises(CheckpointError, match="holds no weights"):
        replace(checkpoint, ema=None, weights=None).best_weights()


def test_slim_keeps_the_best_in_half(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.slim().save(tmp_path / "a.pt")
    slim = Checkpoint.load(tmp_path / "a.pt")
    assert slim.weights is None
    assert slim.ema is not None
    assert slim.ema["a"].dtype == torch.float16
    assert slim.ema["n"].dtype == torch.int64
    best = slim.best_weights()["a"]
    assert best.dtype == torch.float32
    torch.testing.assert_close(best, torch.full((3,), 0.1), rtol=1e-3, atol=0)
    full = replace(checkpoint, ema=None).slim(half=False)
    assert full.ema is None
    assert full.weights is not None
    assert full.weights["a"].dtype == torch.float32


def test_slim_refuses_to_lose_range(checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="a holds values that float16 cannot: use --full"):
        replace(checkpoint, ema={"a": torch.full((3,), 1e5)}).slim()


class _Code:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "a.pt"
    torch.save({"weights": _Code(tmp_path / "run")}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"a\.pt holds more than weights, 'posix\.mkdir'"):
        Checkpoint.load(path)
    assert not (tmp_path / "run").exists()


def test_a_saved_module_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"'torch\.nn\.modules\.linear\.Linear'.*Save a state dict"):
        Checkpoint.load(tmp_path / "a.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_damage_is_an_error_of_ours(checkpoint: Checkpoint, tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "a.pt"
    torch.save({"format": "x", "weights": checkpoint.weights}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    refused = 0
    for seed in range(150):
        rng, damaged = random.Random(seed), bytearray(whole)  # noqa: S311
        if seed % 3 == 0:
            del damaged[rng.randrange(len(whole)) :]
        for _ in range(seed % 3):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            load_weights_only(path)
        except CheckpointError:
            refused += 1
    assert refused > 50
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_weights_only(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt does not exist"):
        Checkpoint.load(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match=r"cannot be read \(Is a directory\)"):
        Checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", None, "is no seggd-rt checkpoint"),
        ("format", "seggd-resume/1", "is no seggd-rt checkpoint"),
        ("format", "seggd-checkpoint/2", "update seggd-rt"),
        ("extra", 1, "unknown key 'extra'"),
        ("config", None, r"config that cannot be read"),
        ("weights", {"a": 1.0}, "'weights' that is no table of tensors"),
        ("ema", [torch.ones(1)], "'ema' that is no table of tensors"),
    ],
)
def test_other_contents_are_refused(
    checkpoint: Checkpoint, tmp_path: Path, key: str, value: object, message: str
) -> None:
    checkpoint.save(tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    torch.save({**content, key: value}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.load(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 0}, "image is 1 x 0 x 24"),
        ({"height": "16"}, r"Expected `int`, got `str` - at `\$.height`"),
        ({"encoding": "label-over-255"}, "unet has 3 channels in and 1 out; image and mask need 2 and 1"),
        ({"empty_subset": 2.0}, "empty_subset is 2.0"),
        ({"colour": 1}, "unknown field `colour`"),
        ({"schedule": {"train_steps": 0}}, "train_steps is 0"),
        ({"classes": [{"id": 1, "name": "a", "color": [0, 0, 0]}]}, "class ids are"),
    ],
)
def test_config_is_checked(checkpoint: Checkpoint, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    config = {**msgspec.to_builtins(checkpoint.config), **changes}
    torch.save({"format": "seggd-checkpoint/1", "config": config, "weights": {}, "ema": None}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.load(tmp_path / "a.pt")


class _Unwritable:
    def __reduce__(self) -> str:
        raise OSError(28, "No space left on device")


def test_a_failed_write_leaves_the_old_file_alone(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path)
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"a\.pt cannot be written whole.*disk full"):
        save_atomically({"weights": torch.ones(1000), "last": _Unwritable()}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_a_folder_that_cannot_be_made(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        checkpoint.save(tmp_path / "file" / "a.pt")
