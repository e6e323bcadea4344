"""The network of the SegGuidedDiff reference, with random weights: 113.67 M parameters at 256x256."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

import seggd_export
from seggd_export import ExportWarning, export_bundle
from seggd_export.checkpoint import Checkpoint, CheckpointConfig
from seggd_export.export import Progress
from seggd_rt.diffusion import MaskEncoding, NoiseSchedule, Precision, name_classes
from seggd_training.loop import build_unet, unet_config

_CLASSES = ("background", "class 1", "class 2", "class 3")
_SEED = 0


def reference_network(
    cache: Path,
    *,
    network: str = "reference",
    size: int = 256,
    precisions: tuple[Precision, ...] = (Precision.FP32,),
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Path, Path]:
    """Return a checkpoint of it and its bundle, made at the first call and then kept in `cache`.

    Parameters
    ----------
    cache
        A folder; what is kept there is named after the network and all that it is made with.
    network, size
        Another of seggd_training's networks, and its image's height and width.
    precisions
        The bundle's graphs.
    say
        Told what is done now.
    """
    checkpoint, bundle = (cache / f"{network}-{size}-{_made_with(precisions)}{suffix}" for suffix in (".pt", ".seggd"))
    if not checkpoint.is_file():
        say(f"{network} at {size}x{size}: random weights")
        random_checkpoint(network, size).save(checkpoint)
    _export(checkpoint, bundle, precisions, say)
    return checkpoint, bundle


def kept_bundle(
    checkpoint: Path,
    cache: Path,
    *,
    precisions: tuple[Precision, ...] = (Precision.FP32,),
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Return a checkpoint's bundle, made at the first call and then kept in `cache` under all that it is made with."""
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:12]
    bundle = cache / f"{checkpoint.stem}-{digest}-{_made_with(precisions)}.seggd"
    cache.mkdir(parents=True, exist_ok=True)
    _export(checkpoint, bundle, precisions, say)
    return bundle


def _export(checkpoint: Path, bundle: Path, precisions: tuple[Precision, ...], say: Callable[[str], None]) -> None:
    """Export, unless it was done before."""
    if bundle.is_dir():
        return

    def show(progress: Progress) -> None:
        total = "" if progress.total is None else f": {progress.done} of {progress.total}"
        say(f"exporting, {progress.doing}{total}")

    with warnings.catch_warnings():
        # That images of an untrained network amplify rounding is known.
        warnings.simplefilter("ignore", ExportWarning)
        export_bundle(checkpoint, bundle, precisions=precisions, progress=show)


def _made_with(precisions: tuple[Precision, ...]) -> str:
    """Return a short hash of the code and versions that make the bundle."""
    code = [path.read_bytes() for path in sorted(Path(seggd_export.__file__).parent.rglob("*.py"))]
    names = (version("torch"), version("diffusers"), *precisions)
    return hashlib.sha256(b"\0".join([*code, *(name.encode() for name in names)])).hexdigest()[:12]


def random_checkpoint(network: str, size: int) -> Checkpoint:
    """Return one of seggd_training's networks with random weights, always the same."""
    config = CheckpointConfig(
        unet=unet_config(network, image_channels=1, mask_channels=1, size=(size, size)),
        image_channels=1,
        height=size,
        width=size,
        classes=name_classes(_CLASSES),
        encoding=MaskEncoding.LABEL_OVER_255,
        schedule=NoiseSchedule(),
        ablation=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        unet = build_unet(config.unet)
    return Checkpoint(config=config, weights=dict(unet.state_dict()), ema=None)
