"""PNG: label maps of 1 to 16 bits, grey or palette; real images of 8 or 16; images of 8 bits, grey or RGB."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seggd_rt.bundle import MAX_PIXELS, Manifest
from seggd_rt.errors import DataError, LabelMapError, OptionError
from seggd_rt.files import MayReplace, NewFile, open_regular
from seggd_rt.imaging.contract import (
    PLAIN,
    Format,
    ImageFile,
    ImageStack,
    PixelValues,
    Reading,
    StatedFile,
    check_size,
    unmarked,
)
from seggd_rt.imaging.provenance import KEY, Provenance, dump, note, parse
from seggd_rt.wording import printable

if TYPE_CHECKING:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

_MAGIC = b"\x89PNG\r\n\x1a\n"
_SIGNATURE = _MAGIC + b"\0\0\0\rIHDR"
_GREY, _PALETTE = 0, 3
_COLORS = {2: "an RGB image", 4: "a grey image with transparency", 6: "an RGBA image"}
_DEPTHS = {_GREY: (1, 2, 4, 8, 16), _PALETTE: (1, 2, 4, 8)}
_REAL_MODES = ("1", "L", "I;16", "RGB")
"""Pillow's names of what can be a real image; "I;16" is 16 bits."""
_TEXTS, _PICTURE = ("tEXt", "zTXt", "iTXt"), ("IHDR", "IDAT", "IEND")
_DAMAGE = (OSError, SyntaxError, ValueError, LookupError, TypeError, EOFError, struct.error, zlib.error)
"""What Pillow raises for damaged files: SyntaxError is its own choice, others are what it runs into in a chunk."""


@dataclass(frozen=True, slots=True)
class PngLabelMap:
    """A PNG of one label map: the values of grey pixels, or the palette's indices, are class ids."""

    path: Path
    height: int
    width: int
    depth: int
    palette: bool
    stacked: bool = False
    geometry: None = None

    def __len__(self) -> int:
        """Return 1."""
        return 1

    def read(self, index: int) -> NDArray[Any]:
        """Return the label map: see `LabelMapFile.read`."""
        from PIL import Image

        try:
            with _opened(self.path) as image:
                frames = getattr(image, "n_frames", 1)
                pixels = np.asarray(image)
        except (*_DAMAGE, Image.DecompressionBombError) as error:  # a bomb by the size that a second header states
            raise _unreadable(self.path, error) from error
        if frames > 1 or pixels.shape != (self.height, self.width):
            raise DataError(f"{self.path} is not one PNG image of {self.height}x{self.width}: save it again")
        if pixels.dtype == np.bool_ and self.palette:
            return pixels.astype(np.uint8)
        if self.depth in (2, 4) and not self.palette:
            # Pillow spreads the few grey levels over 0 to 255.
            return pixels // np.uint8(255 // (2**self.depth - 1))
        return pixels


@dataclass(frozen=True, slots=True)
class PngReal:
    """A PNG of one real image, whose type's largest value is white."""

    path: Path
    geometry: None = None
    physical: bool = False

    def __len__(self) -> int:
        """Return 1."""
        return 1

    def read(self, index: int) -> NDArray[Any]:
        """Return the image: see `RealFile.read`."""
        from PIL import Image

        try:
            with _opened(self.path) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise DataError(f"{self.path} has more than {MAX_PIXELS} pixels: make it smaller")
                if opened.mode not in _REAL_MODES:
                    raise DataError(f"{self.path} is a PNG of mode {opened.mode}: save it as grey or RGB")
                return np.asarray(opened)
        except DataError:
            raise
        except (*_DAMAGE, Image.DecompressionBombError) as error:
            raise _unreadable(self.path, error) from error


class PngReader:
    """Reads label maps and real images from PNG."""

    format = Format.PNG
    suffixes: tuple[str, ...] = (".png",)

    def owns(self, folder: Path) -> bool:
        """Return False: see `Reader.owns`."""
        return False

    def open_real(self, path: Path, reading: Reading = PLAIN) -> PngReal:
        """Open a real image: see `Reader.open_real`."""
        return PngReal(path)

    def open_region(self, path: Path, reading: Reading = PLAIN) -> PngLabelMap:
        """Open a region as a label map: see `Reader.open_region`."""
        return self.open(path, reading)

    def open(self, path: Path, reading: Reading = PLAIN) -> PngLabelMap:
        """Open a PNG by its header: see `Reader.open`."""
        try:
            with open_regular(path) as file:
                header = file.read(26)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
        if len(header) < 26 or not header.startswith(_SIGNATURE):
            raise DataError(f"{path} is not a PNG file, or not a whole one: save it again")
        width, height = int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
        depth, color = header[24], header[25]
        if color in _COLORS:
            raise LabelMapError(
                f"{path} is {_COLORS[color]}; a label map has one class id a pixel: save it as 8-bit grey or "
                "palette PNG, or as .npy of integers"
            )
        if depth not in _DEPTHS.get(color, ()):
            raise DataError(f"{path} states a colour type that PNG does not have: save it again")
        check_size(path, height, width)
        return PngLabelMap(path, height, width, depth, color == _PALETTE)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a PNG whose chunks end within the file: Pillow asks for as much memory as a chunk states."""
    from PIL import Image

    with open_regular(path) as file:
        end, at = file.seek(0, os.SEEK_END), len(_MAGIC)
        while at + 8 <= end:
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8))
            at += 12 + length
            if at > end:
                raise ValueError("it is not whole")
            if kind == b"IEND":
                break
        file.seek(0)
        with Image.open(file, formats=("PNG",)) as image:
            yield image


def _chunks(path: Path) -> tuple[list[tuple[str, bytes]], int]:
    """Return the kinds of a PNG's chunks with what they hold, and how many bytes follow the last; of IDAT nothing."""
    found: list[tuple[str, bytes]] = []
    with open_regular(path) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(len(_MAGIC))
        while file.tell() + 8 <= end and (not found or found[-1][0] != "IEND"):
            length, kind = struct.unpack(">I4s", file.read(8))
            start = file.tell()
            data = b"" if kind == b"IDAT" else file.read(min(length, end - start))
            found.append((kind.decode("latin-1"), data))
            file.seek(start + length + 4)
        return found, max(end - file.tell(), 0)


def _unreadable(path: Path, error: Exception) -> DataError:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return DataError(f"{path} is not a PNG file, or a damaged one: save it again")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return DataError(f"{path} cannot be read as PNG ({reason}): save it again")


def png_texts(made: Sequence[Provenance]) -> PngInfo:
    """Return the texts of a PNG that say how what is in it was made."""
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    if made:
        for name, text in _about(made).items():
            texts.add_text(name, text)
        texts.add_itxt(KEY, dump(made).decode())
    return texts


def _about(made: Sequence[Provenance]) -> dict[str, str]:
    return {"Software": f"seggd-rt {made[0].version}", "Comment": note(made)}


class PngWriter:
    """Writes one image as PNG of 8 bits: grey, or RGB where it has three channels."""

    suffixes: tuple[str, ...] = (".png",)
    ending = ".png"
    holds_many = False
    holds_volume = False

    def check(self, stack: ImageStack) -> None:
        """Say whether a PNG can hold these images: see `ImageWriter.check`."""
        if stack.channels not in (1, 3):
            raise OptionError(f"PNG holds 1 or 3 channels, and this bundle draws {stack.channels}: write a .npy")
        if stack.count != 1:
            raise OptionError(f"a PNG holds one image, and this run draws {stack.count}: write a folder or a .npy")

    @contextmanager
    def create(self, path: Path, stack: ImageStack, may_replace: MayReplace | None = None) -> Iterator[ImageFile]:
        """Start a PNG: see `ImageWriter.create`."""
        with NewFile(path, may_replace=may_replace) as file:
            yield _PngImage(file)

    def made(self, path: Path) -> tuple[Provenance, ...]:
        """Return how an image was made: see `ImageWriter.made`."""
        from PIL import Image

        try:
            with _opened(path) as image:
                text = image.info.get(KEY)
        except (*_DAMAGE, Image.DecompressionBombError) as error:
            raise _unreadable(path, error) from error
        if not isinstance(text, str):
            raise unmarked(path)
        return parse(text.encode("utf-8", "surrogatepass"), str(path))

    def stated(self, path: Path, *, kept: bool = False) -> tuple[StatedFile, ...]:
        """Return texts and chunks that seggd-rt does not write, and what follows the end: see `ImageWriter.stated`.

        Its own texts beside the record repeat it, and may be gone.
        """
        from PIL import Image

        own = {(name, text) for name, text in _about(self.made(path)).items()}
        try:
            with _opened(path) as image:
                image.load()
                found = {name: str(text) for name, text in image.text.items() if name != KEY}  # type: ignore[attr-defined]
            chunks, after = _chunks(path)
        except (*_DAMAGE, Image.DecompressionBombError) as error:
            raise _unreadable(path, error) from error
        texts = {f"text '{printable(name)}'": text for name, text in found.items() if (name, text) not in own}
        names = [data.partition(b"\0")[0] for kind, data in chunks if kind in _TEXTS]
        texts |= {f"several texts '{printable(name.decode('latin-1'))}'": "" for name in names if names.count(name) > 1}
        texts |= {
            f"chunk {printable(kind)}": hashlib.sha256(data).hexdigest()
            for kind, data in chunks
            if kind not in (*_TEXTS, *_PICTURE)
        }
        if after:
            texts["bytes after its end"] = str(after)
        return (StatedFile(path.name, texts),)

    def values(self, manifest: Manifest) -> PixelValues:
        """Return 0 to 255: see `ImageWriter.values`."""
        return PixelValues(255, 1)


@dataclass(frozen=True)
class _PngImage:
    file: NewFile

    def append(self, image: NDArray[np.float32], made: Provenance | None = None) -> None:
        from PIL import Image

        pixels = np.rint(image * np.float32(255)).astype(np.uint8)
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        texts = png_texts([] if made is None else [made])
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, format="PNG", pnginfo=texts)
        self.file.write(data.getbuffer())
