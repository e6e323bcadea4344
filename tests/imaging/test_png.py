"""PNG label maps of every depth, what is refused, and what images become."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seggd_rt.errors import DataError, LabelMapError, OptionError, SeggdError
from seggd_rt.imaging import ImageStack
from seggd_rt.imaging.png import PngReader, PngWriter

LABELS = np.array([[0, 1, 2], [3, 2, 1]], np.uint8)


def png(depth: int, color: int, rows: list[bytes], *, size: tuple[int, int] = (2, 3), palette: bytes = b"") -> bytes:
    """Return a PNG made by hand: (height, width), and each row's packed pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size[1], size[0], depth, color, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    colors = chunk(b"PLTE", palette) if palette else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + colors + chunk(b"IDAT", data) + chunk(b"IEND", b"")


# Each packs LABELS; a pixel of 1 bit cannot hold 2 or 3.
HAND_MADE = {
    "grey 1": (png(1, 0, [b"\x40", b"\xa0"]), [[0, 1, 0], [1, 0, 1]]),
    "grey 2": (png(2, 0, [b"\x18", b"\xe4"]), LABELS),
    "grey 4": (png(4, 0, [b"\x01\x20", b"\x32\x10"]), LABELS),
    "grey 8": (png(8, 0, [b"\0\1\2", b"\3\2\1"]), LABELS),
    "grey 16": (png(16, 0, [b"\0\0\0\1\0\2", b"\0\3\0\2\1\1"]), [[0, 1, 2], [3, 2, 257]]),
    "palette 2": (png(2, 3, [b"\x18", b"\xe4"], palette=bytes(range(12))), LABELS),
    "palette 4": (png(4, 3, [b"\x01\x20", b"\x32\x10"], palette=b"\xff\0\0" * 4), LABELS),
    "palette 8": (png(8, 3, [b"\0\1\2", b"\3\2\1"], palette=b"\7\7\7" * 4), LABELS),
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_reads_class_ids_of_every_depth(name: str, tmp_path: Path) -> None:
    data, labels = HAND_MADE[name]
    path = tmp_path / "mask.png"
    path.write_bytes(data)
    file = PngReader().open(path)
    assert (len(file), file.stacked, file.height, file.width) == (1, False, 2, 3)
    found = file.read(0)
    assert found.dtype.kind == ("b" if name == "grey 1" else "u")
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize(
    ("mode", "named"), [("RGB", "an RGB image"), ("RGBA", "an RGBA image"), ("LA", "a grey image with")]
)
def test_refuses_colours(mode: str, named: str, tmp_path: Path) -> None:
    Image.new(mode, (4, 3)).save(tmp_path / "mask.png")
    with pytest.raises(LabelMapError, match=f"{named}.*save it as 8-bit grey"):
        PngReader().open(tmp_path / "mask.png")


GREY = HAND_MADE["grey 8"][0]
NOT_PNG = {
    "empty": (b"", "not a PNG"),
    "text": (b"not an image at all, but long enough", "not a PNG"),
    "header cut": (GREY[:20], "not a PNG"),
    "pixels cut": (GREY[:45], "cannot be read as PNG"),
    "changed byte": (GREY[:43] + b"\xff" + GREY[44:], "cannot be read as PNG"),
    "no such depth": (png(3, 0, [b"", b""]), "colour type"),
    "no such colour": (png(8, 5, [b"", b""]), "colour type"),
    "no pixels": (png(8, 0, [], size=(0, 3)), "1 to"),
    "a bomb": (png(8, 0, [b"\0"], size=(1 << 30, 1 << 30)), "1 to"),
    "a bomb in a second header": (GREY[:33] + png(8, 0, [b"\0"], size=(1 << 16, 1 << 16))[8:], "cannot be read as PNG"),
}


@pytest.mark.parametrize("name", NOT_PNG)
def test_refuses_damage(name: str, tmp_path: Path) -> None:
    data, message = NOT_PNG[name]
    path = tmp_path / "mask.png"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        PngReader().open(path).read(0)


def test_refuses_animations(tmp_path: Path) -> None:
    frames = [Image.fromarray(LABELS), Image.fromarray(LABELS[::-1])]
    frames[0].save(tmp_path / "mask.png", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="not one PNG image"):
        PngReader().open(tmp_path / "mask.png").read(0)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        PngReader().open(tmp_path / "mask.png")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(HAND_MADE[data.draw(st.sampled_from(sorted(HAND_MADE)))][0])
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "fuzzed.png"
    path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    try:
        file = PngReader().open(path)
        assert file.read(0).shape == (file.height, file.width)
    except SeggdError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_writes_eight_bits(channels: int, mode: str, tmp_path: Path) -> None:
    image = np.linspace(0, 1, 6 * channels, dtype=np.float32).reshape(2, 3, channels)
    path = tmp_path / "image.png"
    with PngWriter().create(path, ImageStack(1, 2, 3, channels)) as file:
        file.append(image[:, :, 0] if channels == 1 else image)
        assert not path.exists()
    with Image.open(path) as written:
        assert written.mode == mode
        np.testing.assert_array_equal(np.asarray(written).reshape(image.shape), np.rint(image * 255))


@pytest.mark.parametrize(
    ("stack", "message"),
    [(ImageStack(1, 2, 3, 2), "1 or 3 channels"), (ImageStack(2, 2, 3, 1), "holds one image, and this run draws 2")],
)
def test_says_what_it_cannot_hold(stack: ImageStack, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        PngWriter().check(stack)
