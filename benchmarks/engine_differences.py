"""How far apart the engines on the CPU draw one image: the largest and the RMS difference of pixels, in [0, 1].

    python -m benchmarks.engine_differences BUNDLE MASKS OUT.json

draws every mask of a folder from several seeds, with each engine and precision of this CPU, one image at a time and in
batches, and compares all of them. `seggd_rt.diffusion.precision` has the limits that follow, PIXEL_LIMIT and RMS_LIMIT.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

import seggd_rt
from seggd_rt.diffusion import Precision, rms
from seggd_rt.engine import registry, this_cpu
from seggd_rt.errors import SeggdError
from seggd_rt.imaging import PLAIN, LabelMapSet
from seggd_rt.runs import checked, fitted

_ENGINES = ("onnxruntime", "openvino")
_BATCHES = (1, 4)
_STEPS = 50


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One way of drawing the images."""

    engine: seggd_rt.EngineInfo
    batch: int

    def __str__(self) -> str:
        """Return "openvino bf16, batch 4"."""
        return f"{self.engine.engine} {self.engine.precision}, batch {self.batch}"


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """How far the images of two variants are apart, in [0, 1].

    Attributes
    ----------
    largest
        The largest difference of two pixels.
    largest_rms
        The RMS difference of the two images that are farthest apart.
    """

    first: str
    second: str
    largest: float
    largest_rms: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared, on which CPU, and how far apart each pair is.

    Attributes
    ----------
    fp32, lower
        The largest difference of two variants in fp32, and of two of which one computes in a lower precision.
    fp32_rms, lower_rms
        The largest RMS difference of two images, likewise.
    """

    bundle: str
    cpu: str
    features: tuple[str, ...]
    images: int
    steps: int
    seeds: tuple[int, ...]
    variants: tuple[Variant, ...]
    pairs: tuple[Pair, ...]
    fp32: float
    lower: float
    fp32_rms: float
    lower_rms: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine_differences", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("masks", type=Path, help="a folder of label maps")
    parser.add_argument("output", type=Path)
    parser.add_argument("--limit", type=int, default=6, help="label maps to take from the folder")
    parser.add_argument("--seeds", type=int, default=2, help="images per label map")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)
    try:
        report = measure(
            options.bundle,
            options.masks,
            limit=options.limit,
            seeds=tuple(range(options.seeds)),
            threads=options.threads,
        )
    except SeggdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.output.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    for pair in report.pairs:
        print(f"{pair.first:32} {pair.second:32} {pair.largest:.2e} {pair.largest_rms:.2e}")
    return 0


def measure(
    bundle: Path, masks: Path, *, limit: int, seeds: tuple[int, ...], threads: int | None, steps: int = _STEPS
) -> Report:
    """Draw the images with every engine and precision that can run here, and compare all pairs."""
    opened = seggd_rt.Bundle.open(bundle)
    label_maps = np.stack(
        [
            fitted(file, checked(file, 0, opened.manifest), opened.manifest, PLAIN.fit)
            for file in LabelMapSet.open(masks, PLAIN.of_bundle(opened.manifest)).files[:limit]
        ]
    )
    wanted = np.repeat(label_maps, len(seeds), axis=0), list(seeds) * len(label_maps)
    variants: list[Variant] = []
    drawn: list[NDArray[np.float32]] = []
    for name in _ENGINES:
        for precision in sorted(registry.find_engine(name).availability("cpu").precisions, reverse=True):
            with seggd_rt.load(bundle, engine=name, precision=precision, threads=threads) as generator:
                for batch in _BATCHES:
                    variants.append(Variant(engine=generator.engine, batch=batch))
                    drawn.append(_draw(generator, *wanted, batch=batch, steps=steps))
                    print(variants[-1], file=sys.stderr)
    pairs = [
        Pair(
            first=str(variants[a]),
            second=str(variants[b]),
            largest=float(np.abs(drawn[a] - drawn[b]).max()),
            largest_rms=max(rms(one - other) for one, other in zip(drawn[a], drawn[b], strict=True)),
        )
        for a, b in itertools.combinations(range(len(variants)), 2)
    ]
    exact = {str(each) for each in variants if each.engine.precision is Precision.FP32}
    in_fp32 = [pair for pair in pairs if pair.first in exact and pair.second in exact]
    in_lower = [pair for pair in pairs if pair not in in_fp32]
    cpu = this_cpu()
    return Report(
        bundle=opened.sha256,
        cpu=cpu.name,
        features=cpu.features or (),
        images=len(wanted[1]),
        steps=steps,
        seeds=seeds,
        variants=tuple(variants),
        pairs=tuple(pairs),
        fp32=max((pair.largest for pair in in_fp32), default=0.0),
        lower=max((pair.largest for pair in in_lower), default=0.0),
        fp32_rms=max((pair.largest_rms for pair in in_fp32), default=0.0),
        lower_rms=max((pair.largest_rms for pair in in_lower), default=0.0),
    )


def _draw(
    generator: seggd_rt.Generator, label_maps: NDArray[np.uint8], seeds: list[int], *, batch: int, steps: int
) -> NDArray[np.float32]:
    parts = [slice(start, start + batch) for start in range(0, len(seeds), batch)]
    return np.concatenate([generator(label_maps[part], seeds=seeds[part], steps=steps) for part in parts])


if __name__ == "__main__":
    sys.exit(main())
