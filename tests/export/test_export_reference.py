"""The big proof: a checkpoint folder of the reference's kind, exported, draws the reference pipeline's image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel
from numpy.typing import NDArray

import seggd_rt
from seggd_export import export_bundle
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import IMAGE_PSNR_DB, Precision
from tests.export.tiny_networks import CLASSES, disc_label_maps

TOLERANCE = 1e-4
"""Largest difference of a pixel in [0, 1]: what the project promises for fp32."""


@pytest.fixture(scope="module")
def folder(disc_unet: UNet2DModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the reference's training saves: a pipeline's folder with its own class name."""
    folder = tmp_path_factory.mktemp("reference") / "ddim-discs-32-segguided"
    disc_unet.save_pretrained(folder / "unet")
    DDIMScheduler(num_train_timesteps=1000).save_pretrained(folder / "scheduler")
    index = {"_class_name": "SegGuidedDDIMPipeline", "_diffusers_version": "0.21.4"}
    index |= {"scheduler": ["diffusers", "DDIMScheduler"], "unet": ["diffusers", "UNet2DModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    return export_bundle(folder / "unet", classes=CLASSES)


def reference_image(folder: Path, label_map: NDArray[np.uint8], noise: NDArray[np.float32], steps: int) -> np.ndarray:  # type: ignore[type-arg]
    """Sample as the reference does: load the folder, concatenate label / 255 at each step, let diffusers' DDIM step."""
    unet = UNet2DModel.from_pretrained(folder / "unet", use_safetensors=True).eval()
    scheduler = DDIMScheduler(num_train_timesteps=1000)
    scheduler.set_timesteps(steps)
    mask = torch.from_numpy(label_map).float()[None, None] / 255
    image = torch.from_numpy(noise)[None]
    with torch.no_grad():
        for t in scheduler.timesteps:
            predicted = unet(torch.cat((image, mask), dim=1), t).sample
            image = scheduler.step(predicted, t, image).prev_sample
    return (image / 2 + 0.5).clamp(0, 1)[0, 0].numpy()


def test_folder_is_exported_with_the_references_facts(bundle: Path, folder: Path) -> None:
    assert bundle == folder.parent / "ddim-discs-32-segguided.seggd"
    manifest = Bundle.open(bundle).manifest
    assert manifest.provenance.checkpoint_format == "diffusers-pipeline"
    assert manifest.mask.encoding == "label-over-255"
    assert manifest.mask.trained_with_ablation is None
    assert [graph.precision for graph in manifest.graphs] == [Precision.FP32, Precision.FP16]
    # A trained network does not amplify rounding: whole images agree too.
    for graph in manifest.graphs:
        assert graph.parity.image_psnr_db is None or graph.parity.image_psnr_db > IMAGE_PSNR_DB


@pytest.mark.parametrize("steps", [50, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_draws_the_reference_pipelines_image(bundle: Path, folder: Path, steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    label_map = disc_label_maps(1, 32, rng)[0]
    noise = rng.standard_normal((1, 32, 32)).astype(np.float32)
    expected = reference_image(folder, label_map, noise, steps)
    assert expected.std() > 0.05, "the network drew nothing"
    with seggd_rt.load(bundle, engine="onnxruntime", precision="fp32", threads=1) as generator:
        image = generator(label_map, noise=noise, steps=steps)
    assert np.abs(image - expected).max() <= TOLERANCE
