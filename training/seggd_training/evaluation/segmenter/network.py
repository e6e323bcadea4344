"""The segmenter that measures generated images: a UNet of MONAI, trained on real images only.

Its file is one `.pt` that `torch.load(weights_only=True)` opens:

    {"format": "seggd-segmenter/1", "config": SegmenterConfig as plain values,
     "data": SHA-256 of the training images, masks and class names, "weights": {name: tensor}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from monai.networks.nets import BasicUNet
from numpy.typing import NDArray
from torch import Tensor, nn

from seggd_export.checkpoint import load_weights_only, save_atomically
from seggd_rt.errors import CheckpointError, OptionError

FORMAT = "seggd-segmenter/1"
_GROUPS = 8
_EPSILON = 1e-5


class SegmenterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decides a segmenter's weights, its training images apart.

    Attributes
    ----------
    channels, height, width
        Of the images.
    classes
        Names of all labels from 0, background first.
    features
        Widths of the five levels and of the last layers, multiples of 8.
    steps, batch_size, learning_rate, weight_decay, ema_decay, seed
        Of the training.
    recipe
        Number of the training's recipe, raised when its augmentation or loss changes.
    """

    channels: int
    height: int
    width: int
    classes: tuple[str, ...]
    features: tuple[int, int, int, int, int, int] = (32, 32, 64, 128, 256, 32)
    steps: int = 1500
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    ema_decay: float = 0.99
    seed: int = 0
    recipe: int = 1

    def __post_init__(self) -> None:
        """Check every field's range."""
        for name in ("channels", "height", "width", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise OptionError(f"segmenter {name} is {getattr(self, name)}; it must be at least 1")
        if len(self.classes) < 2:
            raise OptionError(f"segmenter classes are {self.classes}; there must be background and one more")
        if any(width < 1 or width % _GROUPS for width in self.features):
            raise OptionError(f"segmenter features are {self.features}; they must be multiples of {_GROUPS}")

    def build(self) -> nn.Module:
        """Build the network with random weights."""
        network: nn.Module = BasicUNet(
            spatial_dims=2,
            in_channels=self.channels,
            out_channels=len(self.classes),
            features=self.features,
            norm=("group", {"num_groups": _GROUPS}),  # needs no batch and, unlike instance norm, works on one pixel
        )
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True)
class Segmenter:
    """A trained segmenter.

    Attributes
    ----------
    config
        What it was trained as.
    data
        SHA-256 of the data it was trained on, of `resume.fingerprint`.
    network
        Standardised images in, class scores out; in evaluation mode.
    """

    config: SegmenterConfig
    data: str
    network: nn.Module

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def __call__(self, images: NDArray[np.float32], *, batch: int = 32) -> NDArray[np.uint8]:
        """Segment images.

        Parameters
        ----------
        images
            (N, H, W, C) float32 in [0, 1], of the configuration's size.
        batch
            How many the network takes at a time.

        Returns
        -------
        NDArray
            (N, H, W) uint8, ids of the classes.
        """
        device = next(self.network.parameters()).device
        label_maps = []
        for start in range(0, len(images), batch):
            x = torch.from_numpy(np.moveaxis(images[start : start + batch], -1, 1).copy()).to(device)
            label_maps.append(self.network(standardize(x)).argmax(dim=1).to(torch.uint8).cpu().numpy())
        return np.concatenate(label_maps)

    def save(self, path: Path) -> None:
        """Write the segmenter, whole or not at all.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        weights = {name: tensor.cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        config = msgspec.to_builtins(self.config)
        save_atomically({"format": FORMAT, "config": config, "data": self.data, "weights": weights}, path)

    @classmethod
    def load(cls, path: Path, *, device: torch.device | None = None) -> Segmenter:
        """Read a segmenter that `save` wrote.

        Raises
        ------
        CheckpointError
            The file is missing, damaged, holds more than weights, or is no segmenter.
        """
        content = load_weights_only(path)
        if not isinstance(content, Mapping) or content.get("format") != FORMAT:
            raise CheckpointError(f"{path} is no segmenter of this version: it does not say format '{FORMAT}'")
        try:
            config = msgspec.convert(content.get("config"), SegmenterConfig)
            network = config.build()
            network.load_state_dict(content["weights"])
            data = msgspec.convert(content.get("data"), str)
        except (msgspec.ValidationError, OptionError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path} is no whole segmenter: {reason}") from error
        return cls(config, data, network.to(device or default_device()).eval())


def default_device() -> torch.device:
    """Return the first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def standardize(images: Tensor) -> Tensor:
    """Return images, (B, C, H, W), with mean 0 and variance 1 in each channel of each."""
    mean = images.mean(dim=(2, 3), keepdim=True)
    deviation = images.std(dim=(2, 3), keepdim=True, correction=0)
    return ((images - mean) / (deviation + _EPSILON)).contiguous(memory_format=torch.channels_last)
