"""What an output says of its making, in every format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from seggd_rt.errors import DataError
from seggd_rt.imaging import ImageStack, dump, parse
from seggd_rt.imaging.npy import NpyWriter
from seggd_rt.imaging.png import PngWriter
from seggd_rt.imaging.provenance import note
from tests.making import MADE


def test_what_differs_is_kept_for_each_image_and_the_rest_once() -> None:
    made = [replace(MADE, seed=seed) for seed in (3, 5)]
    document = json.loads(dump(made))
    assert document["images"] == [{"seed": 3}, {"seed": 5}]
    assert document["all"]["classes"] == ["Herzhöhle", "myocardium"]
    assert parse(dump(made), "x") == tuple(made)
    assert parse(dump(made[:1]), "x") == (made[0],)


def test_no_image_of_a_real_one_claims_to_show_no_patient() -> None:
    real = replace(MADE, real_sha256="0" * 64, at=0.6)
    assert "shows no patient" in note([]) and note([]) == note([MADE]) == json.loads(dump([MADE]))["note"]
    assert "may show a patient" in note([real]) and note([MADE, real]) == note([real])
    assert json.loads(dump([real]))["note"] == note([real])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be read"),
        (b"[]", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (dump([MADE]).replace(b"provenance/1", b"provenance/2"), "a newer seggd-rt"),
        (dump([MADE]).replace(b'"images":[{}]', b'"images":[]'), "of no image"),
        (dump([MADE]).replace(b'"steps":50', b'"steps":"50"'), "cannot be read"),
        (dump([MADE]).replace(b'"steps":50,', b""), "cannot be read"),
    ],
)
def test_what_was_changed_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse(data, "image.png")


def test_png_and_npy_carry_it(tmp_path: Path) -> None:
    image = np.zeros((4, 5), np.float32)
    png, npy = tmp_path / "a.png", tmp_path / "a.npy"
    with PngWriter().create(png, ImageStack(1, 4, 5, 1)) as file:
        file.append(image, MADE)
    assert PngWriter().made(png) == (MADE,)
    two = [MADE, replace(MADE, seed=4)]
    with NpyWriter().create(npy, ImageStack(2, 4, 5, 1)) as file:
        for made in two:
            file.append(image, made)
    assert NpyWriter().made(npy) == tuple(two)
    (tmp_path / "a.npy.json").unlink()
    with pytest.raises(DataError, match="carries no record of its making"):
        NpyWriter().made(npy)


def test_what_others_wrote_carries_none(tmp_path: Path) -> None:
    with PngWriter().create(tmp_path / "a.png", ImageStack(1, 4, 5, 1)) as file:
        file.append(np.zeros((4, 5), np.float32))
    with pytest.raises(DataError, match="carries no record of its making"):
        PngWriter().made(tmp_path / "a.png")
