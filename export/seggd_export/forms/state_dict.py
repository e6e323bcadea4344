"""A bare state dict, `.pt` or `.safetensors`: weights by name, and nothing that says what they are of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seggd_export.forms.weights import as_state_dict
from seggd_export.source import Source
from seggd_export.unet import ASSUMED, check_assumed, derive_config
from seggd_rt.bundle import sha256_of


def read_state_dict(path: Path, content: object, unet_config: Mapping[str, Any]) -> Source:
    """Read a bare state dict; the network's configuration comes from its shapes.

    Parameters
    ----------
    path
        The file.
    content
        What it holds.
    unet_config
        Parts of the configuration that the caller knows; they go before what is derived or assumed.

    Raises
    ------
    CheckpointError
        It is not the state dict of a UNet2DModel, or an assumed part of the configuration cannot be true.
    """
    weights = as_state_dict(content, path)
    config = {**ASSUMED, **derive_config(weights), **unet_config}
    check_assumed(config, weights)
    return Source(
        path=path,
        format="state-dict",
        sha256=sha256_of(path),
        unet=config,
        weights=weights,
        assumed={key: value for key, value in ASSUMED.items() if key not in unet_config},
    )
