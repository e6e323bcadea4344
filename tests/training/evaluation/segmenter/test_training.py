from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.grey_hearts import heart_dataset, small_config, trained_segmenter

pytest.importorskip("monai", reason="needs the extra `eval`")

import torch

from seggd_rt.errors import CheckpointError, DataError, OptionError
from seggd_training.evaluation.measures.scores import dice
from seggd_training.evaluation.segmenter import Segmenter, standardize
from seggd_training.evaluation.segmenter.training import augmentation, train_segmenter
from seggd_training.loop import fingerprint


def unit(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / 255


def test_it_learns_to_segment_images_it_has_not_seen() -> None:
    segmenter, losses = trained_segmenter()
    assert len(losses) == 80 and np.mean(losses[-8:]) < 0.5 * losses[0]
    test_set = heart_dataset(6, seed=1)
    predicted = segmenter(unit(test_set.images), batch=4)
    assert predicted.dtype == np.uint8 and predicted.shape == (6, 24, 32)
    assert np.nanmean(dice(predicted, test_set.label_maps, 4)) > 0.8


def test_same_seed_same_weights_and_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(1)
    first, second, other = (train_segmenter(heart_dataset(8), small_config(seed=seed)) for seed in (0, 0, 1))
    state = [s.network.state_dict()["final_conv.weight"] for s in (first, second, other)]
    assert torch.equal(state[0], state[1])
    assert not torch.equal(state[0], state[2])
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))


def test_brightness_and_contrast_do_not_matter() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert torch.allclose(standardize(images), standardize(0.5 * images + 0.1), atol=1e-3)
    assert torch.isfinite(standardize(torch.zeros(1, 1, 4, 4))).all()


def test_augmentation_moves_image_and_mask_together_and_keeps_left_left() -> None:
    transform = augmentation(32, 32, seed=0)
    label = torch.zeros(1, 32, 32)
    label[:, 12:20, 4:10] = 1  # left
    label[:, 12:20, 22:28] = 2  # right
    for _ in range(20):
        out = transform({"image": label / 2, "label": label})
        moved, image = out["label"].as_tensor()[0], out["image"].as_tensor()[0]
        assert set(moved.unique().tolist()) <= {0.0, 1.0, 2.0}
        columns = [torch.nonzero(moved == k)[:, 1].float().mean() for k in (1, 2)]
        assert columns[0] < columns[1]
        assert image[moved == 2].mean() > image[moved == 1].mean() > image[moved == 0].mean()


def test_a_saved_segmenter_is_the_same(tmp_path: Path) -> None:
    data = heart_dataset(8)
    segmenter = train_segmenter(data, small_config())
    segmenter.save(tmp_path / "s.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["s.pt"]
    assert torch.load(tmp_path / "s.pt", weights_only=True)["format"] == "seggd-segmenter/1"
    loaded = Segmenter.load(tmp_path / "s.pt")
    assert loaded.config == segmenter.config
    assert loaded.data == fingerprint(data)
    assert np.array_equal(loaded(unit(data.images)), segmenter(unit(data.images)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.pop("format"),
        lambda content: content.pop("weights"),
        lambda content: content["weights"].popitem(),
        lambda content: content["config"].update(steps="many"),
        lambda content: content["config"].update(features=[7] * 6),
        lambda content: content.update(data=3),
    ],
)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "s.pt"
    train_segmenter(heart_dataset(8), small_config(1)).save(path)
    content = torch.load(path, weights_only=True)
    damage(content)  # type: ignore[operator]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"s\.pt is no"):
        Segmenter.load(path)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(24, 32, 1\)"):
        train_segmenter(heart_dataset(4), small_config(height=16))


@pytest.mark.parametrize("changes", [{"steps": 0}, {"features": (8, 8, 8, 8, 8, 9)}, {"classes": ("background",)}])
def test_a_configuration_that_cannot_be_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        small_config(**{"steps": 1, **changes})  # type: ignore[arg-type]
