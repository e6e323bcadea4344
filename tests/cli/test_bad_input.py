"""Bad input ends in one clear line and exit code 2, before the network runs, with nothing written."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.bad_input import Arrange, Bad, changed, data, one_bit, picture, refused, save
from tests.bundles import TINY, copy_bundle, edit_manifest, reseal_graph
from tests.commands import files_below, run_command

pytestmark = pytest.mark.usefixtures("needs_onnxruntime")


def manifest(**change: object) -> Arrange:
    return lambda folder: edit_manifest(folder / "tiny.seggd", {key.replace("__", "."): change[key] for key in change})


def cut_graph(length: int) -> Arrange:
    """Cut the ONNX file and state its new hash, so that the hash does not give it away."""

    def arrange(folder: Path) -> None:
        graph = folder / "tiny.seggd" / "unet.fp32.onnx"
        graph.write_bytes(graph.read_bytes()[:length])
        reseal_graph(folder / "tiny.seggd")

    return arrange


def changed_byte(name: str) -> Arrange:
    return changed(f"tiny.seggd/{name}", one_bit)


def outer_link(folder: Path) -> None:
    graph = folder / "tiny.seggd" / "unet.fp32.onnx"
    graph.rename(folder / "outside.onnx")
    graph.symlink_to(folder / "outside.onnx")


def external_data(folder: Path) -> None:
    """Let a graph of one node name a file outside the bundle: a TensorProto's external_data entry, as protobuf."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    entry = field(1, b"location") + field(2, b"../../etc/passwd")
    graph = folder / "tiny.seggd" / "unet.fp32.onnx"
    tensor = field(5, field(8, b"w") + field(13, entry) + b"\x70\x01")  # an initializer: name, external_data, its place
    graph.write_bytes(b"\x08\x0a" + field(7, field(1, field(4, b"Neg")) + tensor) + field(8, b"\x10\x14"))
    reseal_graph(folder / "tiny.seggd")


def other_network(folder: Path) -> None:
    """Put a graph of other channel counts into the bundle."""
    shutil.copy(TINY.parent / "tiny-rgb.seggd" / "unet.fp32.onnx", folder / "tiny.seggd" / "unet.fp32.onnx")
    reseal_graph(folder / "tiny.seggd")


def another_weight(folder: Path) -> None:
    """Change a number of the network, and the hashes with it: the golden states must give it away."""
    graph = folder / "tiny.seggd" / "unet.fp32.onnx"
    content = graph.read_bytes()
    half = struct.pack("<f", 0.5)
    assert content.count(half) == 1
    graph.write_bytes(content.replace(half, struct.pack("<f", 0.499)))
    reseal_graph(folder / "tiny.seggd")


def removed(name: str) -> Arrange:
    def arrange(folder: Path) -> None:
        (folder / "tiny.seggd" / name).unlink()

    return arrange


ZEROS = np.zeros((24, 32), np.uint8)
LABEL_9 = np.where(np.arange(32) < 3, 9, ZEROS).astype(np.uint8)
STACK = np.stack([ZEROS, LABEL_9])
NOISE = np.zeros((1, 1, 24, 32), np.float32)
CUT_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0 \0\0\0\x18\x08\0\0\0\0"
GO = "generate tiny.seggd -o out/"

CASES = {
    # Label maps
    "a label outside the classes": Bad(f"{GO} -m m.npy", "m.npy: label 9 is outside", save("m.npy", LABEL_9)),
    "a label above a byte": Bad(f"{GO} -m m.npy", "label 257 is outside", save("m.npy", ZEROS.astype("u2") + 257)),
    "a negative label": Bad(f"{GO} -m m.npy", "label -1 is outside", save("m.npy", ZEROS.astype("i2") - 1)),
    "one bad map of a folder": Bad(f"{GO} -m masks", "zz.npy[1]: label 9", save("masks/zz.npy", STACK)),
    "a float mask": Bad(f"{GO} -m m.npy", "must hold integers", save("m.npy", ZEROS.astype(np.float32))),
    "an RGB mask": Bad(f"{GO} -m m.png", "is an RGB image", picture("m.png", "RGB")),
    "an RGBA mask": Bad(f"{GO} -m m.png", "save it as 8-bit grey", picture("m.png", "RGBA")),
    "a mask of four axes": Bad(f"{GO} -m m.npy", "(N, H, W)", save("m.npy", ZEROS[None, None])),
    "a mask of objects": Bad(f"{GO} -m m.npy", "Python objects", save("m.npy", ZEROS.astype(object))),
    "a mask of booleans": Bad(f"{GO} -m m.npy", "cannot tell 3 classes apart", save("m.npy", ZEROS == 0)),
    "a mask of 1 bit": Bad(f"{GO} -m m.png", "m.png: a mask of true and false", picture("m.png", "1")),
    "colours in a mask": Bad(
        f"{GO} -m m.npy", "m.npy: a label map must have", save("m.npy", ZEROS[..., None] + [0, 1, 2])
    ),
    "labels outside": Bad(f"{GO} -m m.npy", "labels 80, 160 are outside", save("m.npy", ZEROS + [80, 160] * 16)),
    "a cut PNG": Bad(f"{GO} -m m.png", "cannot be read as PNG", data("m.png", CUT_PNG)),
    "a text as PNG": Bad(f"{GO} -m m.png", "not a PNG", data("m.png", b"label map")),
    "a text as NPY": Bad(f"{GO} -m m.npy", "not a .npy", data("m.npy", b"label map")),
    "an unknown format": Bad(f"{GO} -m m.tif", "are read from .png, .npy", data("m.tif", b"II*")),
    "no mask there": Bad(f"{GO} -m nothing.png", "is not there"),
    "a folder without masks": Bad(f"{GO} -m tiny.seggd", "has no label map in it"),
    # Classes
    "an unknown class": Bad(f"{GO} -m mask.png --keep cavty", "there is no class 'cavty': did you mean 'cavity'?"),
    "an unknown class to drop": Bad(f"{GO} -m mask.png --drop cavity,lung", "there is no class 'lung'"),
    "the background": Bad(f"{GO} -m mask.png --keep background", "is the background"),
    "an empty name": Bad(f"{GO} -m mask.png --keep cavity,,", "the list of classes 'cavity,,' has an empty name"),
    "a class twice": Bad(f"{GO} -m mask.png --drop cavity,Cavity", "has cavity twice: give each class once"),
    "drop leaves no class": Bad(f"{GO} -m mask.png --drop 'cavity,myocardium,right ventricle'", "drop leaves no class"),
    "keep and drop": Bad(f"{GO} -m mask.png --keep cavity --drop cavity", "exclude each other"),
    # Settings
    "steps 0": Bad(f"{GO} -m mask.png --steps 0", "steps is 0; it must lie in [1, 1000]"),
    "steps over 1000": Bad(f"{GO} -m mask.png --steps 1001", "steps is 1001"),
    "steps negative": Bad(f"{GO} -m mask.png --steps -5", "steps is -5"),
    "eta over 1": Bad(f"{GO} -m mask.png --eta 1.5", "eta is 1.5"),
    "eta nan": Bad(f"{GO} -m mask.png --eta nan", "eta is nan"),
    "a negative seed": Bad(f"{GO} -m mask.png --seed -1", "seed is -1"),
    "a seed of 65 bits": Bad(f"{GO} -m mask.png --seed {1 << 64}", "it must be a whole number in [0, 2^64)"),
    "a count of billions": Bad(f"{GO} -m mask.png --count 5000000000", "5,000,000,000 images, and one may draw"),
    "count 0": Bad(f"{GO} -m mask.png --count 0", "count is 0"),
    "batch 0": Bad(f"{GO} -m mask.png --batch 0", "batch is 0"),
    "threads 0": Bad(f"{GO} -m mask.png --threads 0", "threads is 0"),
    "threads beyond cores": Bad(f"{GO} -m mask.png --threads 20000", "threads is 20000: this machine has"),
    "threads of 100 bits": Bad(f"{GO} -m mask.png --threads {1 << 100}", "this machine has"),
    "a seed of 100 bits": Bad(f"{GO} -m mask.png --seed {1 << 100}", "it must be a whole number in [0, 2^64)"),
    "an unknown engine": Bad(f"{GO} -m mask.png --engine onnxrutime", "did you mean 'onnxruntime'?"),
    "an unknown precision": Bad(f"{GO} -m mask.png --precision fp64", "there is no precision 'fp64'"),
    "an unknown device": Bad(f"{GO} -m mask.png --device tpu", "there is no device 'tpu'"),
    "a precision the engine lacks": Bad(
        f"{GO} -m mask.png --engine onnxruntime --precision fp16", "computes in fp32 here, not in fp16"
    ),
    # Noise
    "noise of other channels": Bad(
        f"{GO} -m mask.png --noise n.npy", "(1, 1, 24, 32)", save("n.npy", NOISE.repeat(2, 1))
    ),
    "noise of another size": Bad(f"{GO} -m mask.png --noise n.npy", "must hold noise", save("n.npy", NOISE[..., :31])),
    "noise for fewer images": Bad(f"{GO} -m mask.png --count 2 --noise noise.npy", "(2, 1, 24, 32)"),
    "noise of integers": Bad(f"{GO} -m mask.png --noise n.npy", "int64", save("n.npy", NOISE.astype("i8"))),
    "noise with NaN": Bad(f"{GO} -m mask.png --noise n.npy", "finite", save("n.npy", NOISE * np.nan)),
    "noise that is no array": Bad(f"{GO} -m mask.png --noise mask.png", "not a .npy"),
    "no noise there": Bad(f"{GO} -m mask.png --noise nothing.npy", "No such file"),
    # Outputs
    "a file in the folder's place": Bad(
        "generate tiny.seggd -m mask.png -o noise", "Not a directory", data("noise", b"")
    ),
    "below a file": Bad("generate tiny.seggd -m mask.png -o mask.png/out.png", "Not a directory"),
    "a folder nobody can write": Bad("generate tiny.seggd -m mask.png -o /proc/seggd/", "cannot be written"),
    "a file nobody can write": Bad("generate tiny.seggd -m mask.png -o /proc/seggd.npy", "cannot be written"),
    "many images in one PNG": Bad("generate tiny.seggd -m masks -o out.png", "holds one image, and this run draws 3"),
    "two channels in a PNG": Bad(f"{GO} -m mask.png", "1 or 3 channels", manifest(image__channels=2)),
    "an unknown output": Bad(
        "generate tiny.seggd -m mask.png -o out.jpg", "give .png, .npy, .nii.gz, .nii, .dcm, or a folder"
    ),
    "onto the mask": Bad("generate tiny.seggd -m mask.png -o mask.png", "is an input"),
    "among the masks": Bad("generate tiny.seggd -m masks -o masks", "is an input"),
    "into the bundle": Bad("generate tiny.seggd -m mask.png -o tiny.seggd", "lies in the bundle's folder"),
    "a file in the bundle": Bad("generate tiny.seggd -m mask.png -o tiny.seggd/i.npy", "lies in the bundle's folder"),
    "an output without a name": Bad("generate tiny.seggd -m mask.png -o ''", "--output is empty"),
    "the standard output": Bad("generate tiny.seggd -m mask.png -o -", "images cannot go to the standard output"),
    "an output that is no Unicode": Bad("generate tiny.seggd -m mask.png -o 'x\udcff/'", "x\\udcff is not Unicode"),
    "onto the noise": Bad("generate tiny.seggd -m mask.png --noise noise.npy -o noise.npy", "is an input"),
    "onto the real image": Bad(
        "generate tiny.seggd -m mask.png --from r.npy -o r.npy", "is an input", save("r.npy", NOISE[0, 0] * 0)
    ),
    "a sweep into the bundle": Bad("sweep tiny.seggd -m mask.png -o tiny.seggd", "lies in the bundle's folder"),
    "a sweep of no name": Bad("sweep tiny.seggd -m mask.png -o ''", "--output is empty"),
    "a file among the masks": Bad("generate tiny.seggd -m masks -o masks/out.npy", "lies among inputs"),
    # Bundles
    "no bundle": Bad("generate masks -m mask.png -o out/", "is not a bundle"),
    "no bundle there": Bad("generate nothing.seggd -m mask.png -o out/", "is not a bundle"),
    "a manifest that is no JSON": Bad(f"{GO} -m mask.png", "bundle.json", data("tiny.seggd/bundle.json", b"{")),
    "an unknown manifest key": Bad(f"{GO} -m mask.png", "unknown field `colour`", manifest(colour="red")),
    "a path that leaves the folder": Bad(
        f"{GO} -m mask.png", "plain file name", manifest(graphs__0__files__0__path="../x")
    ),
    "a newer schema": Bad(f"{GO} -m mask.png", "upgrade it", manifest(schema="seggd-bundle/2")),
    "another schema": Bad(f"{GO} -m mask.png", "it must be 'seggd-bundle/1'", manifest(schema="cake/1")),
    "a changed byte of the graph": Bad(f"{GO} -m mask.png", "was changed after export", changed_byte("unet.fp32.onnx")),
    "a changed byte of the check": Bad(
        f"{GO} -m mask.png", "was changed after export", changed_byte("check.safetensors")
    ),
    "a missing file": Bad(f"{GO} -m mask.png", "is missing", removed("check.safetensors")),
    "a cut graph": Bad(f"{GO} -m mask.png", "not a whole ONNX file", cut_graph(1000)),
    "an empty graph": Bad(f"{GO} -m mask.png", "is empty", cut_graph(0)),
    "a link out of the folder": Bad(f"{GO} -m mask.png", "link that leaves", outer_link),
    "external data outside": Bad(f"{GO} -m mask.png", "external data that the manifest does not list", external_data),
    "a network of other channels": Bad(f"{GO} -m mask.png", "export the bundle again", other_network),
    "another weight": Bad(f"{GO} -m mask.png", "misses the bundle's golden states by", another_weight),
    "a precision not exported": Bad(
        f"{GO} -m mask.png", "no fp32 graph, only fp16", manifest(graphs__0__precision="fp16")
    ),
}


@pytest.fixture
def folder(tmp_path: Path, golden_mask: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of good inputs, which is the working directory."""
    copy_bundle(TINY, tmp_path)
    (tmp_path / "masks").mkdir()
    for name in ("mask.png", "masks/a.png", "masks/b.png", "masks/c.png"):
        Image.fromarray(golden_mask).save(tmp_path / name)
    np.save(tmp_path / "noise.npy", NOISE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_same_with_good_input_works(folder: Path) -> None:
    done = run_command(*GO.split(), "-m", "masks", "--engine", "onnxruntime", "--threads", "1", "--steps", "2")
    assert done.code == 0
    assert len(files_below(folder / "out")) == 4


@pytest.mark.parametrize("name", CASES)
def test_one_line_and_nothing_written(name: str, folder: Path) -> None:
    case = CASES[name]
    done = refused(case, folder, *([] if "--engine" in case.arguments else ["--engine", "onnxruntime"]))
    assert done.out == ""
    assert len(done.error_lines) == 1, done.err


@pytest.mark.parametrize("length", range(100, 2899, 311))
def test_a_graph_cut_anywhere(length: int, folder: Path) -> None:
    cut_graph(length)(folder)
    for engine in ("onnxruntime", "openvino", "auto"):
        done = run_command(*GO.split(), "-m", "mask.png", "--engine", engine)
        assert done.code == 2
        assert len(done.error_lines) == 1, done.err
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("generate tiny.seggd -o out/", "Missing option '--mask' / '-m': see seggd-rt generate --help"),
        ("generate tiny.seggd -m mask.png", "Missing option '--output' / '-o'"),
        (f"{GO} -m mask.png --steps many", "Invalid value for '--steps'"),
        (f"{GO} -m mask.png --step 3", "No such option: --step"),
        ("generate", "Missing argument"),
        ("draw", "No such command 'draw'"),
        ("--verbose", "No such option: --verbose"),
    ],
)
def test_a_wrong_command_line(arguments: str, message: str, folder: Path) -> None:
    done = run_command(*arguments.split())
    assert (done.code, done.out) == (2, "")
    (line,) = done.error_lines
    assert line.startswith(f"error: {message}")
    assert "see seggd-rt" in line
    assert not (folder / "out").exists()


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        f"generate {LONG} -m mask.png -o out/",
        f"{GO} -m {LONG}.png",
        f"{GO} -m mask.png --noise {LONG}.npy",
        f"generate tiny.seggd -m mask.png -o {LONG}/",
        f"generate tiny.seggd -m mask.png -o {LONG}.png",
        f"generate tiny.seggd -m mask.png -o {LONG}/i.png",
    ],
)
def test_a_name_that_no_file_can_have(arguments: str, folder: Path) -> None:
    before = files_below(folder)
    done = run_command(*arguments.split(), "--engine", "onnxruntime")
    assert (done.code, done.out) == (2, "")
    (line,) = done.error_lines
    assert line.startswith("error: ")
    assert files_below(folder) == before


def test_memory_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("seggd_engines.host.np.zeros", fail)
    done = run_command(*GO.split(), "-m", "mask.png", "--engine", "onnxruntime")
    assert (done.code, done.out) == (2, "")
    assert done.error_lines == ["error: memory is exhausted: use a smaller batch or smaller files"]
