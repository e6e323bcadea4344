"""A folder of `UNet2DModel.save_pretrained`: what the SegGuidedDiff reference keeps as NAME/unet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from seggd_export.forms.weights import as_state_dict, read_weights
from seggd_export.source import Source
from seggd_rt.bundle import sha256_of
from seggd_rt.diffusion import MaskEncoding
from seggd_rt.errors import CheckpointError
from seggd_rt.files import MAX_JSON_BYTES, decode, read_file

CONFIG = "config.json"
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def read_unet_folder(path: Path, unet_config: Mapping[str, Any]) -> Source:
    """Read a network's folder. It tells neither noise schedule nor mask encoding.

    Raises
    ------
    CheckpointError
        The configuration or the weights are missing, damaged or unsafe.
    """
    config = {**read_json(path / CONFIG), **unet_config}
    found = [path / name for name in _WEIGHTS if (path / name).is_file()]
    if not found:
        raise CheckpointError(f"{path} has no weights: there is neither {' nor '.join(_WEIGHTS)}")
    return Source(
        path=path,
        format="diffusers-unet",
        sha256=sha256_of(found[0]),
        unet=config,
        weights=as_state_dict(read_weights(found[0]), found[0]),
        image_size=_size(config.get("sample_size"), path),
        image_size_is_hint=True,
        encoding=MaskEncoding.LABEL_OVER_255 if _mask_channels(config) == 1 else None,
        encoding_is_guess=True,
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return the object a JSON file holds.

    Raises
    ------
    CheckpointError
        The file is missing, or holds something else.
    """
    try:
        content = decode(read_file(path, MAX_JSON_BYTES))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}): give a readable file") from error
    except msgspec.DecodeError as error:
        raise CheckpointError(f"{path} is not JSON ({error}): copy or save it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return content


def _mask_channels(config: Mapping[str, Any]) -> int:
    taken, drawn = config.get("in_channels"), config.get("out_channels")
    return taken - drawn if isinstance(taken, int) and isinstance(drawn, int) else 0


def _size(sample_size: object, path: Path) -> tuple[int, int] | None:
    match sample_size:
        case None:
            return None
        case int():
            return sample_size, sample_size
        case [int(height), int(width)]:
            return height, width
        case _:
            raise CheckpointError(f"{path / CONFIG} has sample_size {sample_size!r}; it must be N or [H, W]")
