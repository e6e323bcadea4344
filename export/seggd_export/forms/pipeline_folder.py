"""A folder of a whole diffusers pipeline: `model_index.json`, `unet/` and `scheduler/`.

The SegGuidedDiff reference saves its pipelines this way; their class names begin with SegGuided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from seggd_export.forms.scheduler import read_schedule
from seggd_export.forms.unet_folder import read_json, read_unet_folder
from seggd_export.source import Source
from seggd_rt.errors import CheckpointError

INDEX = "model_index.json"
_PARTS = {"unet", "scheduler", "eval_dataloader", "external_config"}
"""Parts that say all there is to know; the last two are the reference's own, and hold nothing for sampling."""


def read_pipeline_folder(path: Path, unet_config: Mapping[str, Any]) -> Source:
    """Read a pipeline's network and noise schedule.

    Raises
    ------
    CheckpointError
        A part is missing or damaged, or is one that seggd-rt cannot run.
    """
    index = read_json(path / INDEX)
    foreign = sorted(
        key for key, value in index.items() if isinstance(value, list) and any(value) and key not in _PARTS
    )
    if foreign:
        raise CheckpointError(f"{path} is a pipeline with a '{foreign[0]}'; only a unet and a scheduler are supported")
    unet = read_unet_folder(path / "unet", unet_config)
    is_reference = str(index.get("_class_name", "")).startswith("SegGuided")
    return replace(
        unet,
        path=path,
        format="diffusers-pipeline",
        schedule=read_schedule(path / "scheduler" / "scheduler_config.json"),
        encoding=unet.encoding if is_reference else None,
        encoding_is_guess=False,
    )
