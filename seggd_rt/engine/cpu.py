"""What this machine's CPU is called, and what it can multiply in."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from seggd_rt.errors import OptionError

_CPUINFO = Path("/proc/cpuinfo")
_WORTH_KNOWING = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI (int8)",
    "avx_vnni": "AVX-VNNI (int8)",
    "avx512_bf16": "AVX-512 BF16",
    "avx512_fp16": "AVX-512 FP16",
    "amx_int8": "AMX int8",
    "amx_bf16": "AMX bf16",
    "amx_fp16": "AMX fp16",
    "asimd": "NEON",
    "asimdhp": "NEON fp16",
    "sve": "SVE",
    "bf16": "NEON bf16",
    "i8mm": "NEON int8",
}
"""Kernel names of the features that change which precisions are fast, and what makers call them."""


@dataclass(frozen=True)
class Cpu:
    """One machine's CPU.

    Attributes
    ----------
    name
        What its maker calls it.
    usable_cores
        Logical CPUs this process may use.
    features
        What of `_WORTH_KNOWING` it has; None where the system does not tell.
    """

    name: str
    usable_cores: int
    features: tuple[str, ...] | None


@cache
def this_cpu() -> Cpu:
    """Describe this machine's CPU: in full on Linux, elsewhere by what Python knows."""
    fields = _cpuinfo(_CPUINFO)
    name = fields.get("model name") or platform.processor() or platform.machine()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    features = tuple(title for flag, title in _WORTH_KNOWING.items() if flag in flags) if flags else None
    return Cpu(name, _usable_cores(), features)


def check_threads(threads: object, name: str = "threads") -> None:
    """Refuse more threads than the machine has cores: they would only wait for each other.

    Parameters
    ----------
    threads
        What a caller gave; None for the engine's own choice.
    name
        What messages call it.

    Raises
    ------
    OptionError
        It is no whole number, or out of range.
    """
    cores = os.cpu_count() or 1
    whole = isinstance(threads, int | np.integer) and not isinstance(threads, bool)
    if threads is not None and not (whole and threads in range(1, cores + 1)):
        raise OptionError(f"{name} is {threads!r}: this machine has {cores} core{'s' * (cores > 1)}; give 1 to {cores}")


def _cpuinfo(path: Path) -> dict[str, str]:
    """Return the fields of the first CPU that the kernel lists."""
    fields: dict[str, str] = {}
    if path.is_file():
        for line in path.read_text(errors="replace").splitlines():
            key, colon, value = line.partition(":")
            if colon:
                fields.setdefault(key.strip(), value.strip())
    return fields


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
