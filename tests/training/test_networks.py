"""Named networks have the sizes they promise, and files are checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from seggd_rt.errors import OptionError
from seggd_training.networks import NETWORKS, build_unet, unet_config


def _millions(name: str, size: int, mask_channels: int) -> float:
    config = unet_config(name, image_channels=1, mask_channels=mask_channels, size=(size, size))
    with torch.device("meta"):
        return sum(p.numel() for p in build_unet(config).parameters()) / 1e6


def test_reference_is_the_papers() -> None:
    assert round(_millions("reference", 256, 1), 2) == 113.67


def test_small_fits_12_megabytes_in_half_precision() -> None:
    assert _millions("small", 64, 3) * 2 < 12


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_output_has_the_images_channels(name: str) -> None:
    config = unet_config(name, image_channels=3, mask_channels=2, size=(16, 24))
    with torch.no_grad():
        output = build_unet(config)(torch.zeros(2, 5, 16, 24), torch.tensor([0, 999])).sample
    assert output.shape == (2, 3, 16, 24)


def test_a_file_of_diffusers_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**NETWORKS["tiny"], "_class_name": "UNet2DModel", "in_channels": 3}))
    config = unet_config(str(path), image_channels=1, mask_channels=2, size=(16, 16))
    assert config["sample_size"] == [16, 16]
    with pytest.raises(OptionError, match="in_channels 3; this data and mask encoding need 2"):
        unet_config(str(path), image_channels=1, mask_channels=1, size=(16, 16))


def test_what_makes_no_network_is_refused(tmp_path: Path) -> None:
    def config(network: str, size: tuple[int, int] = (16, 16)) -> dict[str, object]:
        return unet_config(network, image_channels=1, mask_channels=1, size=size)

    with pytest.raises(OptionError, match="no network 'huge': name one of tiny, small, reference"):
        config("huge")
    with pytest.raises(OptionError, match="60x64; a network of 4 levels needs multiples of 8"):
        config("small", (60, 64))
    path = tmp_path / "a.json"
    twice = '{"norm_eps": 1e-5, "norm_eps": 1e-6}'
    for text, message in {"{": "read as JSON", twice: "the key 'norm_eps' twice", "[1]": "one JSON object"}.items():
        path.write_text(text)
        with pytest.raises(OptionError, match=message):
            config(str(path))
    path.write_text(json.dumps({"block_out_channels": [8, 16], "wings": 2}))
    with pytest.raises(OptionError, match="makes no UNet2DModel"):
        build_unet(config(str(path)))
