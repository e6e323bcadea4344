"""What is drawn: the demo model, a small network at 128x128, the reference's at 256x256; in PyTorch and as bundles."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from benchmarks.gpu.machine.checkout import ROOT
from benchmarks.gpu.results import Exported
from benchmarks.gpu.run import Context, Part, Piece
from benchmarks.reference_network import kept_bundle, random_checkpoint, reference_network
from seggd_export.checkpoint import Checkpoint
from seggd_export.parity import example_label_map
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import NoiseSchedule, Precision, encode, encode_table, normal
from seggd_training.loop import build_unet

EXPORTED = (Precision.FP32, Precision.FP16, Precision.BF16)


@dataclass(frozen=True)
class Subject:
    """A network to draw with.

    Attributes
    ----------
    name
        For tables.
    network, size
        Of `seggd_training.loop.networks`, with random weights; or None and 0 for the demo's checkpoint.
    """

    name: str
    network: str | None = None
    size: int = 0

    @property
    def trained(self) -> bool:
        """Whether its images are those of a trained network."""
        return self.network is None


DEMO = Subject("demo")
SMALL = Subject("small-128", "small", 128)
REFERENCE = Subject("reference-256", "reference", 256)
SUBJECTS = (REFERENCE, DEMO, SMALL)


@dataclass(frozen=True)
class TorchSubject:
    """A subject as PyTorch has it."""

    checkpoint: Checkpoint

    def build(self) -> nn.Module:
        """Return a UNet2DModel of its own."""
        unet = build_unet(copy.deepcopy(self.checkpoint.config.unet))
        unet.load_state_dict(self.checkpoint.best_weights())
        return unet.eval()

    @property
    def schedule(self) -> NoiseSchedule:
        """What it was trained with."""
        return self.checkpoint.config.schedule

    @property
    def encode_table(self) -> NDArray[np.float32]:
        """(labels, mask channels) float32."""
        return encode_table(self.checkpoint.config.encoding, len(self.checkpoint.config.classes))

    def label_maps(self, batch: int) -> NDArray[np.uint8]:
        """Return (N, H, W) uint8, every class in each."""
        config = self.checkpoint.config
        one = example_label_map(config.height, config.width, len(config.classes))
        return np.repeat(one[None], batch, axis=0)

    def masks(self, batch: int) -> NDArray[np.float32]:
        """Return them encoded, (N, mask channels, H, W) float32."""
        return encode(self.label_maps(batch), self.encode_table)

    def noise(self, batch: int) -> NDArray[np.float32]:
        """Return (N, C, H, W) float32, another draw for each image."""
        config = self.checkpoint.config
        shape = (config.image_channels, config.height, config.width)
        return np.stack([normal(seed, shape) for seed in range(batch)])


def demo_checkpoint() -> Path:
    """Return the file that is shipped."""
    return ROOT / "examples" / "cardiac" / "cardiac.pt"


@cache
def read_network(subject: Subject) -> TorchSubject:
    """Return a subject's network; no bundle is needed."""
    if subject.network is None:
        return TorchSubject(Checkpoint.load(demo_checkpoint()))
    return TorchSubject(random_checkpoint(subject.network, subject.size))


def bundle_of(subject: Subject, context: Context) -> Path:
    """Return a subject's bundle, exported at the first call and kept in the cache."""
    if subject.network is not None:
        made = reference_network(
            context.cache, network=subject.network, size=subject.size, precisions=EXPORTED, say=context.say
        )
        return made[1]
    return kept_bundle(demo_checkpoint(), context.cache, precisions=EXPORTED, say=context.say)


def _pieces(context: Context) -> Iterator[Piece]:
    for subject in (DEMO, SMALL, REFERENCE):
        yield Piece(subject.name, lambda subject=subject: _export(subject, context), needs_s=10)  # type: ignore[misc]


def _export(subject: Subject, context: Context) -> Exported:
    bundle = Bundle.open(bundle_of(subject, context))
    return Exported(sha256=bundle.sha256, precisions=tuple(str(graph.precision) for graph in bundle.manifest.graphs))


BUNDLES = Part("bundles", _pieces)
