"""The report that an earlier run left in the output folder: gone on with where its settings are the same, else kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from seggd_rt.errors import OptionError
from seggd_training.evaluation.record import Report, parse_report

_ADVICE = "give another folder with -o, or replace it by --force"
Settings = Mapping[str, str | int]
"""By the names that a user knows."""


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
        report = parse_report(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} is there and no report of this version: {_ADVICE}") from error
    generation = report.generation
    require_same(
        path,
        {
            "bundle": report.bundle.sha256,
            "data": report.data.content_sha256,
            "split": report.data.split,
            "images": report.data.images,
            "sampler": generation.sampler,
            "spacing": generation.spacing,
            "steps": generation.steps,
            "seed": generation.seed,
            "engine": generation.engine.engine,
            "engine version": generation.engine.version,
            "precision": generation.engine.precision.value,
            **report.versions,
        },
        settings,
    )
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
