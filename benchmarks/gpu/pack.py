"""Pack what a GPU host without a network lacks, in parts small enough to carry.

    python -m benchmarks.gpu.pack PARTS [PACKAGE ...] [--part-mib 38] [--capability 9.0] [--python 3.12]

Wheels are downloaded for Linux on x86-64, without what they depend on, and unpacked into one folder. PARTS then holds
`small.tar.xz` and, for what is large, `NAME.tar.xz` in parts NAME-00, NAME-01, and so on, with their checksums in
`parts.sha256`. `python -m benchmarks.gpu.unpack` unpacks them there. `--capability` leaves out ONNX Runtime's kernels
for other GPUs, three quarters of it.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from seggd_rt.errors import DataError

PACKAGES = (
    "msgspec", "platformdirs", "safetensors", "diffusers", "cuda-core", "cuda-bindings", "cuda-pathfinder",
    "onnxruntime-gpu",
)  # fmt: skip
"""What hosts with PyTorch lack, as a rule."""
CHECKSUMS = "parts.sha256"
"""The file of the parts' checksums, as sha256sum writes and checks them."""
_PLATFORMS = tuple(f"manylinux_2_{minor}_x86_64" for minor in (35, 34, 31, 28, 27, 24, 17))
_LARGE = 24 << 20
_FATBIN = struct.Struct("<IHHQ")
_FATBIN_MAGIC = 0xBA55ED50
_KIND_MACHINE_CODE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.pack", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="PARTS", help="folder for the parts")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=f"by default {' '.join(PACKAGES)}")
    parser.add_argument("--part-mib", type=float, default=38, help="the largest part, 38 by default")
    parser.add_argument("--capability", help="the host's compute capability, as 9.0: kernels for others are left out")
    parser.add_argument("--python", default="3.12", help="the host's, 3.12 by default")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        wheels = download(options.packages or PACKAGES, Path(scratch), options.python)
        checksums = []
        small = [wheel for wheel in wheels if wheel.stat().st_size < _LARGE]
        for name, group in [("small", small), *((w.name.split("-")[0], [w]) for w in wheels if w not in small)]:
            try:
                packed = pack(group, Path(scratch, f"{name}.tar.xz"), options.capability)
            except DataError as error:
                print(f"error: {name}: {error}", file=sys.stderr)
                return 2
            for part in cut(packed, options.folder / name, int(options.part_mib * 2**20)):
                checksums.append(f"{hashlib.sha256(part.read_bytes()).hexdigest()}  {part.name}\n")
                print(f"{part.name}: {part.stat().st_size / 2**20:.1f} MiB")
        (options.folder / CHECKSUMS).write_text("".join(checksums), "utf-8")
    return 0


def download(packages: Sequence[str], folder: Path, python: str) -> list[Path]:
    """Download wheels, as they are named and nothing beside them; return their files."""
    platforms = [argument for platform in _PLATFORMS for argument in ("--platform", platform)]
    subprocess.run(  # noqa: S603
        (
            *(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"),
            *("--implementation", "cp", "--python-version", python, *platforms, "-d", str(folder), *packages),
        ),
        check=True,
    )
    return sorted(folder.glob("*.whl"))


def pack(wheels: Sequence[Path], path: Path, capability: str | None) -> Path:
    """Unpack wheels into one compressed archive."""
    with tempfile.TemporaryDirectory() as site:
        for wheel in wheels:
            shutil.unpack_archive(wheel, site, "zip")
        if capability is not None:
            for library in Path(site).rglob("libonnxruntime_providers_cuda.so"):
                library.write_bytes(without_other_gpus(library.read_bytes(), int(capability.replace(".", ""))))
        with lzma.open(path, "w", preset=6) as compressed, tarfile.open(fileobj=compressed, mode="w") as archive:
            archive.add(site, arcname=".")
    return path


def without_other_gpus(library: bytes, architecture: int) -> bytes:
    """Return a library with zeroes in place of the machine code for other GPUs; nothing else moves or changes.

    CUDA's fat binaries are a header (magic, version, header's size, size of what follows) and entries: kind, version,
    header's size, size of the code, and at byte 28 the architecture.

    Raises
    ------
    DataError
        It has no code for this GPU: nothing would be left.
    """
    data, at, built = bytearray(library), 0, set[int]()
    while (at := data.find(struct.pack("<I", _FATBIN_MAGIC), at)) >= 0:
        _, version, header, size = _FATBIN.unpack_from(data, at)
        if (version, header) != (1, _FATBIN.size):
            at += 4
            continue
        entry, end = at + header, at + header + size
        while entry < end:
            kind, _, header = struct.unpack_from("<HHI", data, entry)
            (length,) = struct.unpack_from("<Q", data, entry + 8)
            (built_for,) = struct.unpack_from("<I", data, entry + 28)
            if kind == _KIND_MACHINE_CODE:
                built.add(built_for)
            if (kind, built_for) != (_KIND_MACHINE_CODE, architecture):
                data[entry + header : entry + header + length] = bytes(length)
            entry += header + length
        at = end
    if built and architecture not in built:
        raise DataError(f"the library has code for {', '.join(map(str, sorted(built)))} and none for {architecture}")
    return bytes(data)


def cut(path: Path, stem: Path, size: int) -> list[Path]:
    """Cut a file into parts of at most so many bytes, or copy it where it is not larger; return them."""
    content = path.read_bytes()
    if len(content) <= size:
        parts = {stem.with_name(path.name): content}
    else:
        starts = range(0, len(content), size)
        parts = {stem.with_name(f"{stem.name}-{i:02}"): content[at : at + size] for i, at in enumerate(starts)}
    for part, piece in parts.items():
        part.write_bytes(piece)
    return [*parts]


if __name__ == "__main__":
    sys.exit(main())
