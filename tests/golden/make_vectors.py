"""Make the vectors that Python and C++ both are tested on: `python tests/golden/make_vectors.py`.

`vectors.json` has noise, schedules, tables of update rows and encodings, each with what it was made from;
`images.safetensors` the images that its "images" describe, drawn by ONNX Runtime from the bundles beside it; `mask.png`
the label map they are drawn from, in a palette.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

import seggd_rt
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import (
    BetaCurve,
    MaskEncoding,
    NoiseSchedule,
    Prediction,
    RowTable,
    Sampler,
    Spacing,
    Stream,
    ablate,
    derive_seed,
    encode,
    encode_table,
    entry_rows,
    entry_step,
    normal,
    sampler_rows,
    usual_steps,
)
from seggd_rt.diffusion.noise import philox4x32

HERE = Path(__file__).parent
VECTORS, IMAGES, MASK = HERE / "vectors.json", HERE / "images.safetensors", HERE / "mask.png"

SCHEDULES = {
    "reference": NoiseSchedule(),
    "scaled": NoiseSchedule(
        beta_curve=BetaCurve.SCALED_LINEAR,
        beta_start=0.00085,
        beta_end=0.012,
        prediction=Prediction.V,
        steps_offset=1,
        clip_x0=None,
        final_alpha_bar_one=False,
    ),
    "cosine": NoiseSchedule(beta_curve=BetaCurve.COSINE, train_steps=400, prediction=Prediction.V, clip_x0=1.5),
    "zero-snr": NoiseSchedule(prediction=Prediction.SAMPLE, zero_terminal_snr=True, spacing=Spacing.TRAILING),
}
IMAGE_CASES: dict[str, dict[str, Any]] = {
    "ddim": {"bundle": "tiny", "seed": 7, "steps": 10},
    "defaults": {"bundle": "tiny-rgb", "seed": 2**63 + 5, "steps": 5},
    "eta": {"bundle": "tiny", "seeds": [1, 2**64 - 1], "steps": 6, "eta": 0.5, "keep": ["Cavity", "myocardium"]},
    "derived": {"bundle": "tiny-rgb", "seed": 3, "count": 3, "steps": 4, "drop": ["right ventricle"]},
    "dpm": {"bundle": "tiny", "seed": 0, "steps": 8, "sampler": "dpm-solver++", "spacing": "trailing"},
    "ddpm": {"bundle": "tiny", "seed": 11, "steps": 7, "sampler": "ddpm"},
    "sde": {"bundle": "tiny-rgb", "seed": 12, "steps": 5, "sampler": "dpm-solver++-sde", "spacing": "linspace"},
    "between": {"bundle": "tiny", "seed": 9, "steps": 10, "weights": [0.0, 0.5, 1.0], "at": 0.6},
    "then": {"bundle": "tiny-rgb", "seed": 9, "steps": 6, "weights": [0.25], "at": 0.4, "then_keep": ["cavity"]},
}


def floats(array: NDArray[np.floating[Any]]) -> Any:
    """Return nested lists; null for infinity, which JSON lacks. Reading them as float32 gives the same bits."""
    if array.ndim:
        return [floats(part) for part in array]
    number = float(str(array))
    return None if np.isinf(number) else number


def noise_vectors() -> list[dict[str, Any]]:
    cases = itertools.product((0, 7, 2**32, 2**64 - 1), (Stream.START, Stream.STEP, Stream.SEED), (0, 999))
    return [
        {"seed": seed, "stream": int(stream), "step": step, "z": floats(normal(seed, (7,), stream=stream, step=step))}
        for seed, stream, step in cases
    ]


def philox_vectors() -> list[dict[str, Any]]:
    counters = ([0, 0, 0, 0], [2**32 - 1] * 4, [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344])
    keys = (0, 2**64 - 1, 0x299F31D0A4093822)
    return [
        {
            "counter": c,
            "key": key,
            "words": philox4x32(np.array([c], np.uint32), (key & 0xFFFFFFFF, key >> 32))[0].tolist(),
        }
        for c, key in zip(counters, keys, strict=True)
    ]


def row_vectors() -> list[dict[str, Any]]:
    def case(name: str, sampler: Sampler, steps: int, spacing: Spacing, eta: float) -> dict[str, Any]:
        schedule = SCHEDULES[name]
        table = sampler_rows(sampler, schedule, steps, eta=eta, spacing=spacing)
        return {
            "schedule": name,
            "sampler": str(sampler),
            "steps": steps,
            "spacing": str(spacing),
            "eta": eta,
            "timesteps": table.timesteps.tolist(),
            "rows": floats(table.rows),
            "entry": entry(table, schedule),
        }

    def entry(table: RowTable, schedule: NoiseSchedule) -> dict[str, Any]:
        step = entry_step(table, schedule, 0.7)
        return {
            "at": 0.7,
            "weight": 0.3,
            "step": step,
            "row": floats(entry_rows(table, schedule, step, np.array([0.3]))[0]),
        }

    return [
        case(name, sampler, steps, spacing, eta)
        for name, sampler, (steps, spacing) in itertools.product(
            SCHEDULES, Sampler, ((3, Spacing.LEADING), (7, Spacing.TRAILING), (6, Spacing.LINSPACE))
        )
        for eta in ((0.0, 1.0) if sampler is Sampler.DDIM else (0.0,))
    ]


def schedule_vectors() -> dict[str, Any]:
    places = [0, 1, 57, 200, 398, 399]
    return {
        name: {
            "schedule": msgspec.to_builtins(schedule),
            "places": places,
            "alpha_bar": schedule.alpha_bar()[places].tolist(),
            "timesteps": {str(spacing): schedule.timesteps(9, spacing).tolist() for spacing in Spacing},
        }
        for name, schedule in SCHEDULES.items()
    }


def label_vectors() -> list[dict[str, Any]]:
    label_map = np.array([[0, 1, 2], [3, 1, 0]], np.uint8)
    return [
        {
            "encoding": str(encoding),
            "classes": 4,
            "kept": kept,
            "label_map": label_map.tolist(),
            "mask": floats(encode(label_map, ablate(encode_table(encoding, 4), kept))),
        }
        for encoding, kept in itertools.product(MaskEncoding, ([1, 2, 3], [2], [1, 3]))
    ]


def image_of(case: dict[str, Any]) -> NDArray[np.float32]:
    """Draw what a case describes from its bundle's golden label map; the golden image is the real one."""
    how = dict(case)
    path = HERE / f"{how.pop('bundle')}.seggd"
    golden = Bundle.open(path).golden
    masks = np.stack([golden.label_map] * how.pop("count")) if "count" in how else golden.label_map
    with seggd_rt.load(path, engine="onnxruntime", device="cpu") as generator:
        if "weights" in how:
            real = np.moveaxis(golden.image, 0, -1)
            return generator.interpolate(masks, real, weight=how.pop("weights"), **how)
        return generator(masks, **how)


def vectors() -> dict[str, Any]:
    """Return all that `vectors.json` holds."""
    return {
        "philox": philox_vectors(),
        "noise": noise_vectors(),
        "derived_seeds": [[7, index, derive_seed(7, index)] for index in (0, 1, 1000)],
        "schedules": schedule_vectors(),
        "rows": row_vectors(),
        "usual_steps": {str(sampler): usual_steps(sampler, NoiseSchedule()) for sampler in Sampler},
        "labels": label_vectors(),
        "images": IMAGE_CASES,
    }


def images() -> dict[str, NDArray[np.float32]]:
    """Return all that `images.safetensors` holds."""
    return {name: np.ascontiguousarray(image_of(case)) for name, case in IMAGE_CASES.items()}


if __name__ == "__main__":
    VECTORS.write_text(
        "{\n" + ",\n".join(f'"{key}": {json.dumps(value)}' for key, value in vectors().items()) + "\n}\n"
    )
    save_file(images(), IMAGES)
    mask = Image.fromarray(Bundle.open(HERE / "tiny.seggd").golden.label_map, "P")
    mask.putpalette([value for c in Bundle.open(HERE / "tiny.seggd").manifest.classes for value in c.color])
    mask.save(MASK)
