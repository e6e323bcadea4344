"""`seggd-rt verify`: every output says how it was made, and is drawn again from that."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from seggd_rt import Generator
from seggd_rt.engine import this_cpu
from tests.bundles import TINY, copy_bundle, edit_manifest
from tests.commands import run_command

STEPS = ("--steps", "3", "--engine", "onnxruntime")
HASH = "0" * 64
FROM_REAL = {"real_sha256": HASH, "at": 0.5}
INPAINTED = {"real_sha256": HASH, "region_sha256": HASH}


@pytest.fixture
def mask(tmp_path: Path, golden_mask: NDArray[np.uint8]) -> Path:
    path = tmp_path / "mask.png"
    Image.fromarray(golden_mask).save(path)
    return path


@pytest.fixture
def real(tmp_path: Path) -> Path:
    np.save(tmp_path / "real.npy", np.random.default_rng(0).uniform(0, 1, (24, 32)).astype(np.float32))
    return tmp_path / "real.npy"


def test_it_tells_how_an_image_was_made(mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    run_command("generate", TINY, "-m", mask, "-o", out, "--seed", "7", "--drop", "cavity", *STEPS)
    told = run_command("verify", out)
    assert told.code == 0
    assert "1, synthetic" in told.out
    assert "seed           7" in told.out
    assert "classes        myocardium, right ventricle" in told.out
    (made,) = json.loads(run_command("verify", out, "--json").out)
    assert (made["seed"], made["steps"], made["fit"]) == (7, 3, "resize")
    assert not {"file", "mask"} & set(made)


@pytest.mark.parametrize(
    ("command", "options", "given"),
    [
        ("generate", ["-o", "a.png", "--seed", "7", "--keep", "cavity"], []),
        ("generate", ["-o", "a.npy", "--count", "3"], []),
        ("generate", ["-o", "a.png", "--eta", "0.5", "--sampler", "ddim", "--spacing", "trailing"], []),
        ("generate", ["-o", "a.png", "--from", "real.npy", "--at", "0.5"], ["--real", "real.npy"]),
        ("generate", ["-o", "a.png", "--noise", "noise.npy"], ["--noise", "noise.npy"]),
        ("interpolate", ["-o", "a.npy", "--real", "real.npy", "--weight", "0,0.5,1"], ["--real", "real.npy"]),
        ("interpolate", ["-o", "a.png", "--real", "real.npy", "--then-drop", "cavity"], ["--real", "real.npy"]),
        (
            "inpaint",
            ["-o", "a.png", "--real", "real.npy", "--region", "region.npy"],
            ["--real", "real.npy", "--region", "region.npy"],
        ),
        (
            "inpaint",
            ["-o", "a.png", "--real", "real.npy", "--region", "mask.npy", "--region-classes", "Cavity, background"],
            ["--real", "real.npy", "--region", "mask.npy"],
        ),
        ("sweep", ["-o", "a.npy"], []),
    ],
)
def test_every_output_is_drawn_again(
    command: str,
    options: list[str],
    given: list[str],
    mask: Path,
    real: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("noise.npy", np.random.default_rng(1).standard_normal((1, 24, 32)).astype(np.float32))
    np.save("region.npy", np.arange(768).reshape(24, 32) % 2 == 0)
    np.save("mask.npy", np.asarray(Image.open(mask)))
    drawn = run_command(command, TINY, "-m", mask, *options, *STEPS)
    assert drawn.code == 0, drawn.err
    again = run_command("verify", options[1], TINY, "-m", mask, *given, "--engine", "onnxruntime")
    assert again.code == 0, again.err
    assert "equal in every pixel" in again.err
    if given:
        lacking = run_command("verify", options[1], TINY, "-m", mask, "--engine", "onnxruntime")
        assert lacking.code == 2
        assert f"give it with {given[0]}" in lacking.error_lines[-1]
        name = given[-1]
        np.save(name, np.load(name)[..., ::-1])
        other = run_command("verify", options[1], TINY, "-m", mask, *given, "--engine", "onnxruntime")
        assert other.code == 2
        assert name in other.error_lines[-1]


def test_a_changed_image_is_found(mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    run_command("generate", TINY, "-m", mask, "-o", out, *STEPS)
    with Image.open(out) as image:
        pixels, texts = np.array(image), PngInfo()
        for key, text in image.info.items():
            texts.add_itxt(key, text)
    pixels[4:12, 4:12] = 255 - pixels[4:12, 4:12]
    Image.fromarray(pixels).save(out, pnginfo=texts)
    found = run_command("verify", out, TINY, "-m", mask, "--engine", "onnxruntime")
    assert found.code == 1
    assert "does not match its record: the regenerated image differs" in found.err
    assert run_command("verify", out, TINY).code == 0


def edit_png(path: Path, change: int = 0, **record: Any) -> None:
    """Add to one pixel of an image, and change its record; None removes a key."""
    with Image.open(path) as image:
        pixels, texts = np.array(image), PngInfo()
        for key, text in image.info.items():
            if key == "seggd-rt":
                document = json.loads(text)
                document["all"] |= record
                for name in [name for name, value in record.items() if value is None]:
                    del document["all"][name]
                text = json.dumps(document)
            texts.add_itxt(key, text)
    pixels[5, 5] += change if pixels[5, 5] < 128 else -change
    Image.fromarray(pixels).save(path, pnginfo=texts)


def test_the_record_says_what_the_last_bits_depend_on(mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.npy"
    run_command("generate", TINY, "-m", mask, "-o", out, "--count", "3", "--batch", "2", "--threads", "1", *STEPS)
    made = json.loads(run_command("verify", out, "--json").out)
    assert [each["batch"] for each in made] == [2, 2, 1]
    assert {(each["threads"], each["cores"]) for each in made} == {(1, None)}
    assert made[0]["device"].startswith(this_cpu().name) and made[0]["engine_version"]
    run_command("generate", TINY, "-m", mask, "-o", tmp_path / "b.png", *STEPS)
    (one,) = json.loads(run_command("verify", tmp_path / "b.png", "--json").out)
    assert (one["threads"], one["cores"], one["batch"]) == (None, this_cpu().usable_cores, 1)
    run_command("sweep", TINY, "-m", mask, "-o", tmp_path / "c.npy", "--batch", "4", *STEPS)
    swept = json.loads(run_command("verify", tmp_path / "c.npy", "--json").out)
    assert [each["batch"] for each in swept] == [4, 4, 4, 4, 3, 3, 3]


def test_images_are_drawn_again_in_the_recorded_batches(mask: Path, tmp_path: Path) -> None:
    """By the recorded engine, precision and threads as well, unless options say otherwise."""
    out = tmp_path / "a.npy"
    run_command("generate", TINY, "-m", mask, "-o", out, "--count", "3", "--batch", "2", "--threads", "1", *STEPS)
    with patch.object(Generator, "__call__", autospec=True, side_effect=Generator.__call__) as called:
        found = run_command("verify", out, TINY, "-m", mask)
    assert "3 images, equal in every pixel" in found.err
    assert "onnxruntime" in found.err and "1 thread, 2 at a time" in found.err
    assert [len(call.args[1]) for call in called.call_args_list] == [2, 1]
    edit = json.loads((tmp_path / "a.npy.json").read_text())
    edit["all"]["batch"] = 2  # as of an image of a larger file: the batch is filled up
    for each in edit["images"]:
        each.pop("batch")
    (tmp_path / "a.npy.json").write_text(json.dumps(edit))
    with patch.object(Generator, "__call__", autospec=True, side_effect=Generator.__call__) as called:
        assert run_command("verify", out, TINY, "-m", mask).code == 0
    assert [len(call.args[1]) for call in called.call_args_list] == [2, 2]
    assert "1 at a time" in run_command("verify", out, TINY, "-m", mask, "--batch", "1").err


@pytest.mark.parametrize(
    ("levels", "record", "options", "code"),
    [
        (1, {}, (), 1),
        (1, {}, ("--batch", "2"), 0),
        (2, {}, ("--batch", "2"), 1),
        (1, {"engine_version": "0.1"}, (), 0),
        (1, {"device": "another CPU"}, (), 0),
        (2, {"device": "another CPU"}, (), 1),
        (1, {"threads": 1}, (), 0),
        (1, {}, ("--threads", "1"), 0),
        (1, {"cores": 77}, (), 0),
    ],
)
def test_equality_is_demanded_where_all_that_computes_is_the_same(
    levels: int, record: dict[str, Any], options: tuple[str, ...], code: int, mask: Path, tmp_path: Path
) -> None:
    """Else one gray level of 255."""
    out = tmp_path / "a.png"
    run_command("generate", TINY, "-m", mask, "-o", out, *STEPS)
    edit_png(out, levels, **record)
    found = run_command("verify", out, TINY, "-m", mask, *options)
    assert found.code == code, found.err
    assert f"differs by up to {levels}, and {0 if (record, options) == ({}, ()) else 1} is allowed" in found.err


def test_a_record_of_more_threads_or_larger_batches_than_there_can_be(mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    run_command("generate", TINY, "-m", mask, "-o", out, *STEPS)
    edit_png(out, threads=this_cpu().usable_cores + 1)
    found = run_command("verify", out, TINY, "-m", mask)
    assert (found.code, "recorded settings are not available" in found.err) == (0, True), found.err
    edit_png(out, batch=10**9)
    found = run_command("verify", out, TINY, "-m", mask)
    assert (found.code, "states an invalid batch size (1000000000, not 1 to 1024)" in found.err) == (2, True), found.err


def test_a_record_of_before_is_read_and_demands_no_equality(mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    run_command("generate", TINY, "-m", mask, "-o", out, *STEPS)
    later = dict.fromkeys(("engine_version", "device", "threads", "cores", "batch", "keep_patient"))
    edit_png(out, 1, **later)
    found = run_command("verify", out, TINY, "-m", mask)
    assert (found.code, "the same: the worst differs by up to 1, and 1 is allowed" in found.err) == (0, True)


def test_an_engine_that_cannot_run_here_is_replaced_and_named(mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    run_command("generate", TINY, "-m", mask, "-o", out, *STEPS)
    edit_png(out, engine="onnxruntime", precision="fp16")
    found = run_command("verify", out, TINY, "-m", mask, "--engine", "onnxruntime")
    assert found.code == 0, found.err
    assert "recorded settings are not available: engine onnxruntime: it computes in fp32 here, not in fp16" in found.err
    refused = run_command("verify", out, TINY, "-m", mask, "--engine", "onnxruntime", "--precision", "fp16")
    assert refused.code == 2
    edit_png(out, 3)
    found = run_command("verify", out, TINY, "-m", mask, "--engine", "onnxruntime")
    assert found.code == 1
    assert (
        "is not confirmed: the regenerated image differs by up to 3, and 1 is allowed; not on the recorded" in found.err
    )
    assert "in a lower precision than fp32 another CPU may differ by" in found.err


@pytest.mark.parametrize("engine", ["onnxruntime", "auto"])
def test_an_engine_that_was_given_is_not_said_to_be_recorded(engine: str, mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    run_command("generate", TINY, "-m", mask, "-o", out, *STEPS)
    edit_png(out, engine="elsewhere", precision="fp16")
    found = run_command("verify", out, TINY, "-m", mask, "--engine", engine, "--device", "cpu")
    assert found.code == 0, found.err
    said = f"--engine {engine} cannot run with the recorded settings, elsewhere in fp16 ("
    assert said in found.err
    assert "others are used: leave --engine out to verify with the recorded ones" in found.err
    assert "recorded settings are not available" not in found.err


def test_another_bundle_or_label_map_is_found(mask: Path, tmp_path: Path, golden_mask: NDArray[np.uint8]) -> None:
    out = tmp_path / "a.png"
    run_command("generate", TINY, "-m", mask, "-o", out, *STEPS)
    other = copy_bundle(TINY, tmp_path)
    edit_manifest(other, {"modality": "MR"})
    found = run_command("verify", out, other)
    assert (found.code, f"is not from {other} (SHA-256 " in found.err) == (1, True)
    Image.fromarray(golden_mask[::-1]).save(mask)
    found = run_command("verify", out, TINY, "-m", mask, "--engine", "onnxruntime")
    assert (found.code, "has no label map of which 1 of these images" in found.err) == (2, True)


def test_a_mask_is_found_in_its_folder(mask: Path, tmp_path: Path, golden_mask: NDArray[np.uint8]) -> None:
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks" / "a.npy", np.stack([golden_mask[::-1], golden_mask, golden_mask[:, ::-1]]))
    run_command("generate", TINY, "-m", tmp_path / "masks", "-o", tmp_path / "out.npy", *STEPS)
    found = run_command("verify", tmp_path / "out.npy", TINY, "-m", tmp_path / "masks", "--engine", "onnxruntime")
    assert (found.code, "3 images, equal in every pixel" in found.err) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png"], "none.png is not there"),
        (["mask.png"], "carries no record of its making"),
        (["real.npy"], "carries no record of its making"),
        (["notes.txt"], "is no image of seggd-rt"),
        (["mask.png", "--mask", "mask.png"], "--mask has no effect without BUNDLE"),
        (["mask.png", str(TINY), "--real", "real.npy"], "--real has no effect without --mask"),
        (["mask.png", "--require-signature", "key.pub"], "--require-signature has no effect without BUNDLE"),
        (["."], "is a folder, and no image of seggd-rt: give an image in it, such as mask.png"),
    ],
)
def test_what_cannot_be_verified(
    arguments: list[str], message: str, mask: Path, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("notes")
    found = run_command("verify", *arguments)
    assert (found.code, len(found.error_lines)) == (2, 1)
    assert message in found.err


def test_a_grid_is_read_and_not_drawn_again(mask: Path, real: Path, tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    run_command("interpolate", TINY, "-m", mask, "--real", real, "--weight", "0,1", "--grid", "-o", out, *STEPS)
    told = run_command("verify", out, TINY)
    assert told.code == 0
    assert "2, synthetic" in told.out
    assert "weight         0.0, 1.0" in told.out
    again = run_command("verify", out, TINY, "-m", mask, "--real", real, "--engine", "onnxruntime")
    assert (again.code, "is a grid of 2 images" in again.err) == (2, True)
    out = tmp_path / "one.png"
    run_command("interpolate", TINY, "-m", mask, "--real", real, "--weight", "0", "--grid", "-o", out, *STEPS)
    again = run_command("verify", out, TINY, "-m", mask, "--real", real, "--engine", "onnxruntime")
    assert (again.code, "is a grid or was resized" in again.err) == (2, True)
    run_command("generate", TINY, "-m", mask, "-o", tmp_path / "a.png", *STEPS)
    again = run_command("verify", tmp_path / "a.png", TINY, "-m", mask, "--real", real, "--engine", "onnxruntime")
    assert (again.code, "leave --real out" in again.err) == (2, True)


def test_a_picture_of_pixels_that_are_no_squares_is_known_again(tmp_path: Path, golden_mask: NDArray[np.uint8]) -> None:
    """However the real picture beside such a label map was read: for it, as one that was named, or for a whole run."""
    nib: Any = pytest.importorskip("nibabel", reason="NIfTI needs the extra nifti")
    mask, picture = tmp_path / "mask.nii", tmp_path / "real.npy"
    tall = np.repeat(golden_mask, 2, axis=0)
    nib.save(nib.Nifti1Image(tall[::-1, ::-1].T[..., None], np.diag([1.6, 0.8, 2.0, 1.0])), mask)
    np.save(picture, np.random.default_rng(0).random(tall.shape).astype(np.float32))
    for number, (command, options) in enumerate(
        (
            ("interpolate", ("--real", picture)),
            ("interpolate", ("--real", picture, "--real-slice", "0")),
            ("generate", ("--from", picture, "--at", "0.5")),
        )
    ):
        out = tmp_path / f"out-{number}.npy"
        drawn = run_command(command, TINY, "-m", mask, *options, "--fit", "letterbox", "-o", out, *STEPS)
        assert drawn.code == 0, drawn.err
        again = run_command("verify", out, TINY, "-m", mask, "--real", picture, "--engine", "onnxruntime")
        assert (again.code, "equal in every pixel" in again.err) == (0, True), again.err


def test_volumes_are_drawn_again(tmp_path: Path, golden_mask: NDArray[np.uint8]) -> None:
    nib: Any = pytest.importorskip("nibabel", reason="NIfTI needs the extra nifti")
    slices = np.stack([np.roll(golden_mask, index, axis=0) for index in range(3)])
    nib.save(nib.Nifti1Image(slices.transpose(2, 1, 0), np.diag([-1.0, -1.0, 2.0, 1.0])), tmp_path / "mask.nii.gz")
    for extra in (["--seed", "3"], ["--slice-noise", "shared"], ["--axis", "2", "--fit", "crop-pad"]):
        out = tmp_path / f"out{extra[0]}.nii.gz"
        drawn = run_command("generate", TINY, "-m", tmp_path / "mask.nii.gz", "-o", out, *extra, *STEPS)
        assert drawn.code == 0, drawn.err
        axis = ["--axis", "2"] if "--axis" in extra else []
        found = run_command("verify", out, TINY, "-m", tmp_path / "mask.nii.gz", *axis, "--engine", "onnxruntime")
        assert "3 images, equal in every pixel" in found.err
    one = tmp_path / "one.nii.gz"
    np.save(tmp_path / "real.npy", np.zeros((24, 32), np.float32))
    drawn = run_command(
        "interpolate", TINY, "-m", tmp_path / "mask.nii.gz", "--slice", "1", "--real", tmp_path / "real.npy", "-o", one,
        *STEPS,
    )  # fmt: skip
    assert drawn.code == 0, drawn.err
    assert nib.load(one).affine[2, 3] == 2.0  # where the slice lies
    found = run_command(
        "verify", one, TINY, "-m", tmp_path / "mask.nii.gz", "--real", tmp_path / "real.npy", "--engine", "onnxruntime"
    )
    assert "1 image, equal in every pixel" in found.err


def test_a_png_saved_again_with_its_record_alone_is_verified(mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    run_command("generate", TINY, "-m", mask, "-o", out, *STEPS)
    with Image.open(out) as image:
        pixels, texts = np.array(image), PngInfo()
        texts.add_text("seggd-rt", image.info["seggd-rt"])
    Image.fromarray(pixels).save(out, pnginfo=texts, optimize=True)
    found = run_command("verify", out, TINY, "-m", mask)
    assert (found.code, "1 image, equal in every pixel" in found.err) == (0, True), found.err


@pytest.mark.parametrize(
    ("chunk", "after", "name"),
    [
        (b"tRNS\0\x05", b"", "has chunk tRNS"),
        (b"gAMA\0\0\x03\xe8", b"", "has chunk gAMA"),
        (b"tEXtAuthor\0Roe^Richard", b"", "has text 'Author'"),
        (b"tEXtSoftware\0Roe^Richard", b"", "has several texts 'Software'"),
        (b"tEXtseggd-rt\0{}", b"", "has several texts 'seggd-rt'"),
        (b"", b"Roe^Richard", "has bytes after its end"),
    ],
)
def test_a_png_that_says_more_is_found(chunk: bytes, after: bytes, name: str, mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    run_command("generate", TINY, "-m", mask, "-o", out, *STEPS)
    data, signature_and_header = out.read_bytes(), 33
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) if chunk else b""
    out.write_bytes(data[:signature_and_header] + framed + data[signature_and_header:] + after)
    found = run_command("verify", out, TINY, "-m", mask)
    assert (found.code, f"does not match its record: a.png {name}" in found.err) == (1, True), found.err
    assert "Roe" not in found.err


@pytest.mark.parametrize("where", ["all", "images", "document"])
def test_a_record_with_keys_that_are_unknown_is_refused(where: str, mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.npy"
    run_command("generate", TINY, "-m", mask, "-o", out, "--count", "2", *STEPS)
    beside = tmp_path / "a.npy.json"
    document = json.loads(beside.read_text())
    target = {"all": document["all"], "images": document["images"][0], "document": document}[where]
    target["patient"] = "Roe^Richard"
    beside.write_text(json.dumps(document))
    found = run_command("verify", out)
    assert (found.code, "has a record of its making that cannot be read" in found.err) == (2, True), found.err
    assert "Roe" not in found.err


def test_a_note_and_a_version_are_free(mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.npy"
    run_command("generate", TINY, "-m", mask, "-o", out, *STEPS)
    beside = tmp_path / "a.npy.json"
    document = json.loads(beside.read_text())
    document["note"], document["all"]["version"] = "Another text.", "9.9"
    beside.write_text(json.dumps(document))
    assert run_command("verify", out, TINY, "-m", mask).code == 0


@pytest.mark.parametrize("kind", [">f4", "<f4"])
def test_an_array_of_the_other_byte_order_is_the_same(kind: str, mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.npy"
    run_command("generate", TINY, "-m", mask, "-o", out, "--count", "2", *STEPS)
    np.save(out, np.load(out).astype(kind))
    found = run_command("verify", out, TINY, "-m", mask)
    assert (found.code, "2 images, equal in every pixel" in found.err) == (0, True), found.err


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"at": 0.3}, "states at without real_sha256"),
        ({"then_classes": ["cavity"]}, "states then_classes without weight"),
        ({"region_classes": ["cavity"]}, "states region_classes without region_sha256"),
        ({"mark": "SYNTHETIC"}, "states a mark or a kept patient, which only DICOM has"),
        ({"keep_patient": True}, "states a mark or a kept patient, which only DICOM has"),
        ({"mark": "REAL"}, "the watermark is not 'SYNTHETIC'"),
        ({"first_seed": 5}, "states first_seed without retries"),
        ({"retries": 3}, "states retries without min_dice"),
        ({"min_dice": 0.99}, "states min_dice without retries"),
        ({"check": {"dice": {}, "mean_dice": 0.9, "outside": []}}, "states check without min_dice"),
        ({**FROM_REAL, "noise_sha256": HASH}, "states noise_sha256 beside real_sha256"),
        ({**FROM_REAL, "region_sha256": HASH}, "states at beside region_sha256"),
        ({**INPAINTED, "guidance": 7.5}, "states guidance beside region_sha256"),
        ({**INPAINTED, "against": ["cavity"]}, "states against beside region_sha256"),
        ({**INPAINTED, "weight": 0.0}, "states weight beside region_sha256"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(
    record: dict[str, Any], message: str, mask: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.png"
    run_command("generate", TINY, "-m", mask, "-o", out, *STEPS)
    edit_png(out, **record)
    found = run_command("verify", out)
    assert (found.code, message in found.err) == (2, True), found.err
