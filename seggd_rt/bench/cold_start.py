"""A cold start, timed from outside: a fresh process loads a bundle and draws its first images.

    python -m seggd_rt.bench.cold_start REQUEST       REQUEST is the JSON of a `ColdRequest`; prints an `_Answer`

Only this module's standard-library imports come before the clock of the process's own imports.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

import msgspec

from seggd_rt.errors import EngineError, SeggdError


class ColdRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the fresh process does: the arguments of `seggd_rt.load`, then one batch of images."""

    bundle: str
    engine: str
    precision: str
    device: str = "auto"
    threads: int | None
    steps: int
    batch: int
    require_signature: str | None = None


class ColdStart(msgspec.Struct, frozen=True, kw_only=True):
    """How long a fresh process took to its first images, and its peak memory with them.

    Attributes
    ----------
    total_ms
        From the start of the process to the finished images, seen from outside.
    import_ms, load_ms, first_image_ms
        Parts of it: importing seggd_rt, `load` and the first batch. The rest is Python's own start.
    peak_memory_mib
        Most memory resident in the process; None where the system does not tell.
    """

    total_ms: float
    import_ms: float
    load_ms: float
    first_image_ms: float
    peak_memory_mib: float | None


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    import_ms: float
    load_ms: float
    first_image_ms: float
    peak_memory_mib: float | None


def cold_start(request: ColdRequest) -> ColdStart:
    """Time a fresh process.

    Raises
    ------
    EngineError
        The process failed; the message ends with its last words.
    """
    command = (sys.executable, "-m", __name__, msgspec.json.encode(request).decode())
    with tempfile.TemporaryFile("w+") as said:
        started = time.perf_counter()
        # A list of arguments, none of them from outside this package but the bundle's path: no shell is involved.
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as process:  # noqa: S603
            line = process.stdout.readline() if process.stdout else ""
            total = time.perf_counter() - started
        if process.returncode != 0 or not line:
            said.seek(0)
            words = said.read().strip().splitlines() or ["it said nothing"]
            raise EngineError(f"the fresh process ended with code {process.returncode}: {words[-1]}")
    answer = msgspec.json.decode(line, type=_Answer)
    return ColdStart(total_ms=1e3 * total, **msgspec.structs.asdict(answer))


def main(argument: str) -> None:
    """Do what a request asks, and print what each part took."""
    request = msgspec.json.decode(argument, type=ColdRequest)
    times = [time.perf_counter()]
    import numpy as np

    from seggd_rt.engine import peak_memory_bytes
    from seggd_rt.inference import load

    times.append(time.perf_counter())
    options = {"engine": request.engine, "precision": request.precision, "device": request.device}
    required = request.require_signature
    with load(request.bundle, **options, threads=request.threads, require_signature=required) as generator:
        times.append(time.perf_counter())
        masks = np.broadcast_to(
            generator.bundle.golden.label_map, (request.batch, *generator.bundle.golden.label_map.shape)
        )
        generator(masks, steps=request.steps)
        times.append(time.perf_counter())
        import_ms, load_ms, first_image_ms = (float(1e3 * part) for part in np.diff(times))
        peak = peak_memory_bytes()
        answer = _Answer(
            import_ms=import_ms,
            load_ms=load_ms,
            first_image_ms=first_image_ms,
            peak_memory_mib=None if peak is None else peak / (1 << 20),
        )
        print(msgspec.json.encode(answer).decode(), flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except SeggdError as error:
        sys.exit(str(error))
