"""Random mask ablation: every training image sees a random subset of its classes.

SegGuidedDiff (arXiv 2402.05210, section 2.2) trains one network for all 2^C - 1 non-empty subsets of the C foreground
classes, by zeroing the rest of each mask. Here every image draws its own subset, all with equal probability; the
reference code draws one for the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MAX_BITS = 62
"""Classes whose subsets int64 can count; beyond, C fair bits are as good, as none is set once in 2^63 draws."""


def draw_subsets(count: int, num_foreground: int, generator: torch.Generator, *, empty: float = 0.0) -> Tensor:
    """Draw one subset of the foreground classes for each of `count` images.

    Parameters
    ----------
    count, num_foreground
        B images and C classes, background not counted.
    generator
        On the CPU.
    empty
        Probability of the empty subset; the non-empty ones share the rest equally.

    Returns
    -------
    Tensor
        (B, C) bool, true where the class of id column + 1 is kept.
    """
    if num_foreground > _MAX_BITS:
        keep = torch.randint(0, 2, (count, num_foreground), generator=generator).bool()
    else:
        # Bit k of a number in [1, 2^C) keeps class k + 1, so no draw is ever rejected.
        subset = torch.randint(1, 1 << num_foreground, (count, 1), generator=generator)
        keep = (subset >> torch.arange(num_foreground) & 1).bool()
    if empty > 0:
        keep &= torch.rand((count, 1), generator=generator, dtype=torch.float64) >= empty
    return keep


def encode_subsets(label_maps: Tensor, table: Tensor, keep: Tensor) -> Tensor:
    """Encode label maps, each with its own subset of classes: `labels.encode` of `labels.ablate`, for a batch.

    Parameters
    ----------
    label_maps
        (B, H, W) uint8 or int64, labels in [0, C].
    table
        (C + 1, M) float32, from `labels.encode_table`.
    keep
        (B, C) bool.

    Returns
    -------
    Tensor
        (B, M, H, W) float32, on the device of `label_maps`.
    """
    rows = torch.cat([torch.zeros_like(keep[:, :1]), keep], dim=1)
    tables = table * rows.unsqueeze(-1)
    image = torch.arange(len(label_maps), device=label_maps.device)[:, None, None]
    return tables[image, label_maps.long()].movedim(-1, 1).contiguous()
