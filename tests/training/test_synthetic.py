"""Synthetic pairs as a PyTorch dataset."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import copy_bundle
from numpy.typing import NDArray
from torch.utils.data import DataLoader

import seggd_rt
from seggd_rt.bundle import Bundle
from seggd_rt.drawing import HowToDraw
from seggd_rt.errors import LabelMapError, OptionError, SignatureError
from seggd_rt.noise import derive_seed, draw_subset
from seggd_training import SyntheticDataset, SyntheticDictDataset

HOW: HowToDraw = {"steps": 2}


@pytest.fixture
def masks(golden_mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([golden_mask, golden_mask[::-1], golden_mask[:, ::-1]])


def make(bundle: Path, masks: Any, **options: Any) -> SyntheticDataset:
    return SyntheticDataset(bundle, masks, engine="onnxruntime", how=HOW, **options)


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
    image, _ = make(tiny_rgb_bundle, np.ones((1, 16, 20), np.uint8))[0]
    assert image.shape == (3, 16, 20)
    assert image.is_contiguous()


def test_classes_may_be_random(tiny_bundle: Path, tiny_generator: seggd_rt.Generator, masks: NDArray[np.uint8]) -> None:
    pairs = make(tiny_bundle, masks, random_classes=True)
    names = [c.name for c in tiny_generator.manifest.classes]
    for index in range(3):
        seed = derive_seed(0, index)
        kept = [names[i] for i in draw_subset(seed, 3)]
        image, mask = pairs[index]
        np.testing.assert_array_equal(mask, masks[index])
        np.testing.assert_array_equal(image[0], tiny_generator(masks[index], seed=seed, steps=2, keep=kept))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_draw_the_same_pairs(
    tiny_bundle: Path, masks: NDArray[np.uint8], context: str, recwarn: pytest.WarningsRecorder
) -> None:
    pairs = make(tiny_bundle, masks, copies=2)
    alone = torch.stack([pairs[index][0] for index in range(6)])  # the parent has an engine by then
    loader = DataLoader(pairs, batch_size=2, num_workers=2, multiprocessing_context=context)
    torch.testing.assert_close(torch.cat([images for images, _ in loader]), alone, rtol=0, atol=0)


def test_it_travels_without_its_engine(tiny_bundle: Path, masks: NDArray[np.uint8]) -> None:
    pairs = make(tiny_bundle, masks)
    image = pairs[0][0]
    again = pickle.loads(pickle.dumps(pairs))  # noqa: S301 - our own
    assert again._generator is None
    torch.testing.assert_close(again[0][0], image, rtol=0, atol=0)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_required_signature_is_required_of_workers_too(
    tiny_bundle: Path, masks: NDArray[np.uint8], context: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'seggd-rt[sign]'")
    from seggd_rt.signing import SigningKey

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    key, public = SigningKey.create(tmp_path / "K.pem")
    with pytest.raises(SignatureError, match="has no signature"):
        make(tiny_bundle, masks, require_signature=public)
    bundle = copy_bundle(tiny_bundle, tmp_path)
    Bundle.open(bundle).sign(key)
    pairs = make(bundle, masks, require_signature=public)
    image = pairs[0][0]
    (copy,) = {path.parent for path in pairs._open().bundle._verified.values()}
    (drawn, _), *_ = DataLoader(pairs, num_workers=2, multiprocessing_context=context)
    torch.testing.assert_close(drawn[0], image, rtol=0, atol=0)
    # A worker that was forked let go of the parent's copies and did not remove them; each removed its own.
    assert list(tmp_path.glob("seggd-*")) == [copy.parent]
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
    ],
)
def test_what_it_refuses(
    tiny_bundle: Path, masks: NDArray[Any], options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        make(tiny_bundle, masks, **options)
