"""How coherent the slices of a volume are, with noise of their own and with shared noise.

    python -m benchmarks.slice_noise BUNDLE acdc_roi128.npz OUT.json --threads 2

draws every stack of validation slices of an .npz with `patient`, `frame` and `slice` twice, and compares neighbouring
slices: their SSIM and mean absolute difference, beside those of the real images. Figures are means over patients with
95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

import seggd_rt
from seggd_rt.diffusion import derive_seed
from seggd_rt.errors import SeggdError
from seggd_rt.runs import SliceNoise
from seggd_training.data import Split, load_dataset, to_unit
from seggd_training.evaluation.measures import Estimate, estimate_images, ssim

_BATCH = 8


class Coherence(msgspec.Struct, frozen=True, kw_only=True):
    """How alike neighbouring slices are."""

    ssim: Estimate | None
    mean_absolute_difference: Estimate | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Figures, and what they were measured with."""

    bundle: str
    engine: seggd_rt.EngineInfo
    data: str
    seed: int
    stacks: int
    neighbours: int
    real: Coherence
    independent: Coherence
    shared: Coherence


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.slice_noise", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)
    try:
        report = measure(options.bundle, options.data, seed=options.seed, threads=options.threads)
    except SeggdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.output.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    for name in ("real", *SliceNoise):
        found: Coherence = getattr(report, name)
        print(f"{name:12} SSIM {found.ssim}, mean absolute difference {found.mean_absolute_difference}")
    return 0


def measure(bundle: Path, data: Path, *, seed: int, threads: int | None) -> Report:
    """Draw every stack with both kinds of noise, and compare neighbours."""
    with seggd_rt.load(bundle, threads=threads) as generator:
        image = generator.manifest.image
        dataset = load_dataset(data, split=Split.VAL, image_size=(image.height, image.width))
        with np.load(data) as arrays:
            chosen = arrays["split"] == 1
            patient, frame, place = (arrays[name][chosen] for name in ("patient", "frame", "slice"))
        order = np.lexsort((place, frame, patient))
        patient, frame = patient[order], frame[order]
        first = np.flatnonzero(np.r_[True, (patient[1:] != patient[:-1]) | (frame[1:] != frame[:-1])])
        stack = np.searchsorted(first, np.arange(len(order)), side="right") - 1
        neighbours = np.flatnonzero(stack[1:] == stack[:-1])
        index = np.arange(len(order)) - first[stack]
        volume = [derive_seed(seed, int(number)) for number in stack]
        seeds = {
            SliceNoise.SHARED: volume,
            SliceNoise.INDEPENDENT: [derive_seed(v, int(i)) for v, i in zip(volume, index, strict=True)],
        }
        real = to_unit(dataset.images[order])
        drawn = {noise: _draw(generator, dataset.label_maps[order], each) for noise, each in seeds.items()}

        def coherence(images: NDArray[np.float32]) -> Coherence:
            some, others = images[neighbours], images[neighbours + 1]
            apart = np.abs(some.astype(np.float64) - others).mean(axis=(1, 2, 3))
            return Coherence(
                ssim=estimate_images(ssim(some, others), patient[neighbours], seed=seed),
                mean_absolute_difference=estimate_images(apart, patient[neighbours], seed=seed),
            )

        return Report(
            bundle=generator.bundle.sha256,
            engine=generator.engine,
            data=data.name,
            seed=seed,
            stacks=len(first),
            neighbours=len(neighbours),
            real=coherence(real),
            independent=coherence(drawn[SliceNoise.INDEPENDENT]),
            shared=coherence(drawn[SliceNoise.SHARED]),
        )


def _draw(generator: seggd_rt.Generator, label_maps: NDArray[np.uint8], seeds: Sequence[int]) -> NDArray[np.float32]:
    parts = [
        generator(label_maps[start : start + _BATCH], seeds=seeds[start : start + _BATCH])
        for start in range(0, len(label_maps), _BATCH)
    ]
    images = np.concatenate(parts)
    return images[..., None] if images.ndim == 3 else images


if __name__ == "__main__":
    sys.exit(main())
