"""The report that an earlier run left in the output folder: gone on with where its settings are the same, else kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from seggd_rt.errors import OptionError
from seggd_rt.files import read_file
from seggd_rt.reports import MAX_REPORT_BYTES
from seggd_training.evaluation.report.record import BundleRecord, DataRecord, GenerationRecord, Report, parse_report

_ADVICE = "give another folder with -o, or replace it by --force"
Settings = Mapping[str, str | int]
"""By the names that a user knows."""


def settings_of(
    bundle: BundleRecord, data: DataRecord, generation: GenerationRecord, versions: Mapping[str, str]
) -> Settings:
    """Return what decides the figures, the segmenter apart."""
    engine = generation.engine
    return {
        "bundle": bundle.sha256,
        "data": data.content_sha256,
        "patients": data.patients_sha256 or "none",
        "split": data.split,
        "images": data.images,
        "sampler": generation.sampler,
        "spacing": generation.spacing,
        "steps": generation.steps,
        "seed": generation.seed,
        "batch": generation.batch,
        "engine": engine.engine,
        "engine version": engine.version,
        "device": engine.device_name,
        "precision": engine.precision.value,
        "threads": engine.threads or "any",
        **versions,
    }


def earlier_report(path: Path, settings: Settings) -> Report | None:
    """Return the report at a path, None if there is none.

    Raises
    ------
    OptionError
        There is one of other settings, which the message names, or of another version.
    """
    if not path.exists():
        return None
    try:
        report = parse_report(read_file(path, MAX_REPORT_BYTES))
    except (OSError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise OptionError(f"{path} is there and no report of this version: {_ADVICE}") from error
    require_same(path, settings_of(report.bundle, report.data, report.generation, report.versions), settings)
    return report


def require_same(path: Path, before: Settings, now: Settings) -> None:
    """Refuse to replace a report of other settings.

    Raises
    ------
    OptionError
        A setting differs; the message names each that does.
    """
    changed = [name for name, value in now.items() if before.get(name, "none") != value]
    if changed:
        was, has = (", ".join(f"{n} {str(some.get(n, 'none'))[:12]}" for n in changed) for some in (before, now))
        raise OptionError(f"{path} was made with {was}, and this evaluation has {has}: {_ADVICE}")
