"""Our own checkpoint, `seggd-checkpoint/1`: it tells everything."""

from __future__ import annotations

from pathlib import Path

import msgspec

from seggd_export.checkpoint import Checkpoint
from seggd_export.source import Source
from seggd_rt.bundle import sha256_of


def read_native(path: Path) -> Source:
    """Read a checkpoint of `seggd-rt train`.

    Raises
    ------
    CheckpointError
        It is damaged, unsafe, or of a newer form.
    """
    checkpoint = Checkpoint.load(path)
    config = checkpoint.config
    provenance = msgspec.to_builtins(config.provenance)
    return Source(
        path=path,
        format="seggd-checkpoint/1",
        sha256=sha256_of(path),
        unet=config.unet,
        weights=checkpoint.best_weights(),
        image_size=(config.height, config.width),
        classes=config.classes,
        encoding=config.encoding,
        schedule=config.schedule,
        trained_with_ablation=config.ablation,
        trained_with_empty_mask=config.empty_subset > 0,
        intensity_range=config.intensity_range,
        training_data=config.provenance.training_data,
        licence=config.provenance.licence,
        training={key: value for key, value in provenance.items() if key not in ("training_data", "licence")},
    )
