"""Archives of arrays that are damaged, or made to do harm, are refused in one line."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seggd_rt.errors import DataError
from seggd_training.data import Split, load_dataset, read_npz
from tests.training.scenes import npz_arrays


def header(shape: str, dtype: str = "|u1") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0v\0" + text.encode()


def archive(member: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("image.npy", member)
    return data.getvalue()


def marked(data: bytes, local: int, central: int, value: int) -> bytes:
    """Change a byte of an archive's headers: of the member's, and of the directory's."""
    changed = bytearray(data)
    for magic, offset in ((b"PK\3\4", local), (b"PK\1\2", central)):
        changed[changed.index(magic) + offset] = value
    return bytes(changed)


def array(value: Any, *, pickled: bool = False) -> bytes:
    data = io.BytesIO()
    np.save(data, value, allow_pickle=pickled)
    return data.getvalue()


ONE = archive(array(np.zeros(3)))
FILES = {
    "empty": b"",
    "zeros": bytes(100),
    "half": ONE[: len(ONE) // 2],
    "an .npy": array(np.zeros(3)),
    "text": archive(b"text"),
    "an empty member": archive(b""),
    "objects": archive(array(np.array([{}]), pickled=True)),
    "2^70 numbers": archive(header("(1 << 70,)")),
    "10^12 numbers": archive(header("(1000000, 1000000)", "<f8")),
    "encrypted": marked(ONE, 6, 8, 1),
    "packed in an unknown way": marked(ONE, 8, 10, 97),
}


@pytest.mark.parametrize("name", FILES)
def test_damaged_archives_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(FILES[name])
    with pytest.raises(DataError, match=r"a\.npz cannot be read as an \.npz of plain arrays") as caught:
        read_npz(path, ["image"])
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(path, split=Split.TRAIN)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    (tmp_path / "b.npz").symlink_to("/dev/zero")
    for path in (tmp_path / "a.npz", tmp_path / "b.npz"):
        with pytest.raises(DataError, match="it is a pipe or a device"):
            load_dataset(path, split=Split.TRAIN)


@pytest.mark.parametrize("kind", ["images", "masks/all"])
def test_a_folder_with_a_pipe_is_refused(kind: str, folder: Path) -> None:
    path = folder / kind / "train" / "0.png"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"0\.png cannot be read: .*it is a pipe or a device"):
        load_dataset(folder, split=Split.TRAIN, classes=("background", "ring", "disc"))


STRANGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no pixels": (lambda a: {"image": a["image"][:, :0], "label": a["label"][:, :0]}, "empty image array"),
    "no channels": (lambda a: {"image": a["image"][..., None][..., :0]}, "empty image array"),
    "a split of texts": (lambda a: {"split": np.array(["train"] * 12)}, "split of type <U5"),
    "a split of records": (lambda a: {"split": np.zeros(12, [("a", "u1")])}, r"give 0 \(train\)"),
    "a table of names": (lambda a: {"class_names": np.array([["a"], ["b"], ["c"]])}, "give a list of names"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_arrays_of_strange_kinds_are_refused(name: str, tmp_path: Path) -> None:
    change, message = STRANGE[name]
    arrays = npz_arrays()
    np.savez(tmp_path / "a.npz", **{**arrays, **change(arrays)})
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path / "a.npz", split=Split.TRAIN)
