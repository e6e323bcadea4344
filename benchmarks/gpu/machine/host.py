"""The machine that is measured: device, driver, versions, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from typing import Any

import torch

import seggd_rt
from benchmarks.gpu.machine.checkout import ROOT, first_line, portable
from benchmarks.gpu.results import Host, Run
from seggd_rt.engine import this_cpu

_PACKAGES = (
    "numpy", "torch", "triton", "diffusers", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "tensorrt",
    "tensorrt-cu13", "tensorrt-rtx", "tensorrt-rtx-cu13", "cuda-core", "cuda-bindings", "nvidia-cudnn-cu13",
    "nvidia-cublas",
)  # fmt: skip


def why_not_here(ordinal: int = 0) -> str | None:
    """Return why nothing can be measured on a GPU here, in one line, or None."""
    if torch.version.cuda is None:
        return f"this PyTorch ({torch.__version__}) has no CUDA: install one that has, on a machine with an NVIDIA GPU"
    if not torch.cuda.is_available():
        return "PyTorch finds no NVIDIA GPU here: check nvidia-smi and CUDA_VISIBLE_DEVICES"
    if ordinal >= torch.cuda.device_count():
        return f"there is no device cuda:{ordinal}: this machine has {torch.cuda.device_count()}"
    return None


def this_run(arguments: list[str], ordinal: int) -> Run:
    """Describe a start of the script on a GPU."""
    command = portable(" ".join(["python -m benchmarks.gpu", *arguments]))
    return Run(started=datetime.now(UTC).isoformat(timespec="seconds"), command=command, host=_this_host(ordinal))


def _this_host(ordinal: int) -> Host:
    gpu = torch.cuda.get_device_properties(ordinal)
    versions = {name: version for name in _PACKAGES if (version := _version(name)) is not None}
    cudnn: Any = torch.backends.cudnn
    return Host(
        device=gpu.name,
        compute_capability=f"{gpu.major}.{gpu.minor}",
        memory_mib=gpu.total_memory >> 20,
        driver=first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or "unknown",
        cpu=this_cpu().name,
        cores=this_cpu().usable_cores,
        platform=platform.platform(),
        versions={
            "python": platform.python_version(),
            "seggd-rt": seggd_rt.__version__,
            **versions,
            "cuda": torch.version.cuda or "none",
            "cudnn": str(cudnn.version()),
        },
        commit=first_line("git", "-C", str(ROOT), "rev-parse", "HEAD") or os.environ.get("SEGGD_COMMIT", "unknown"),
        changed=bool(first_line("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")),
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
