"""Checkpoints in: one module a form, and one result, `Source`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seggd_export.checkpoint import FORMAT
from seggd_export.forms.native import read_native
from seggd_export.forms.pipeline_folder import INDEX, read_pipeline_folder
from seggd_export.forms.state_dict import read_state_dict
from seggd_export.forms.unet_folder import CONFIG, read_unet_folder
from seggd_export.forms.weights import read_weights
from seggd_export.source import Source
from seggd_rt.errors import CheckpointError, OptionError

__all__ = ["Source", "read_checkpoint"]

_UNET = "unet"


def read_checkpoint(path: Path, unet_config: Mapping[str, Any] | None = None) -> Source:
    """Read a checkpoint of any form: our `.pt`, a bare state dict, a network's folder, a pipeline's folder.

    Parameters
    ----------
    path
        The file or folder.
    unet_config
        Parts of the network's configuration that the caller knows better, by diffusers' names.

    Raises
    ------
    CheckpointError
        It is missing, damaged, unsafe or of an unknown form.
    OptionError
        `unet_config` is given for our own checkpoint, which needs none.
    """
    unet_config = unet_config or {}
    if path.is_dir():
        return _read_folder(path, unet_config)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist: give a checkpoint's file or folder")
    content = read_weights(path)
    if not _is_native(content):
        return read_state_dict(path, content, unet_config)
    if unet_config:
        raise OptionError(f"{path} states its own network: leave --unet-config out")
    return read_native(path)


def _read_folder(path: Path, unet_config: Mapping[str, Any]) -> Source:
    # NAME and NAME/unet are one checkpoint: what lies beside the network tells its noise schedule.
    root = path.resolve().parent if path.name == _UNET and (path.resolve().parent / INDEX).is_file() else path
    if (root / INDEX).is_file():
        return read_pipeline_folder(root, unet_config)
    for folder in (path / _UNET, path):
        if (folder / CONFIG).is_file():
            return read_unet_folder(folder, unet_config)
    raise CheckpointError(f"{path} is no checkpoint folder: there is no {INDEX}, {_UNET}/{CONFIG} or {CONFIG} in it")


def _is_native(content: object) -> bool:
    family = FORMAT.partition("/")[0]
    return isinstance(content, Mapping) and str(content.get("format", "")).partition("/")[0] == family
