"""Synthetic pairs as a PyTorch dataset."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

import seggd_rt
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import derive_seed, draw_subset
from seggd_rt.engine import registry
from seggd_rt.errors import EngineError, LabelMapError, OptionError, SignatureError
from seggd_rt.inference import HowToDraw
from seggd_training import SyntheticDataset, SyntheticDictDataset
from tests.bundles import copy_bundle

HOW: HowToDraw = {"steps": 2}


@pytest.fixture
def masks(golden_mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([golden_mask, golden_mask[::-1], golden_mask[:, ::-1]])


def make(bundle: Path, masks: Any, **options: Any) -> SyntheticDataset:
    return SyntheticDataset(bundle, masks, engine="onnxruntime", **{"how": HOW, **options})


def test_a_pair_is_what_generate_draws(
    tiny_bundle: Path, tiny_generator: seggd_rt.Generator, masks: NDArray[np.uint8]
) -> None:
    pairs = make(tiny_bundle, masks, copies=2, seed=5)
    assert len(pairs) == 6
    image, mask = pairs[4]
    assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((1, 24, 32), torch.float32, (24, 32), torch.int64)
    np.testing.assert_array_equal(mask, masks[1])
    expected = tiny_generator(masks[1], seed=derive_seed(5, 1, 1), steps=2)
    np.testing.assert_array_equal(image[0], expected)
    torch.testing.assert_close(pairs[-2][0], image, rtol=0, atol=0)
    with pytest.raises(IndexError):
        pairs[6]


def test_rgb(tiny_rgb_bundle: Path) -> None:
    pairs = make(tiny_rgb_bundle, np.ones((2, 16, 20), np.uint8))
    image, _ = pairs[0]
    assert image.shape == (3, 16, 20)
    assert image.is_contiguous()
    images, _ = next(iter(DataLoader(pairs, batch_size=2)))
    torch.testing.assert_close(images, torch.stack([image, pairs[1][0]]), rtol=0, atol=0)


def test_classes_may_be_random(tiny_bundle: Path, tiny_generator: seggd_rt.Generator, masks: NDArray[np.uint8]) -> None:
    pairs = make(tiny_bundle, masks, copies=4, random_classes=True)
    names = [c.name for c in tiny_generator.manifest.classes]
    subsets = set()
    for index in range(12):
        whole, seed = masks[index % 3], derive_seed(0, index % 3, index // 3)
        ids = draw_subset(seed, 3)
        image, mask, kept = pairs[index]
        assert (mask.dtype, kept.dtype) == (torch.int64, torch.bool)
        np.testing.assert_array_equal(mask, np.where(np.isin(whole, ids), whole, 0))
        assert kept.tolist() == [True, *(i in ids for i in (1, 2, 3))]
        expected = tiny_generator(whole, seed=seed, steps=2, keep=[names[i] for i in ids])
        np.testing.assert_array_equal(image[0], expected)
        subsets.add(ids)
    assert len(subsets) > 2


def test_classes_left_out_are_background(
    tiny_bundle: Path, tiny_generator: seggd_rt.Generator, masks: NDArray[np.uint8]
) -> None:
    name = tiny_generator.manifest.classes[2].name
    for how in ({"drop": iter([name])}, {"keep": (c.name for c in tiny_generator.manifest.classes[1:] if c.id != 2)}):
        pairs = SyntheticDataset(tiny_bundle, masks, engine="onnxruntime", how={**HOW, **how})  # type: ignore[typeddict-item]
        for index in (1, 2):
            image, mask = pairs[index]
            np.testing.assert_array_equal(mask, np.where(masks[index] == 2, 0, masks[index]))
            drawn = tiny_generator(masks[index], seed=derive_seed(0, index), steps=2, drop=name)
            np.testing.assert_array_equal(image[0], drawn)


@pytest.mark.parametrize("random_classes", [False, True])
def test_a_loader_draws_each_batch_as_one(
    tiny_bundle: Path, masks: NDArray[np.uint8], random_classes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = make(tiny_bundle, masks, copies=2, random_classes=random_classes)
    alone, shapes, draw = [pairs[index] for index in range(6)], [], seggd_rt.Generator.__call__

    def noted(self: seggd_rt.Generator, mask: NDArray[np.uint8], **options: Any) -> Any:
        shapes.append(mask.shape)
        return draw(self, mask, **options)

    monkeypatch.setattr(seggd_rt.Generator, "__call__", noted)
    for size, expected in ((6, [6]), (4, [4, 2]), (1, [1] * 6)):
        batches = list(DataLoader(pairs, batch_size=size))
        assert [shape[0] for shape in shapes] == expected
        for found, one in zip(zip(*batches, strict=True), zip(*alone, strict=True), strict=True):
            torch.testing.assert_close(torch.cat(found), torch.stack(one), rtol=0, atol=0)
        shapes.clear()
    again = torch.stack([image for image, *_ in pairs.__getitems__([5, -2, 5])])
    torch.testing.assert_close(again, torch.stack([alone[i][0] for i in (5, 4, 5)]), rtol=0, atol=0)
    assert pairs.__getitems__([]) == []
    with pytest.raises(IndexError):
        pairs.__getitems__([0, 6])


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_draw_the_same_pairs(
    tiny_bundle: Path, masks: NDArray[np.uint8], context: str, recwarn: pytest.WarningsRecorder
) -> None:
    pairs = make(tiny_bundle, masks, copies=2, random_classes=True)
    alone = [pairs[index] for index in range(6)]  # the parent has an engine by then
    loader = DataLoader(pairs, batch_size=2, num_workers=2, multiprocessing_context=context)
    for found, one in zip(zip(*loader, strict=True), zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(found), torch.stack(one), rtol=0, atol=0)


def test_workers_refuse_an_engine_that_a_fork_would_hang(tiny_bundle: Path, masks: NDArray[np.uint8]) -> None:
    pairs = _by_openvino(tiny_bundle, masks)
    image = pairs[0][0]  # the parent has used OpenVINO by then
    options = {"batch_size": 2, "num_workers": 1, "timeout": 60}
    with pytest.raises(EngineError, match=r"OpenVINO was used before this process was forked.*context='spawn'"):
        next(iter(DataLoader(pairs, multiprocessing_context="fork", **options)))
    images, *_ = next(iter(DataLoader(pairs, multiprocessing_context="spawn", **options)))
    np.testing.assert_allclose(images[0], image, atol=1e-4)


def _by_openvino(bundle: Path, masks: NDArray[np.uint8]) -> SyntheticDataset:
    there = registry.find_engine("openvino").availability("cpu")
    if not there.usable:
        pytest.skip(f"openvino: {there.reason}")
    return SyntheticDataset(bundle, masks, engine="openvino", precision="fp32", random_classes=True, how=HOW)


def test_it_travels_without_its_engine(tiny_bundle: Path, masks: NDArray[np.uint8]) -> None:
    pairs = make(tiny_bundle, masks)
    image = pairs[0][0]
    again = pickle.loads(pickle.dumps(pairs))  # noqa: S301 - our own
    torch.testing.assert_close(again[0][0], image, rtol=0, atol=0)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_required_signature_is_required_of_workers_too(
    tiny_bundle: Path, masks: NDArray[np.uint8], context: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'seggd-rt[sign]'")
    from seggd_rt.bundle import SigningKey

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    key, public = SigningKey.create(tmp_path / "K.pem")
    with pytest.raises(SignatureError, match="has no signature"):
        make(tiny_bundle, masks, require_signature=public)
    bundle = copy_bundle(tiny_bundle, tmp_path)
    Bundle.open(bundle).sign(key)
    pairs = make(bundle, masks, require_signature=public)
    image = pairs[0][0]
    (drawn, _), *_ = DataLoader(pairs, num_workers=2, multiprocessing_context=context)
    torch.testing.assert_close(drawn[0], image, rtol=0, atol=0)
    assert not list(tmp_path.glob("seggd-*"))  # graphs go to engines from memory
    (bundle / "bundle.sig").unlink()
    again = pickle.loads(pickle.dumps(pairs))  # noqa: S301 - our own
    with pytest.raises(SignatureError, match="has no signature"):
        again[0]


def test_dictionaries_go_through_monai(tiny_bundle: Path, masks: NDArray[np.uint8]) -> None:
    transforms = pytest.importorskip("monai.transforms", reason="monai is not installed: pip install 'seggd-rt[eval]'")
    pairs = SyntheticDictDataset(make(tiny_bundle, masks))
    assert len(pairs) == 3
    flipped = transforms.Flipd(keys=["image", "label"], spatial_axis=0)(pairs[0])
    np.testing.assert_array_equal(flipped["label"][0], masks[0][::-1])
    assert set(SyntheticDictDataset(make(tiny_bundle, masks), keys=("x", "y"))[0]) == {"x", "y"}


def test_dictionaries_of_random_classes_go_through_monai(tiny_bundle: Path, masks: NDArray[np.uint8]) -> None:
    data = pytest.importorskip("monai.data", reason="monai is not installed: pip install 'seggd-rt[eval]'")
    transforms = pytest.importorskip("monai.transforms", reason="monai is not installed: pip install 'seggd-rt[eval]'")
    pairs = make(tiny_bundle, masks, random_classes=True)
    named = SyntheticDictDataset(pairs, kept="classes")
    flipped = data.Dataset(named, transforms.Flipd(keys=["image", "label"], spatial_axis=0))
    for dataset, flip, workers in ((named, False, 0), (named, False, 1), (flipped, True, 0)):
        pairs[0]  # which opens an engine in this process
        (batch,) = data.DataLoader(dataset, batch_size=3, num_workers=workers)
        for index in range(3):
            image, mask, kept = pairs[index]
            expected = (image.flip(1), mask[None].flip(1)) if flip else (image, mask[None])
            np.testing.assert_array_equal(batch["image"][index], expected[0])
            np.testing.assert_array_equal(batch["label"][index], expected[1])
            assert batch["classes"][index].tolist() == kept.tolist()


def test_masks_may_be_files(tiny_bundle: Path, masks: NDArray[np.uint8], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", masks[:2])
    np.save(tmp_path / "b.npy", np.repeat(masks[2], 2, axis=1))
    pairs = make(tiny_bundle, tmp_path)
    np.testing.assert_array_equal(torch.stack([mask for _, mask in (pairs[i] for i in range(3))]), masks)


@pytest.mark.parametrize(
    ("masks", "options", "error"),
    [
        (np.zeros((2, 24, 32)), {}, LabelMapError),
        (np.full((2, 24, 32), 9), {}, LabelMapError),
        (np.ones((24, 32), np.uint8), {}, OptionError),
        (np.ones((1, 24, 32), np.uint8), {"copies": 0}, OptionError),
        (np.ones((1, 24, 32), np.uint8), {"random_classes": True, "how": {"keep": ["cavity"]}}, OptionError),
        (np.ones((1, 24, 32), np.uint8), {"how": {"keep": ["lung"]}}, OptionError),
    ],
)
def test_what_it_refuses(
    tiny_bundle: Path, masks: NDArray[Any], options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        make(tiny_bundle, masks, **options)
