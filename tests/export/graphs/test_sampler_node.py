"""`sampler.onnx` from Node.js, by the `onnxruntime-node` that `make node` installs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import seggd_rt
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import normal
from tests.export.tiny_networks import disc_label_maps
from tests.paths import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "node"
TOLERANCE = 1e-5
"""Of whole images of a trained network, which does not amplify what two builds of ONNX Runtime round differently."""


@pytest.fixture(scope="session")  # as the bundles, which are then not made in vain
def node() -> str:
    """The `node` command; skips where it or the package is missing."""
    command = shutil.which("node")
    if command is None:
        pytest.skip("there is no node on this machine's PATH")
    if not (EXAMPLE / "node_modules" / "onnxruntime-node").is_dir():
        pytest.skip("onnxruntime-node is not installed: make node")
    return command


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("keep", [["ring", "disc"], ["disc"]], ids=" ".join)
def test_node_draws_the_generators_images(
    node: str, disc_bundle: Path, tmp_path: Path, batch: int, keep: list[str]
) -> None:
    label_maps = disc_label_maps(batch, 32, np.random.default_rng(batch))
    noise = np.stack([normal(seed, (1, 32, 32)) for seed in range(batch)])
    shutil.copy(Bundle.open(disc_bundle).sampler_file(), tmp_path)
    (tmp_path / "label_map").write_bytes(label_maps.tobytes())
    (tmp_path / "keep").write_bytes(bytes([1, "ring" in keep, "disc" in keep]))
    (tmp_path / "noise").write_bytes(noise.tobytes())
    result = run(node, Path(__file__).with_name("sampler.mjs"), tmp_path, *map(str, (batch, 1, 32, 32, 3)))
    assert result.returncode == 0, result.stderr
    image = np.fromfile(tmp_path / "image", np.float32).reshape(batch, 32, 32)
    with seggd_rt.load(disc_bundle, engine="onnxruntime", precision="fp32", threads=1) as generator:
        expected = generator(label_maps, noise=noise, steps=10, keep=keep)
    np.testing.assert_allclose(image, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("mode", ["L", "P"])
@pytest.mark.parametrize("bundle", ["disc_bundle", "wide_bundle"])
def test_the_example_draws_a_seeds_image(
    node: str, bundle: str, tmp_path: Path, request: pytest.FixtureRequest, mode: str
) -> None:
    """From a grey or a palette PNG, whose samples are packed, and from a seed alone."""
    folder = request.getfixturevalue(bundle)
    size = Bundle.open(folder).manifest.image
    mask = disc_label_maps(1, size.width, np.random.default_rng(5))[0, : size.height]
    picture = Image.fromarray(mask)
    if mode == "P":
        picture.putpalette([0, 0, 0, 230, 75, 53, 77, 187, 213])
    picture.save(tmp_path / "mask.png")
    seed = 2**40 + 7  # more than one word of the key
    result = run(
        node, EXAMPLE / "generate.mjs", folder, tmp_path / "mask.png", tmp_path / "image.png", str(seed), "ring"
    )
    assert result.returncode == 0, result.stderr
    with seggd_rt.load(folder, engine="onnxruntime", precision="fp32", threads=1) as generator:
        expected = np.rint(255 * generator(mask, seed=seed, steps=10, keep="ring"))
    with Image.open(tmp_path / "image.png") as image:
        assert np.abs(np.asarray(image) - expected).max() <= 1, "a level, where a value lies between two"


def test_the_example_says_what_is_wrong(node: str, disc_bundle: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 32), 3, np.uint8)).save(tmp_path / "mask.png")
    for arguments, message in (
        ((disc_bundle, tmp_path / "mask.png"), "usage: node generate.mjs"),
        ((disc_bundle, tmp_path / "mask.png", tmp_path / "out.png", "0", "heart"), "there is no class 'heart'"),
        ((disc_bundle, tmp_path / "mask.png", tmp_path / "out.png"), "out of data bounds"),
        ((tiny_bundle, tmp_path / "mask.png", tmp_path / "out.png"), "has no sampler.onnx: export it with --loop"),
    ):
        result = run(node, EXAMPLE / "generate.mjs", *arguments)
        assert result.returncode != 0
        assert message in result.stderr
    assert not (tmp_path / "out.png").exists()
