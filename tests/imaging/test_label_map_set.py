"""One label map or a folder of them: their order, what is skipped, what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from seggd_rt.errors import DataError, OptionError
from seggd_rt.imaging import LabelMapSet, require_writer, stem
from seggd_rt.imaging.folder import SkippedFilesWarning

MASK = np.zeros((2, 3), np.uint8)


def put(folder: Path, *names: str) -> None:
    for name in names:
        with (folder / name).open("wb") as file:
            np.save(file, MASK)


def test_files_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    put(tmp_path, "b.npy", "a.npy", "B.NPY", "a10.npy", "a9.npy", "ä.npy")
    found = LabelMapSet.open(tmp_path)
    assert [file.path.name for file in found.files] == ["B.NPY", "a.npy", "a10.npy", "a9.npy", "b.npy", "ä.npy"]
    assert len(found) == 6


def test_one_file_and_stacks_count(tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", np.stack([MASK] * 5))
    assert len(LabelMapSet.open(tmp_path / "stack.npy")) == 5
    put(tmp_path, "single.npy")
    assert len(LabelMapSet.open(tmp_path)) == 6


def test_hidden_files_and_clutter_are_left_out_silently(tmp_path: Path) -> None:
    put(tmp_path, "a.npy", ".hidden.npy", ".b.npy.part", "Thumbs.db", ".DS_Store")
    assert len(LabelMapSet.open(tmp_path)) == 1


def test_what_is_skipped_is_said(tmp_path: Path) -> None:
    put(tmp_path, "a.npy", "notes.txt")
    (tmp_path / "folder.npy").mkdir()
    os.mkfifo(tmp_path / "pipe.npy")  # must not be opened: nobody writes to it
    (tmp_path / "lost.npy").symlink_to("nowhere")
    with pytest.warns(SkippedFilesWarning, match=r"4 of 5 entries .*: folder.npy, lost.npy, notes.txt, \.\.\."):
        assert len(LabelMapSet.open(tmp_path)) == 1


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no label map in it: put files there that end in \.png, \.npy"):
        LabelMapSet.open(tmp_path)
    with pytest.raises(DataError, match="is not there"):
        LabelMapSet.open(tmp_path / "masks")
    os.mkfifo(tmp_path / "pipe.npy")
    for name in ("pipe.npy", os.devnull):
        with pytest.raises(DataError, match=r"is a pipe or a device: give a file"):
            LabelMapSet.open(tmp_path / name)
    put(tmp_path, "mask.tif")
    with pytest.raises(DataError, match="of no format known here"):
        LabelMapSet.open(tmp_path / "mask.tif")


def test_a_name_that_is_not_unicode(tmp_path: Path) -> None:
    try:
        put(tmp_path, os.fsdecode(b"mask\xff.npy"))
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(DataError, match=r"mask\\udcff.npy is not Unicode.*rename it"):
        LabelMapSet.open(tmp_path)


@pytest.mark.parametrize(("name", "expected"), [("a.png", "a"), ("a.b.NPY", "a.b"), ("a", "a"), ("a.tif", "a")])
def test_stem(name: str, expected: str) -> None:
    assert stem(Path(name)) == expected


def test_unknown_output_suffix() -> None:
    with pytest.raises(OptionError, match=r"'out.jpg': give \.png, \.npy, \.nii\.gz, \.nii, \.dcm, or a folder"):
        require_writer(Path("somewhere/out.jpg"))
