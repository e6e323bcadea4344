"""`seggd-rt doctor`: what is installed, which engines can run here, why the others cannot, and what to install."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from typing import Annotated

import msgspec
import typer

import seggd_rt
from seggd_rt import terminal

_PACKAGES = {
    "numpy": "always",
    "pillow": "always",
    "safetensors": "always",
    "onnxruntime": "cpu",
    "onnxruntime-gpu": "cuda",
    "cuda-core": "cuda, tensorrt, tensorrt-rtx",
    "tensorrt": "tensorrt",
    "tensorrt-rtx-cu13": "tensorrt-rtx",
    "openvino": "cpu, cuda",
    "torch": "export, train",
    "diffusers": "export, train",
    "onnx": "export",
    "onnxscript": "export",
    "accelerate": "train",
    "monai": "eval",
    "nibabel": "nifti",
    "pydicom": "dicom",
    "highdicom": "dicom",
    "cryptography": "sign",
    "jinja2": "card, eval",
}
"""Packages that matter, and the extras that bring them."""


class PackageReport(msgspec.Struct, frozen=True):
    """A package: its version, None where it is not installed, and what brings it."""

    name: str
    version: str | None
    extra: str


class GpuReport(msgspec.Struct, frozen=True):
    """A GPU: the device's name, its maker's name, its compute capability ("8.9"), and all of its memory."""

    device: str
    name: str
    compute_capability: str
    memory_bytes: int


class EngineReport(msgspec.Struct, frozen=True):
    """An engine of a package on a device: whether it can run, in which precisions, else why not and what to do."""

    name: str
    package: str
    device: str
    usable: bool
    version: str
    device_name: str
    precisions: tuple[str, ...]
    reason: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `doctor` finds; `cpu_features` is None where the system does not tell, `no_gpu` says why there is none."""

    seggd_rt: str
    python: str
    executable: str
    platform: str
    cpu: str
    cpu_cores: int
    cpu_features: tuple[str, ...] | None
    gpus: tuple[GpuReport, ...]
    no_gpu: str | None
    packages: tuple[PackageReport, ...]
    engines: tuple[EngineReport, ...]
    advice: tuple[str, ...]


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say what is installed, which engines can run here, why the others cannot, and what to install."""
    report = examine()
    if as_json:
        terminal.result_lines(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        _print(report)


def examine() -> Report:
    """Look at this machine. Packages are not imported, but for what an engine needs to answer."""
    from seggd_rt.engine import DeviceKind, registry, this_cpu
    from seggd_rt.gpu import find_gpus, why_no_gpu

    cpu, gpus = this_cpu(), find_gpus()
    devices = {
        DeviceKind.CPU: ("cpu",),
        # Where there is no GPU, an engine for one still says what else it lacks.
        DeviceKind.CUDA: tuple(f"cuda:{gpu.ordinal}" for gpu in gpus) or ("cuda:0",),
    }
    engines = tuple(
        EngineReport(
            engine.name,
            registry.package_of(engine),
            device,
            there.usable,
            there.version,
            there.device_name,
            there.precisions,
            there.reason,
        )
        for engine in registry.engines()
        for device in devices[engine.kind]
        for there in [engine.availability(device)]
    ) + tuple(
        EngineReport(each.name, each.package, "", False, "", "", (), each.reason) for each in registry.failed_engines()
    )
    return Report(
        seggd_rt=seggd_rt.__version__,
        python=platform.python_version(),
        executable=sys.executable,
        platform=platform.platform(),
        cpu=cpu.name,
        cpu_cores=cpu.usable_cores,
        cpu_features=cpu.features,
        gpus=tuple(GpuReport(f"cuda:{gpu.ordinal}", gpu.name, gpu.capability, gpu.memory_bytes) for gpu in gpus),
        no_gpu=why_no_gpu(),
        packages=tuple(PackageReport(name, _version(name), extra) for name, extra in _PACKAGES.items()),
        engines=engines,
        advice=_advice(engines),
    )


def _advice(engines: tuple[EngineReport, ...]) -> tuple[str, ...]:
    advice = []
    if not any(engine.usable for engine in engines):
        advice.append("no engine can run here, so no image can be drawn: pip install 'seggd-rt[cpu]'")
    advice += [f"{engine.name}: {engine.reason}" for engine in engines if not engine.usable]
    missing = [name for name in ("torch", "diffusers", "onnx") if _version(name) is None]
    if missing:
        advice.append(
            f"only for export and training: {', '.join(missing)} not installed: "
            "pip install 'seggd-rt[export]' or 'seggd-rt[train]'"
        )
    return tuple(advice)


def _describe(gpu: GpuReport) -> str:
    return f"{gpu.name}, compute capability {gpu.compute_capability}, {gpu.memory_bytes / 2**30:.0f} GiB"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _print(report: Report) -> None:
    from rich.table import Table

    console = terminal.console()
    machine = Table.grid(padding=(0, 2))
    features = "unknown on this system" if report.cpu_features is None else ", ".join(report.cpu_features) or "none"
    for title, value in (
        ("seggd-rt", report.seggd_rt),
        ("Python", f"{report.python}  {report.executable}"),
        ("platform", report.platform),
        ("CPU", f"{report.cpu}, {report.cpu_cores} cores to use"),
        ("CPU features", features),
        *((gpu.device, _describe(gpu)) for gpu in report.gpus),
        *([] if report.no_gpu is None else [("GPU", f"none: {report.no_gpu}")]),
    ):
        machine.add_row(title, value)
    packages = Table("package", "version", "extra", box=None, padding=(0, 2, 0, 0))
    for package in report.packages:
        packages.add_row(package.name, package.version or "-", package.extra)
    engines = Table(
        "engine", "package", "device", "runs", "precisions, own choice first", box=None, padding=(0, 2, 0, 0)
    )
    for engine in report.engines:
        engines.add_row(
            f"{engine.name} {engine.version}".strip(),
            engine.package,
            engine.device,
            "yes" if engine.usable else "no",
            ", ".join(engine.precisions) if engine.usable else "see below",
        )
    for table in (machine, packages, engines):
        console.print(table)
        console.print()
    for line in report.advice:
        console.print(f"- {line}", soft_wrap=True)
