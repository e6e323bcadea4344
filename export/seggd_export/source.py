"""What every form of checkpoint becomes, and what the caller may say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seggd_rt.diffusion import LabelClass, MaskEncoding, NoiseSchedule

StateDict = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint read into memory. None stands for what its form does not tell.

    Attributes
    ----------
    path
        What was given: a file or a folder.
    format
        Name of the form, as the manifest states it.
    sha256
        Of the checkpoint's file; of the weights' file where the checkpoint is a folder.
    unet
        Configuration of diffusers' UNet2DModel.
    weights
        float32, in diffusers' names.
    image_size
        (height, width).
    image_size_is_hint
        Whether the caller may set another size: diffusers' `sample_size` is often left at a default.
    encoding_is_guess
        Whether `encoding` is what such checkpoints mostly have, and nothing this one says.
    assumed
        Parts of `unet` that the weights do not show, taken at diffusers' defaults.
    """

    path: Path
    format: str
    sha256: str
    unet: Mapping[str, Any]
    weights: StateDict
    image_size: tuple[int, int] | None = None
    image_size_is_hint: bool = False
    classes: tuple[LabelClass, ...] | None = None
    encoding: MaskEncoding | None = None
    encoding_is_guess: bool = False
    schedule: NoiseSchedule | None = None
    trained_with_ablation: bool | None = None
    trained_with_empty_mask: bool | None = None
    intensity_range: tuple[float, float] | None = None
    training_data: str | None = None
    licence: str | None = None
    training: Mapping[str, Any] | None = None
    assumed: Mapping[str, Any] | None = None
