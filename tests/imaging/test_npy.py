"""Label maps, noise and images in .npy."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seggd_rt.errors import DataError, LabelMapError, OutputError, SeggdError
from seggd_rt.imaging import ImageStack, NpyArray, npy
from seggd_rt.imaging.npy import NpyReader, NpyWriter

LABELS = np.array([[0, 1, 2], [3, 2, 1]])


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">i4", "i8", "u8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_every_integer_type(dtype: str, order: str, tmp_path: Path) -> None:
    labels = np.array(LABELS, dtype, order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "mask.npy", labels)
    file = NpyReader().open(tmp_path / "mask.npy")
    assert (len(file), file.stacked) == (1, False)
    assert file.read(0).dtype == labels.dtype
    np.testing.assert_array_equal(file.read(0), labels)


def test_reads_a_stack_map_by_map(tmp_path: Path) -> None:
    stack = np.stack([LABELS, LABELS[::-1]]).astype(np.uint8)
    np.save(tmp_path / "masks.npy", stack)
    file = NpyReader().open(tmp_path / "masks.npy")
    assert (len(file), file.stacked) == (2, True)
    np.testing.assert_array_equal(file.read(1), stack[1])
    np.save(tmp_path / "one.npy", stack[:1])
    assert NpyReader().open(tmp_path / "one.npy").stacked


def saved(array: np.ndarray, **options: bool) -> bytes:
    data = io.BytesIO()
    np.save(data, array, **options)
    return data.getvalue()


def header(shape: str, dtype: str = "|u1") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text


REFUSED = {
    "float": (saved(LABELS.astype(np.float32)), LabelMapError, "float32; a label map must hold integers"),
    "complex": (saved(LABELS.astype(complex)), LabelMapError, "integers"),
    "text": (saved(LABELS.astype(str)), LabelMapError, "integers"),
    "records": (saved(np.zeros((2, 3), "u1,u1")), LabelMapError, "integers"),
    "objects": (saved(LABELS.astype(object), allow_pickle=True), DataError, "Python objects"),
    "one axis": (saved(LABELS[0]), LabelMapError, r"\(H, W\)"),
    "four axes": (saved(LABELS[None, None]), LabelMapError, r"\(H, W\)"),
    "colours": (saved(np.zeros((9, 8, 3), np.uint8)), LabelMapError, r"\(9, 8, 3\) has an axis of 3 last"),
    "transparency": (saved(np.zeros((9, 8, 4), np.uint8)), LabelMapError, "make class ids of the colours"),
    "one channel": (saved(np.zeros((9, 8, 1), np.uint8)), LabelMapError, r"take mask\[..., 0\]"),
    "no axis": (saved(np.array(3)), LabelMapError, r"\(H, W\)"),
    "no pixels": (saved(LABELS[:, :0]), LabelMapError, "1 to"),
    "no maps": (saved(LABELS[None][:0]), LabelMapError, "empty stack"),
    "empty": (b"", DataError, "not a .npy"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), DataError, "not a .npy"),
    "header cut": (saved(LABELS)[:30], DataError, "not a .npy"),
    "pixels cut": (saved(LABELS)[:-1], DataError, "copy it again"),
    "bytes too many": (saved(LABELS) + b"\0", DataError, "copy it again"),
    "two arrays": (saved(LABELS) + saved(LABELS), DataError, "copy it again"),
    "more than memory": (header("(1 << 40, 1 << 40)".replace("1 << 40", str(1 << 40))), DataError, "copy it again"),
    "overflows": (header(f"({1 << 32}, {1 << 32})"), DataError, "copy it again"),
    "negative": (header("(-2, -3)"), DataError, "copy it again"),
    "header of code": (header("__import__('os').getpid()"), DataError, "not a .npy"),
    "a long header": (header("(2, 3)" + " " * 60_000), DataError, "not a .npy"),
    "version 3": (b"\x93NUMPY\3\0" + saved(LABELS)[8:], DataError, "not a .npy"),
    "a zip": (b"PK\3\4" + bytes(100), DataError, "not a .npy"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, tmp_path: Path) -> None:
    data, error, message = REFUSED[name]
    path = tmp_path / "mask.npy"
    path.write_bytes(data)
    with pytest.raises(error, match=message) as caught:
        NpyReader().open(path)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Reading `.npy`")
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(saved(LABELS))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "fuzzed.npy"
    path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    try:
        NpyReader().open(path).read(0)
    except SeggdError as error:
        assert "\n" not in str(error)


def test_a_change_while_in_use_is_noticed(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", LABELS)
    array = NpyArray.open(tmp_path / "mask.npy")
    np.save(tmp_path / "mask.npy", LABELS.astype(np.uint8))
    with pytest.raises(DataError, match="changed while it was in use"):
        array.read()
    (tmp_path / "mask.npy").unlink()
    with pytest.raises(DataError, match="cannot be read any more"):
        array.read()


@pytest.mark.parametrize("index", [None, 1])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_that_is_truncated_while_it_is_read(
    index: int | None, order: Literal["C", "F"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "noise.npy"
    np.save(path, np.zeros((2, 300, 400), np.float32, order=order))
    array = NpyArray.open(path)

    class Truncating(io.BufferedReader):
        """Of a file that loses its end between its header and its numbers."""

        def readinto(self, buffer: Any) -> int:
            os.truncate(path, 1000)
            return super().readinto(buffer)

    monkeypatch.setattr(npy, "open_regular", lambda path: Truncating(io.FileIO(path)))
    with pytest.raises(DataError, match=r"noise\.npy is shorter than its header says: copy or save it again"):
        array.read(index)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", ">i4", "<f4"])
def test_parts_and_the_whole(dtype: str, order: Literal["C", "F"], tmp_path: Path) -> None:
    values = np.array(np.arange(3 * 4 * 5).reshape(3, 4, 5), dtype, order=order)
    np.save(tmp_path / "stack.npy", values)
    array = NpyArray.open(tmp_path / "stack.npy")
    for index in (None, 0, 2):
        found = array.read(index)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, values if index is None else values[index])


@pytest.mark.parametrize(("channels", "shape"), [(1, (2, 4, 5)), (3, (2, 4, 5, 3))])
def test_writes_a_stack(channels: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    images = np.random.default_rng(0).random(shape, np.float32)
    path = tmp_path / "images.npy"
    with NpyWriter().create(path, ImageStack(2, 4, 5, channels)) as file:
        for image in images:
            file.append(image)
    written = np.load(path)
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, images)


def test_a_stack_that_is_not_whole_does_not_appear(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="1 images were written of 2"),
        NpyWriter().create(tmp_path / "images.npy", ImageStack(2, 4, 5, 1)) as file,
    ):
        file.append(np.zeros((4, 5), np.float32))
    assert not list(tmp_path.iterdir())


def test_a_file_of_others_with_the_records_name_is_not_replaced(tmp_path: Path) -> None:
    beside = tmp_path / "images.npy.json"
    beside.write_text("{}")
    with (
        pytest.raises(OutputError, match=r"images\.npy\.json already exists and was not written by seggd-rt"),
        NpyWriter().create(tmp_path / "images.npy", ImageStack(1, 4, 5, 1)),
    ):
        raise AssertionError
    assert [path.read_text() for path in tmp_path.iterdir()] == ["{}"]
