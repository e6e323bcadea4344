"""Named networks have the sizes they promise, and files are checked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from seggd_rt.errors import OptionError
from seggd_training.loop import build_unet, unet_config
from seggd_training.loop.networks import NETWORKS


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


SETTINGS: dict[str, tuple[dict[str, object], str]] = {
    "unknown": ({"wings": 2}, r"has an unknown key \('wings'\)"),
    "no level": ({"block_out_channels": []}, "`array` of length >= 1"),
    "no list": ({"block_out_channels": 8}, "Expected `array`, got `int`"),
    "nested": ({"block_out_channels": [[8], [16]]}, "Expected `int`, got `array`"),
    "texts": ({"block_out_channels": ["8", "16"]}, "Expected `int`, got `str`"),
    "negative": ({"block_out_channels": [-8, 16]}, "Expected `int` >= 1"),
    "booleans": ({"block_out_channels": [True, True]}, "Expected `int`, got `bool`"),
    "huge": ({"block_out_channels": [8, 10**12]}, "Expected `int` <= 16384"),
    "hundreds of levels": ({"block_out_channels": [8] * 300}, "`array` of length <= 12"),
    "too many weights": ({"block_out_channels": [16384, 16384]}, "use one of at most 1073741824"),
    "other lengths": ({"down_block_types": ["DownBlock2D"]}, r"differ in length \(2, 1, 2\)"),
    "other blocks": ({"up_block_types": ["UpBlock2D", "EvilBlock2D"]}, "up block 'EvilBlock2D' is not supported"),
    "blocks of numbers": ({"down_block_types": [1, 2]}, "Expected `str`, got `int`"),
    "no layers": ({"layers_per_block": 0}, "Expected `int` >= 1"),
    "endless layers": ({"layers_per_block": 10**9}, "Expected `int` <= 32"),
    "groups that do not divide": ({"norm_num_groups": 3}, "num_channels .* must be divisible"),
    "no groups": ({"norm_num_groups": 0}, "Expected `int` >= 1"),
    "heads wider than the level": ({"attention_head_dim": 64}, "makes no UNet2DModel"),
    "unknown activation": ({"act_fn": "evil"}, "Invalid enum value 'evil'"),
    "a table": ({"act_fn": {}}, "Expected `str`, got `object`"),
    "no epsilon": ({"norm_eps": None}, "Expected `float`, got `null`"),
    "NaN": ({"norm_eps": float("nan")}, "cannot be read as JSON"),
    "a number of 300 digits": ({"mid_block_scale_factor": 1e300}, "Expected `float` <= "),
    "dropout of all": ({"dropout": 1.0}, "Expected `float` < 1.0"),
    "a number of 1000 bits": ({"time_embedding_dim": 1 << 1000}, "a whole number has more than 64 bits"),
}


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
    for change, message in SETTINGS.values():
        path.write_text(json.dumps({**NETWORKS["tiny"], **change}))
        with pytest.raises(OptionError, match=message) as caught:
            build_unet(config(str(path)))
        assert "\n" not in str(caught.value)
    path.write_text("[" * 100_000)
    with pytest.raises(OptionError, match="cannot be read as JSON"):
        config(str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OptionError, match="it is a pipe"):
        config(str(path))
