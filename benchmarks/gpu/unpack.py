"""Unpack what `benchmarks.gpu.pack` packed, as far as its parts are here.

    python -m benchmarks.gpu.unpack PARTS SITE

Parts may arrive over several calls: an archive is unpacked once all its parts are in PARTS and have the checksums of
`parts.sha256`. What SITE has already is not unpacked again. This module needs no package.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.pack import CHECKSUMS


def main(arguments: Sequence[str] | None = None) -> int:
    """Unpack; return the exit code: 0, or 1 where a part is damaged."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.unpack", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("parts", type=Path, metavar="PARTS", help="folder of the parts")
    parser.add_argument("site", type=Path, metavar="SITE", help="folder for the packages")
    options = parser.parse_args(arguments)
    options.site.mkdir(parents=True, exist_ok=True)
    checksums = options.parts / CHECKSUMS
    if not checksums.is_file():
        print(f"{checksums.name} is not here: only the packages of this machine are used")
        return 0
    damaged = False
    for name, parts in archives(checksums.read_text("utf-8")).items():
        done = options.site / f".unpacked-{name}"
        if done.exists():
            continue
        here = {part: (options.parts / part).read_bytes() for part in parts if (options.parts / part).is_file()}
        wrong = [part for part, content in here.items() if hashlib.sha256(content).hexdigest() != parts[part]]
        if wrong:
            print(f"error: {', '.join(wrong)} has a wrong checksum: copy it to this machine again", file=sys.stderr)
            damaged = True
        elif len(here) < len(parts):
            print(f"{name}: {len(here)} of {len(parts)} parts are here")
        else:
            with tarfile.open(fileobj=io.BytesIO(b"".join(here.values())), mode="r:xz") as archive:
                archive.extractall(options.site, filter="data")
            done.touch()
            print(f"{name}: unpacked")
    return 1 if damaged else 0


def archives(checksums: str) -> dict[str, dict[str, str]]:
    """Return the parts of each archive, in order, with their SHA-256."""
    found: dict[str, dict[str, str]] = {}
    for line in checksums.splitlines():
        digest, _, part = line.partition("  ")
        name = part.removesuffix(".tar.xz") if part.endswith(".tar.xz") else part.rpartition("-")[0]
        found.setdefault(name, {})[part] = digest
    return found


if __name__ == "__main__":
    sys.exit(main())
