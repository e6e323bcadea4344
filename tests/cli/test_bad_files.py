"""Bad files of every kind and to every command end in one clear line and exit code 2, with nothing written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.bad_input import Arrange, Bad, changed, data, half, one_bit, picture, refused, save
from tests.bundles import TINY, TINY_CHECKED, copy_bundle, edit_manifest
from tests.cli.bad_files import VOLUME, chunk, inflating_text, nib, nifti, png, stated, two_headers
from tests.commands import run_command

pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'seggd-rt[sign]'")
pytest.importorskip("jinja2", reason="jinja2 is not installed: pip install 'seggd-rt[card]'")
pytestmark = pytest.mark.usefixtures("needs_onnxruntime")

ORT = ("--engine", "onnxruntime", "--threads", "1")
REAL = np.random.default_rng(0).uniform(0, 1, (24, 32)).astype(np.float32)


def pipe(name: str) -> Arrange:
    return lambda folder: os.mkfifo(folder / name)


def link(name: str, target: str) -> Arrange:
    return lambda folder: (folder / name).symlink_to(target)


def several(*arranged: Arrange) -> Arrange:
    def arrange(folder: Path) -> None:
        for each in arranged:
            each(folder)

    return arrange


def gone(name: str) -> Arrange:
    return lambda folder: (folder / name).unlink()


def record(name: str, **change: Any) -> Arrange:
    """Change what an .npy's record says of its images, in `all`, or `images`."""

    def arrange(folder: Path) -> None:
        path = folder / name
        document = json.loads(path.read_bytes())
        images = change.pop("images", document["images"])
        document = {**document, "all": {**document["all"], **change}, "images": images}
        path.write_text(json.dumps(document))

    return arrange


def text_of(name: str, change: tuple[str, str]) -> Arrange:
    """Change the record that a PNG carries."""

    def arrange(folder: Path) -> None:
        with Image.open(folder / name) as image:
            pixels, text = np.array(image), image.info["seggd-rt"]
        assert change[0] in text
        texts = PngInfo()
        texts.add_itxt("seggd-rt", text.replace(*change))
        Image.fromarray(pixels).save(folder / name, pnginfo=texts)

    return arrange


def voxels(name: str, change: Any) -> Arrange:
    def arrange(folder: Path) -> None:
        np.save(folder / name, change(np.load(folder / name)))

    return arrange


def segmenter(change: Any, *, sealed: bool = True) -> Arrange:
    """Change the bytes of the segmenter, and state its new hash if `sealed`."""

    def arrange(folder: Path) -> None:
        path = folder / "checked.seggd" / "segmenter.onnx"
        path.write_bytes(change(path.read_bytes()))
        if sealed:
            from seggd_rt.bundle import file_ref

            ref = file_ref(path)
            edit_manifest(
                folder / "checked.seggd",
                {"segmenter.files.0": {"path": ref.path, "sha256": ref.sha256, "size": ref.size}},
            )

    return arrange


def nested(levels: int) -> Arrange:
    def arrange(folder: Path) -> None:
        path = folder / "tiny.seggd" / "bundle.json"
        free = b'"extensions":{"x":' + b"[" * levels + b"]" * levels + b"}"
        path.write_bytes(path.read_bytes().replace(b'"extensions": null', free).replace(b'"extensions":null', free))

    return arrange


GO = "generate tiny.seggd -o out/ --steps 2"
ONE = "tiny.seggd -m mask.png --steps 2 -o new.png"
MIX = f"interpolate {ONE}"
PAINT = f"inpaint {ONE} --real real.npy"
AGAIN = "verify made.npy tiny.seggd -m mask.png"
LONG = "x" * 251

CASES = {
    # NIfTI
    "an empty NIfTI": Bad(f"{GO} -m m.nii", "is no NIfTI file", data("m.nii", b"")),
    "a text as NIfTI": Bad(f"{GO} -m m.nii.gz", "cannot be read as NIfTI", data("m.nii.gz", b"a text" * 99)),
    "half a NIfTI": Bad(f"{GO} -m m.nii", "too short", several(nifti("m.nii", VOLUME), changed("m.nii", half))),
    "half a NIfTI in gzip": Bad(f"{GO} -m mask.nii.gz", "mask.nii.gz", changed("mask.nii.gz", half)),
    "a changed bit in gzip": Bad(f"{GO} -m mask.nii.gz", "mask.nii.gz", changed("mask.nii.gz", one_bit)),
    "a changed checksum in gzip": Bad(
        f"{GO} -m mask.nii.gz", "damaged", changed("mask.nii.gz", lambda c: c[:-8] + b"1234" + c[-4:])
    ),
    "a NIfTI of 2^45 voxels": Bad(f"{GO} -m m.nii", "1 to 268435456 voxels", data("m.nii", stated((32767,) * 3))),
    "a NIfTI of four axes": Bad(f"{GO} -m m.nii", "three axes", nifti("m.nii", np.ones((4, 4, 4, 2), np.uint8))),
    "a NIfTI of negative size": Bad(f"{GO} -m m.nii", "m.nii", data("m.nii", stated((4, -4, 4)))),
    "a NIfTI of fractions": Bad(f"{GO} -m m.nii", "fractions", nifti("m.nii", np.full((4, 4, 4), 0.5, np.float32))),
    "a NIfTI of NaN": Bad(f"{GO} -m m.nii", "fractions", nifti("m.nii", np.full((4, 4, 4), np.nan, np.float32))),
    "a NIfTI of complex numbers": Bad(
        f"{GO} -m m.nii", "holds complex64", data("m.nii", stated((4, 4, 4), np.complex64))
    ),
    "a NIfTI of negative labels": Bad(f"{GO} -m m.nii", "label -1 is outside", nifti("m.nii", VOLUME.astype("i2") - 1)),
    "a NIfTI of other labels": Bad(f"{GO} -m m.nii", "m.nii[", nifti("m.nii", VOLUME * 2)),
    "a NIfTI whose voxels fall together": Bad(
        f"{GO} -m m.nii", "fall together", nifti("m.nii", VOLUME, np.diag([1.0, 1, 1e-9, 1]))
    ),
    "a NIfTI extension of negative size": Bad(
        f"{GO} -m m.nii",
        "header extension",
        data("m.nii", stated((4, 4, 4), extension=b"\1\0\0\0" + b"\xf0\xff\xff\xff" * 2, offset=400)),
    ),
    "NIfTI extensions without end": Bad(
        f"{GO} -m m.nii", "header extension", data("m.nii", stated((4, 4, 4), extension=b"\1\0\0\0", offset=0))
    ),
    "a NIfTI header of gigabytes": Bad(
        f"{GO} -m m.nii", "128 MiB", data("m.nii", stated((4, 4, 4), extension=b"\1\0\0\0", offset=1e30))
    ),
    "a NIfTI and a PNG": Bad(f"{GO} -m masks", "several formats", nifti("masks/m.nii", VOLUME)),
    "a NIfTI of thin rods": Bad(
        f"{GO} -m m.nii --fit letterbox", "letterboxed", nifti("m.nii", VOLUME, np.diag([1, 1e5, 1.0, 1]))
    ),
    # PNG
    "a PNG of 2^32 pixels": Bad(f"{GO} -m m.png", "1 to 67108864 pixels", data("m.png", png(size=(1 << 16, 1 << 16)))),
    "a PNG without pixels": Bad(f"{GO} -m m.png", "0x32", data("m.png", png(size=(32, 0)))),
    "a second header": Bad(f"{GO} -m m.png", "cannot be read as PNG", data("m.png", two_headers())),
    "a PNG's short chunk": Bad(f"{GO} -m m.png", "cannot be read as PNG", data("m.png", png(chunk(b"gAMA", b"1")))),
    "a PNG's empty chunk": Bad(f"{GO} -m m.png", "cannot be read as PNG", data("m.png", png(chunk(b"iCCP", b"x\0")))),
    "a PNG text that inflates": Bad(f"{GO} -m m.png", "cannot be read as PNG", data("m.png", inflating_text())),
    "half a PNG": Bad(f"{GO} -m mask.png", "cannot be read as PNG", changed("mask.png", half)),
    # NPY
    "a header that is no shape": Bad(
        f"{GO} -m m.npy",
        "not a .npy",
        data("m.npy", b"\x93NUMPY\1\0v\0" + b"{'descr': (), 'fortran_order': False, 'shape': (1,)}".ljust(117) + b"\n"),
    ),
    "an NPY of 2^60 pixels": Bad(
        f"{GO} -m m.npy",
        "states uint8",
        data(
            "m.npy",
            b"\x93NUMPY\1\0v\0"
            + b"{'descr': '|u1', 'fortran_order': False, 'shape': (1073741824, 1073741824)}".ljust(117)
            + b"\n",
        ),
    ),
    "an NPY of truths for its shape": Bad(
        f"{GO} -m m.npy",
        "states an invalid shape (True, True)",
        data(
            "m.npy",
            b"\x93NUMPY\1\0v\0"
            + b"{'descr': '|u1', 'fortran_order': False, 'shape': (True, True)}".ljust(117)
            + b"\n\0",
        ),
    ),
    "a pipe as plan": Bad("cache add p.plan", "it is a pipe", several(pipe("p.plan"), pipe("p.json"))),
    "a device as plan": Bad(
        "cache add p.plan", "it is a pipe", several(link("p.plan", "/dev/zero"), link("p.json", "/dev/zero"))
    ),
    "half an NPY": Bad(f"{GO} -m mask.png --noise noise.npy", "holds", changed("noise.npy", half)),
    # What is no regular file, links, names
    "a pipe as mask": Bad(f"{GO} -m m.png", "is a pipe or a device: give a file", pipe("m.png")),
    "a pipe as noise": Bad(f"{GO} -m mask.png --noise n.npy", "it is a pipe", pipe("n.npy")),
    "a pipe as real image": Bad(f"{GO} -m mask.png --from r.png", "is a pipe or a device: give a file", pipe("r.png")),
    "a pipe as real volume": Bad(f"{GO} -m mask.png --from r.nii", "is a pipe or a device: give a file", pipe("r.nii")),
    "a pipe to verify": Bad("verify v.png", "it is a pipe", pipe("v.png")),
    "a pipe as volume to verify": Bad("verify v.nii.gz", "it is a pipe", pipe("v.nii.gz")),
    "a pipe as record": Bad("verify made.npy", "it is a pipe", several(gone("made.npy.json"), pipe("made.npy.json"))),
    "a pipe as manifest": Bad(
        f"{GO} -m mask.png", "is not a bundle", several(gone("tiny.seggd/bundle.json"), pipe("tiny.seggd/bundle.json"))
    ),
    "a pipe as graph": Bad(
        f"{GO} -m mask.png", "is missing", several(gone("tiny.seggd/unet.fp32.onnx"), pipe("tiny.seggd/unet.fp32.onnx"))
    ),
    "a pipe as signature": Bad(
        f"{GO} -m mask.png --require-signature K.pub",
        "it is a pipe",
        several(gone("tiny.seggd/bundle.sig"), pipe("tiny.seggd/bundle.sig")),
    ),
    "a pipe as signature to replace": Bad(
        "sign tiny.seggd --key K.pem",
        "it is a pipe",
        several(gone("tiny.seggd/bundle.sig"), pipe("tiny.seggd/bundle.sig")),
    ),
    "a pipe as report": Bad("card tiny.seggd -o new.html --report r.json", "it is a pipe", pipe("r.json")),
    "a pipe as picture of a report": Bad(
        "card tiny.seggd -o new.html --report report.json", "it is a pipe", pipe("plot.png")
    ),
    "a device as mask": Bad(f"{GO} -m m.png", "is a pipe or a device: give a file", link("m.png", "/dev/zero")),
    "a device as record": Bad(
        "verify made.npy",
        "it is a pipe or a device",
        several(gone("made.npy.json"), link("made.npy.json", "/dev/zero")),
    ),
    "a device as signature": Bad(
        "inspect tiny.seggd",
        "is a link that leaves the bundle's folder",
        several(gone("tiny.seggd/bundle.sig"), link("tiny.seggd/bundle.sig", "/dev/zero")),
    ),
    "a link to nothing": Bad(f"{GO} -m m.png", "is not there", link("m.png", "nothing.png")),
    "a link to itself": Bad(f"{GO} -m m.png", "is not there", link("m.png", "m.png")),
    "a link to itself to verify": Bad("verify m.png", "is not there", link("m.png", "m.png")),
    "a link to itself as noise": Bad(f"{GO} -m mask.png --noise n.npy", "Too many levels", link("n.npy", "n.npy")),
    "a link to itself as graph": Bad(
        f"{GO} -m mask.png",
        "is missing",
        several(gone("tiny.seggd/unet.fp32.onnx"), link("tiny.seggd/unet.fp32.onnx", "unet.fp32.onnx")),
    ),
    "a folder as real image": Bad(
        f"{GO} -m mask.png --from masks.npy", "of no format known", lambda folder: (folder / "masks.npy").mkdir()
    ),
    "a folder to verify": Bad("verify v.png", "Is a directory", lambda folder: (folder / "v.png").mkdir()),
    "a mask of 251 bytes": Bad(
        f"{GO} -m masks", "give shorter names", save(f"masks/{LONG}.npy", np.zeros((24, 32), np.uint8))
    ),
    "an output of 255 bytes": Bad(f"generate tiny.seggd -m mask.png -o {LONG}.npy", "give shorter names"),
    "noise that is no Unicode": Bad(f"{GO} -m mask.png --noise 'n\udcff.npy'", "n\\udcff.npy is not Unicode"),
    "a real image that is no Unicode": Bad(f"{GO} -m mask.png --from 'n\udcff.npy'", "n\\udcff.npy is not Unicode"),
    "a name that turns the line": Bad("verify 'a\u202e\x1b[2Jgnp.png'", r"a\u202e\u001b[2Jgnp.png is not there"),
    "a name of two lines": Bad("verify 'a\nerror: b.png'", r"a\nerror: b.png is not there"),
    # Records of a making
    "half an image": Bad("verify made.png", "made.png", changed("made.png", lambda content: content[:60])),
    "half an array": Bad("verify made.npy", "states float32", changed("made.npy", half)),
    "half a volume": Bad("verify made.nii.gz tiny.seggd -m mask.nii.gz", "made.nii.gz", changed("made.nii.gz", half)),
    "an image without its end": Bad(
        "verify made.png tiny.seggd -m mask.png", "cannot be read as PNG", changed("made.png", lambda c: c[:-40])
    ),
    "half a record": Bad("verify made.npy", "cannot be read", changed("made.npy.json", half)),
    "a record of no Unicode": Bad(
        "verify made.npy", "cannot be read", changed("made.npy.json", lambda c: c.replace(b"cavity", b"\xff"))
    ),
    "a record over 64 MiB": Bad(
        "verify made.npy", "over 64 MiB", lambda folder: os.truncate(folder / "made.npy.json", 65 << 20)
    ),
    "a record of too many images": Bad(
        "verify made.npy", "too many images", record("made.npy.json", images=[{}] * 2_000_000)
    ),
    "a record of no image": Bad("verify made.npy", "of no image", record("made.npy.json", images=[])),
    "a record of nobody's": Bad("verify mask.png", "no record of its making"),
    "a PNG text that inflates, to verify": Bad(
        "verify m.png", "cannot be read as PNG", data("m.png", inflating_text())
    ),
    "a PNG of 2^32 pixels to verify": Bad(
        "verify m.png", "cannot be read as PNG", data("m.png", png(size=(1 << 16, 1 << 16)))
    ),
    "an unknown fit": Bad("verify made.npy", "fitted by zoom", record("made.npy.json", fit="zoom")),
    "an unknown sampler": Bad(AGAIN, "no sampler", record("made.npy.json", sampler="euler")),
    "an unknown spacing": Bad(AGAIN, "spacing", record("made.npy.json", spacing="wide")),
    "an unknown class": Bad(AGAIN, "no class 'lung'", record("made.npy.json", classes=["lung"])),
    "steps below zero": Bad(AGAIN, "steps is -1", record("made.npy.json", steps=-1)),
    "a seed of 65 bits": Bad(AGAIN, "more than 64 bits", record("made.npy.json", seed=1 << 64)),
    "pixels of another kind": Bad(AGAIN, "it was changed", voxels("made.npy", lambda pixels: pixels.astype("c8"))),
    "pixels of text": Bad(AGAIN, "it was changed", voxels("made.npy", lambda pixels: pixels.astype("U4"))),
    "pixels of infinity": Bad(AGAIN, "infinities or NaNs", voxels("made.npy", lambda x: np.full_like(x, np.inf))),
    "pixels of NaN": Bad(AGAIN, "infinities or NaNs", voxels("made.npy", lambda x: x * np.nan)),
    "one number": Bad(AGAIN, "one number", voxels("made.npy", lambda pixels: pixels.sum())),
    "a PNG with another seed": Bad(
        "verify made.png tiny.seggd -m mask.png", "seed is -1", text_of("made.png", ('"seed":0', '"seed":-1'))
    ),
    "another mask": Bad("verify made.npy tiny.seggd -m mask.nii.gz", "has no label map of which"),
    "no such bundle": Bad("verify made.npy nothing.seggd", "is not a bundle"),
    # Signatures
    "no key": Bad(f"{GO} -m mask.png --require-signature none.pub", "none.pub cannot be read"),
    "a folder as key": Bad(f"{GO} -m mask.png --require-signature masks", "Is a directory"),
    "half a key": Bad(f"{GO} -m mask.png --require-signature K.pub", "no public key", changed("K.pub", half)),
    "a key of 1 MB": Bad(f"{GO} -m mask.png --require-signature K.pub", "64 KiB", data("K.pub", bytes(1 << 20))),
    "a private key": Bad(f"{GO} -m mask.png --require-signature K.pem", "private key, which stays"),
    "another key": Bad(f"{GO} -m mask.png --require-signature other.pub", "signed by another key"),
    "half a signature": Bad(
        "inspect tiny.seggd --require-signature K.pub", "no signature", changed("tiny.seggd/bundle.sig", half)
    ),
    "a signature of 1 MB": Bad("inspect tiny.seggd", "64 KiB", data("tiny.seggd/bundle.sig", bytes(1 << 20))),
    "a signature with a space more": Bad(
        "inspect tiny.seggd", "not as it was written", changed("tiny.seggd/bundle.sig", lambda c: c + b" ")
    ),
    "a signature of other bytes": Bad(
        f"{GO} -m mask.png --require-signature K.pub",
        "does not hold",
        changed("tiny.seggd/bundle.json", lambda c: c + b" "),
    ),
    "a graph changed after signing": Bad(
        f"{GO} -m mask.png --require-signature K.pub", "was changed", changed("tiny.seggd/unet.fp32.onnx", one_bit)
    ),
    "a changed bundle to sign": Bad(
        "sign tiny.seggd --key K.pem", "was changed", changed("tiny.seggd/unet.fp32.onnx", one_bit)
    ),
    "half a private key": Bad("sign tiny.seggd --key K.pem", "no private key", changed("K.pem", half)),
    "a key where there is one": Bad("sign --new-key K.pem", "K.pem is there already"),
    "a key nobody can write": Bad("sign --new-key /proc/K.pem", "cannot be written"),
    # Cards
    "a report that is none": Bad("card tiny.seggd -o new.html --report r.json", "no report", data("r.json", b"[]")),
    "half a report": Bad("card tiny.seggd -o new.html --report report.json", "no report", changed("report.json", half)),
    "a report of another checkpoint": Bad(
        "card checked.seggd -o new.html --report report.json", "of another checkpoint"
    ),
    "a report over 64 MiB": Bad(
        "card tiny.seggd -o new.html --report report.json",
        "over 64 MiB",
        lambda folder: os.truncate(folder / "report.json", 65 << 20),
    ),
    "a nested report": Bad(
        "card tiny.seggd -o new.html --report report.json",
        "is no report that this version reads",
        changed("report.json", lambda c: c[:-1] + b',"memorisation":' + b"[" * 900 + b"]" * 900 + b"}"),
    ),
    "a picture that is none": Bad(
        "card tiny.seggd -o new.html --report report.json", "is no PNG", data("plot-use.png", b"GIF89a")
    ),
    "a card that is no page": Bad("card tiny.seggd -o new.pdf", "must end in .html"),
    "a card nobody can write": Bad("card tiny.seggd -o /proc/new.html", "cannot be written"),
    "a nested manifest": Bad("card tiny.seggd -o new.html", "levels deep", nested(900)),
    "a nested manifest to inspect": Bad("inspect tiny.seggd --json", "levels deep", nested(900)),
    # Real images
    "a real PNG of 2^32 pixels": Bad(
        f"{MIX} --real r.png", "cannot be read as PNG", data("r.png", png(size=(1 << 16, 1 << 16)))
    ),
    "a real image of transparency": Bad(f"{MIX} --real r.png", "mode RGBA", picture("r.png", "RGBA")),
    "a real image of colours": Bad(
        f"{MIX} --real r.png", "wrong number of channels (3, the bundle has 1)", picture("r.png", "RGB")
    ),
    "a real image of NaN": Bad(f"{MIX} --real r.npy", "no numbers", save("r.npy", REAL * np.nan)),
    "a real image over 1": Bad(f"{MIX} --real r.npy", "outside [0, 1]", save("r.npy", REAL + 1)),
    "a real image below 0": Bad(f"{MIX} --real r.npy", "outside [0, 1]", save("r.npy", -REAL)),
    "a real image of complex numbers": Bad(f"{MIX} --real r.npy", "complex", save("r.npy", REAL.astype("c8"))),
    "a real image without pixels": Bad(f"{MIX} --real r.npy", "0x32", save("r.npy", REAL[:0])),
    "a real image of a short chunk": Bad(
        f"{MIX} --real r.png", "cannot be read as PNG", data("r.png", png(chunk(b"gAMA", b"1")))
    ),
    "half a real volume": Bad(
        f"{MIX} --real r.nii.gz --slice 0", "r.nii.gz", several(nifti("r.nii.gz", VOLUME), changed("r.nii.gz", half))
    ),
    "a real volume of Hounsfield units": Bad(
        f"{MIX} --real r.nii", "states no intensity range", nifti("r.nii", np.full((32, 24, 1), -1000, np.int16))
    ),
    "a real volume of NaN": Bad(
        f"{MIX} --real r.nii", "no numbers", nifti("r.nii", np.full((32, 24, 1), np.nan, np.float32))
    ),
    "a real volume without a slice": Bad(f"{MIX} --real r.nii", "say which with --real-slice", nifti("r.nii", VOLUME)),
    "a region of nothing": Bad(f"{PAINT} --region r.npy", "region", save("r.npy", np.zeros((24, 32), bool))),
    "a region of NaN": Bad(f"{PAINT} --region r.npy", "0/1 or 0/255 (nan)", save("r.npy", REAL * np.nan)),
    "a region of labels": Bad(
        f"{PAINT} --region r.npy", "--region-classes", save("r.npy", np.tri(24, 32, dtype=np.uint8) * 2)
    ),
    "half a region": Bad(f"{PAINT} --region r.npy", "states", several(save("r.npy", REAL), changed("r.npy", half))),
    "an output nobody can write": Bad("sweep tiny.seggd -m mask.png -o /proc/new.png", "cannot be written"),
    "an image nobody can write": Bad(
        "interpolate tiny.seggd -m mask.png --real real.npy -o /proc/new.png", "cannot be written"
    ),
    "an animation nobody can write": Bad(f"{GO} -m mask.png --gif /proc/new.gif", "cannot be written"),
    # Options of volumes, and of checks
    "an unknown axis": Bad(f"{GO} -m mask.nii.gz --axis up", "--axis is up"),
    "an axis of a volume without affine": Bad(
        f"{GO} -m m.nii --axis coronal",
        "give --axis 0, 1 or 2",
        lambda folder: nib.save(nib.Nifti1Image(VOLUME, None), folder / "m.nii"),
    ),
    "an unknown fit of masks": Bad(f"{GO} -m mask.nii.gz --fit zoom", "--fit is zoom"),
    "an unknown noise of slices": Bad(f"{GO} -m mask.nii.gz --slice-noise loud", "--slice-noise is loud"),
    "an unknown format": Bad(f"{GO} -m mask.nii.gz --format tiff", "--format is tiff"),
    "a format that the name denies": Bad(
        "generate tiny.seggd -m mask.png -o new.npy --format png", "leave --format out"
    ),
    "pictures as a volume": Bad(f"{GO} -m mask.png --format nifti", "lie where their label map does"),
    "two volumes in one": Bad("generate tiny.seggd -m mask.nii.gz -o new.nii.gz --count 2", "is one volume"),
    "no slice named": Bad("sweep tiny.seggd -m mask.nii.gz -o new.png", "say which with --slice, from 0 to 2"),
    "a slice that is not there": Bad("sweep tiny.seggd -m mask.nii.gz -o new.png --slice 3", "has no slice 3"),
    "a negative slice": Bad("sweep tiny.seggd -m mask.nii.gz -o new.png --slice -1", "has no slice -1"),
    "a shard of 5000 digits": Bad(f"{GO} -m mask.png --shard 1/{'1' * 5000}", "--shard is"),
    "no shard": Bad(f"{GO} -m mask.png --shard 3/2", "shard 3/2 is none"),
    "a weight of NaN": Bad(f"{MIX} --real real.npy --weight nan", "weight"),
    "at NaN": Bad(f"{MIX} --real real.npy --at nan", "at is nan"),
    "guidance of infinity": Bad(f"{GO} -m mask.png --guidance inf", "guidance is inf"),
    "a check without a segmenter": Bad(f"{GO} -m mask.png --check", "has no segmenter"),
    "a Dice of NaN": Bad("generate checked.seggd -o out/ -m mask.png --check --min-dice nan", "min_dice is nan"),
    "a Dice without a check": Bad(f"{GO} -m mask.png --min-dice 0.5", "give that too"),
    "a changed segmenter": Bad(
        "generate checked.seggd -o out/ -m mask.png --check", "was changed", segmenter(one_bit, sealed=False)
    ),
    "half a segmenter": Bad(
        "generate checked.seggd -o out/ -m mask.png --check", "not a whole ONNX file", segmenter(half)
    ),
    "an empty segmenter": Bad(
        "generate checked.seggd -o out/ -m mask.png --check", "is empty", segmenter(lambda content: b"")
    ),
    "a segmenter that is the network": Bad(
        "generate checked.seggd -o out/ -m mask.png --check",
        "segmenter",
        segmenter(lambda content: (TINY / "unet.fp32.onnx").read_bytes()),
    ),
    "no segmenter there": Bad(
        "generate checked.seggd -o out/ -m mask.png --check", "is missing", gone("checked.seggd/segmenter.onnx")
    ),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, golden_mask: np.ndarray, needs_onnxruntime: None) -> Path:
    """A folder of good files: bundles, one signed, masks, a real image, images that were made, keys and a report."""
    from tests.reports.test_card import a_report

    folder = tmp_path_factory.mktemp("good")
    copy_bundle(TINY, folder)
    shutil.copytree(TINY_CHECKED, folder / "checked.seggd")
    (folder / "masks").mkdir()
    for name in ("mask.png", "masks/a.png"):
        Image.fromarray(golden_mask).save(folder / name)
    nifti("mask.nii.gz", VOLUME)(folder)
    np.save(folder / "noise.npy", np.zeros((1, 1, 24, 32), np.float32))
    np.save(folder / "real.npy", REAL)
    np.save(folder / "region.npy", np.ones((24, 32), bool))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("SEGGD_KEY_PASSPHRASE", raising=False)
        made = [f"generate tiny.seggd -m mask.png -o {name} --steps 2" for name in ("made.png", "made.npy")]
        made.append("generate tiny.seggd -m mask.nii.gz -o made.nii.gz --steps 2")
        keys = ["sign --new-key K.pem", "sign --new-key other.pem", "sign tiny.seggd --key K.pem"]
        for command in [*(f"{each} {' '.join(ORT)}" for each in made), *keys]:
            done = run_command(*command.split())
            assert done.code == 0, done.err
    (folder / "report.json").write_text(json.dumps(a_report(folder / "tiny.seggd")))
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, the working directory."""
    path = tmp_path / "work"
    shutil.copytree(good, path)
    monkeypatch.chdir(path)
    return path


@pytest.mark.parametrize("name", CASES)
def test_one_line_and_nothing_written(name: str, folder: Path) -> None:
    case = CASES[name]
    command = case.arguments.split()[0]
    runs = command in ("generate", "interpolate", "inpaint", "sweep") or case.arguments.startswith(AGAIN)
    done = refused(case, folder, *(ORT if runs else ()))
    if command != "verify":
        assert done.out == ""


@pytest.mark.parametrize(
    "command",
    [
        f"{GO} -m masks --noise noise.npy --require-signature K.pub",
        f"{GO} -m mask.nii.gz --axis 2 --fit letterbox --slice-noise shared --format png",
        f"{MIX} --real real.npy",
        f"{PAINT} --region region.npy",
        AGAIN,
        "verify made.png tiny.seggd -m mask.png",
        "verify made.nii.gz tiny.seggd -m mask.nii.gz",
        "card tiny.seggd -o new.html --report report.json --require-signature K.pub",
        "generate checked.seggd -o out/ -m mask.png --check --steps 2",
    ],
)
def test_the_same_with_good_files_works(command: str, folder: Path) -> None:
    done = run_command(*command.split(), *(() if command.startswith("card") else ORT))
    assert done.code == 0, done.err


def test_what_lies_in_a_folder_beside_masks_is_passed_over(folder: Path) -> None:
    os.mkfifo(folder / "masks" / "pipe.png")
    (folder / "masks" / "zero.npy").symlink_to("/dev/zero")
    (folder / "masks" / "nothing.png").symlink_to("none.png")
    (folder / "masks" / "loop.nii.gz").symlink_to("loop.nii.gz")
    done = run_command(*GO.split(), "-m", "masks", *ORT)
    assert done.code == 0, done.err
    assert "4 of 5 entries of masks are not label maps and are skipped: loop.nii.gz, nothing.png, pipe.png" in done.err
    assert len(list((folder / "out").glob("*.png"))) == 1


@pytest.mark.parametrize(
    "name", ["Ærø 心臓", "two\nlines", "🫀", "\u202egnp", "'\"$(id)`;", "-o", "x" * 210, " ", "%s%n", "a.png.npy"]
)
def test_odd_names_are_names(name: str, folder: Path) -> None:
    shutil.move(folder / "masks" / "a.png", folder / "masks" / f"{name}.png")
    done = run_command(*GO.split(), "-m", "masks", *ORT)
    assert done.code == 0, done.err
    assert (folder / "out" / f"{name}_0.png").is_file()
    (line,) = (folder / "out" / "manifest.jsonl").read_text().splitlines()
    assert json.loads(line)["mask"] == f"{name}.png"
    again = run_command(*GO.split(), "-m", "masks", *ORT)
    assert "1 of 1 image are in out already" in again.err


def test_what_a_terminal_would_obey_is_not_printed(folder: Path) -> None:
    record("made.npy.json", sampler="ddim\nseed 9\x1b[2J\u202e")(folder)
    done = run_command("verify", "made.npy")
    assert done.code == 0
    assert r"ddim\nseed 9\u001b[2J\u202e" in done.out
    assert not {"\x1b", "\u202e"} & set(done.out + done.err)


def test_a_folder_of_results_that_others_made(folder: Path) -> None:
    """A `manifest.jsonl` that was there is read, so it is of others too."""
    for content, message in {
        b"\xff\n": "line 1",
        b'{"seed":"\xff"}\n': "line 1",
        b"[" * 5000 + b"\n": "line 1",
    }.items():
        shutil.rmtree(folder / "out", ignore_errors=True)
        (folder / "out").mkdir()
        refused(Bad(f"{GO} -m mask.png", message, data("out/manifest.jsonl", content)), folder, *ORT)
    refused(
        Bad(f"{GO} -m mask.png", "pipe", several(gone("out/manifest.jsonl"), pipe("out/manifest.jsonl"))), folder, *ORT
    )


def test_a_file_that_fails_to_be_read(folder: Path) -> None:
    (folder / "n.npy").symlink_to("/proc/self/mem")
    done = run_command(*GO.split(), "-m", "mask.png", "--noise", "n.npy", *ORT)
    assert (done.code, done.error_lines) == (2, ["error: n.npy cannot be read (Input/output error)"])
    assert not (folder / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("name", ["mask.png", "noise.npy", "tiny.seggd/unet.fp32.onnx", "tiny.seggd/bundle.json"])
def test_files_that_may_not_be_read(name: str, folder: Path) -> None:
    (folder / name).chmod(0)
    done = run_command(*GO.split(), "-m", "mask.png", "--noise", "noise.npy", *ORT)
    assert (done.code, len(done.error_lines)) == (2, 1)
    assert "Permission denied" in done.err
    assert not (folder / "out").exists()
