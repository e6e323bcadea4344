"""`seggd-rt generate`: outputs, seeds, batches, what is said, and what an interrupt leaves."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import seggd_rt
from seggd_cli.images.live_image import half_blocks
from seggd_rt.diffusion import derive_seed
from seggd_rt.engine import this_cpu
from tests.commands import COMMAND, files_below, run_command, start_command, with_options

pytestmark = pytest.mark.usefixtures("needs_onnxruntime")
ORT = ("--engine", "onnxruntime", "--threads", "1", "--steps", "5")


@pytest.fixture
def masks(tmp_path: Path, golden_mask: NDArray[np.uint8]) -> Path:
    """A folder of two label maps and a stack of two."""
    folder = tmp_path / "masks"
    folder.mkdir()
    Image.fromarray(golden_mask).save(folder / "a.png")
    np.save(folder / "b.npy", np.stack([golden_mask[::-1], golden_mask[:, ::-1]]))
    palette = Image.fromarray(np.where(golden_mask == 2, 0, golden_mask).astype(np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    palette.save(folder / "c.png")
    return folder


@pytest.fixture
def mask(masks: Path) -> Path:
    """One label map."""
    return masks / "a.png"


def test_one_png_has_the_runs_own_seed(
    tiny_bundle: Path, tiny_generator: seggd_rt.Generator, mask: Path, golden_mask: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = tmp_path / "new" / "image.png"
    done = run_command("generate", tiny_bundle, "--mask", mask, "-o", path, "--seed", "7", *ORT)
    assert (done.code, done.out) == (0, f"{path}\n")
    expected = tiny_generator(golden_mask, seed=7, steps=5)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), np.rint(expected * 255))


def test_a_folder_gets_an_image_a_mask_and_a_manifest(
    tiny_bundle: Path, tiny_generator: seggd_rt.Generator, masks: Path, golden_mask: NDArray[np.uint8], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("--count", "2", "--seed", "5", "--eta", "0.5", "--drop", "myocardium")
    done = run_command("generate", tiny_bundle, "-m", masks, "-o", out, *arguments, *ORT)
    assert done.code == 0, done.err
    maps = [("a", "a.png", None), ("b_0", "b.npy", 0), ("b_1", "b.npy", 1), ("c", "c.png", None)]
    drawn_from = {
        "a": golden_mask,
        "b_0": golden_mask[::-1],
        "b_1": golden_mask[:, ::-1],
        "c": np.where(golden_mask == 2, 0, golden_mask).astype(np.uint8),
    }
    expected = []
    for place, (name, mask, index) in enumerate(maps):
        for copy in range(2):
            seed = derive_seed(5, place, copy)
            expected.append(
                {
                    "file": f"{name}_{seed}.png",
                    "file_index": None,
                    "file_sha256": hashlib.sha256((out / f"{name}_{seed}.png").read_bytes()).hexdigest(),
                    "mask": mask,
                    "mask_index": index,
                    "mask_sha256": hashlib.sha256(drawn_from[name].tobytes()).hexdigest(),
                    "seed": seed,
                    "noise": None,
                    "noise_sha256": None,
                    "classes": ["cavity", "right ventricle"],
                    "sampler": "ddim",
                    "steps": 5,
                    "eta": 0.5,
                    "spacing": "leading",
                    "guidance": 0.0,
                    "against": None,
                    "real": None,
                    "real_sha256": None,
                    "at": None,
                    "weight": None,
                    "then_classes": None,
                    "region_sha256": None,
                    "region_classes": None,
                    "fit": "resize",
                    "first_seed": None,
                    "check": None,
                    "min_dice": None,
                    "retries": None,
                    "keep_patient": False,
                    "mark": None,
                    "engine": "onnxruntime",
                    "precision": "fp32",
                    "engine_version": tiny_generator.engine.version,
                    "device": f"{this_cpu().name}: {', '.join(this_cpu().features or ()) or 'features unknown'}",
                    "threads": 1,
                    "cores": None,
                    "batch": 1,
                    "bundle": tiny_generator.bundle.sha256,
                    "version": seggd_rt.__version__,
                }
            )
    assert [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()] == expected
    assert sorted(files_below(out)) == sorted([*(str(record["file"]) for record in expected), "manifest.jsonl"])
    assert done.out.splitlines() == [str(out / str(record["file"])) for record in expected]
    # b_1's second copy, drawn alone.
    alone = tiny_generator(golden_mask[:, ::-1], seed=derive_seed(5, 2, 1), steps=5, eta=0.5, drop=["myocardium"])
    written = np.asarray(Image.open(out / str(expected[5]["file"])))
    assert np.abs(written - np.rint(alone * 255)).max() <= 1


def test_what_runs_is_said_on_stderr(tiny_bundle: Path, mask: Path, tmp_path: Path) -> None:
    done = run_command("generate", tiny_bundle, "-m", mask, "-o", tmp_path / "i.png", *ORT)
    assert done.error_lines[0].startswith("onnxruntime ")
    assert "in fp32 on cpu" in done.error_lines[0]


def test_json_is_a_line_an_image(tiny_bundle: Path, masks: Path, tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    done = run_command("generate", tiny_bundle, "-m", masks, "-o", path, "--json", *ORT)
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [(line["file"], line["file_index"]) for line in lines] == [(str(path), i) for i in range(4)]
    assert [(line["mask"], line["mask_index"]) for line in lines][1:3] == [("b.npy", 0), ("b.npy", 1)]


@pytest.mark.parametrize("size", ["1", "3", "4", "100"])
def test_batches_give_equal_images(size: str, tiny_bundle: Path, masks: Path, tmp_path: Path) -> None:
    for name, batch in (("one", "1"), ("many", size)):
        done = run_command("generate", tiny_bundle, "-m", masks, "-o", tmp_path / f"{name}.npy", "--batch", batch, *ORT)
        assert done.code == 0
    one, many = np.load(tmp_path / "one.npy"), np.load(tmp_path / "many.npy")
    assert one.shape == (4, 24, 32)
    assert one.dtype == np.float32
    assert np.abs(one - many).max() <= 1e-5


def test_rgb_and_channels_last(tiny_rgb_bundle: Path, mask: Path, tmp_path: Path) -> None:
    for name in ("image.png", "images.npy"):
        done = run_command("generate", tiny_rgb_bundle, "-m", mask, "-o", tmp_path / name, *ORT)
        assert done.code == 0
        assert "the mask is not 16x20, which this bundle draws, and is resized to it by nearest" in done.err
        assert "the mask is distorted: 24x32 to 16x20 changes the aspect ratio: crop or pad first" in done.err
    images = np.load(tmp_path / "images.npy")
    assert images.shape == (1, 16, 20, 3)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "image.png")), np.rint(images[0] * 255))


def test_another_process_gives_the_same_bytes(tiny_bundle: Path, masks: Path, tmp_path: Path) -> None:
    arguments = ("--seed", "3", "--count", "2", *ORT)
    assert run_command("generate", tiny_bundle, "-m", masks, "-o", tmp_path / "here", *arguments).code == 0
    process = start_command("generate", tiny_bundle, "-m", masks, "-o", tmp_path / "there", *arguments)
    assert process.wait(60) == 0
    process.communicate()
    assert files_below(tmp_path / "here") == files_below(tmp_path / "there")


def test_given_noise_takes_the_seeds_place(
    tiny_bundle: Path, tiny_generator: seggd_rt.Generator, mask: Path, golden_mask: NDArray[np.uint8], tmp_path: Path
) -> None:
    noise = np.random.default_rng(1).standard_normal((3, 1, 24, 32)).astype(np.float32)
    np.save(tmp_path / "noise.npy", noise)
    np.save(tmp_path / "one.npy", noise[0])
    arguments = ("generate", tiny_bundle, "-m", mask, *ORT)
    three = run_command(
        *arguments, "-o", tmp_path / "three.npy", "--count", "3", "--noise", tmp_path / "noise.npy", "--json"
    )
    one = run_command(*arguments, "-o", tmp_path / "image.npy", "--noise", tmp_path / "one.npy")
    assert (three.code, one.code) == (0, 0)
    images = np.load(tmp_path / "three.npy")
    expected = tiny_generator(golden_mask, noise=noise, steps=5)
    np.testing.assert_allclose(images, expected, atol=1e-5)
    np.testing.assert_allclose(np.load(tmp_path / "image.npy"), images[:1], atol=1e-5)
    assert {json.loads(line)["noise"] for line in three.out.splitlines()} == {"noise.npy"}


def test_keep_and_drop_change_the_image_where_the_class_is(
    tiny_bundle: Path, mask: Path, golden_mask: NDArray[np.uint8], tmp_path: Path
) -> None:
    common = ("generate", tiny_bundle, "-m", mask, *ORT)
    for name, arguments in {
        "all": (),
        "kept": ("--keep", "Myocardium, right ventricle"),
        "dropped": ("--drop", "cavity"),
    }.items():
        assert run_command(*common, "-o", tmp_path / f"{name}.npy", *arguments).code == 0
    whole, kept, dropped = (np.load(tmp_path / f"{name}.npy")[0] for name in ("all", "kept", "dropped"))
    np.testing.assert_array_equal(kept, dropped)
    cavity = golden_mask == 1
    assert whole[cavity].mean() - dropped[cavity].mean() > 0.3  # back to the background's grey


def test_an_all_background_mask_works_with_a_warning(tiny_bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "empty.npy", np.zeros((24, 32), np.uint8))
    done = run_command("generate", tiny_bundle, "-m", tmp_path / "empty.npy", "-o", tmp_path / "i.png", *ORT)
    assert done.code == 0
    warned = [line for line in done.err.splitlines() if line.startswith("warning:")]
    assert len(warned) == 1
    assert "no foreground, which this network was not trained with" in warned[0]
    assert (tmp_path / "i.png").is_file()


def test_a_second_run_replaces_its_files_and_keeps_the_others(tiny_bundle: Path, mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for seed in ("1", "2", "1"):
        assert run_command("generate", tiny_bundle, "-m", mask, "-o", f"{out}/", "--seed", seed, *ORT).code == 0
    lines = [json.loads(line)["file"] for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert sorted(lines) == ["a_1.png", "a_2.png"]
    assert sorted(files_below(out)) == ["a_1.png", "a_2.png", "manifest.jsonl"]


def test_images_of_other_settings_are_replaced_by_force_alone(tiny_bundle: Path, mask: Path, tmp_path: Path) -> None:
    go = ("generate", tiny_bundle, "-m", mask, "-o", tmp_path / "out", *ORT)
    assert run_command(*go).code == 0
    before = files_below(tmp_path / "out")
    for arguments, message in {
        ("--steps", "6"): "a_0.png was made with steps 5, and this run has steps 6: choose another folder with -o",
        ("--drop", "cavity"): "made with classes cavity + myocardium + right ventricle, and this run has classes myo",
        ("--eta", "0.5", "--steps", "4"): "made with steps 5, eta 0.0, and this run has steps 4, eta 0.5",
    }.items():
        done = run_command(*with_options(go, *arguments))
        assert (done.code, done.out) == (2, "")
        assert message in done.error_lines[-1]
        assert files_below(tmp_path / "out") == before
    assert run_command(*with_options(go, "--seed", "1", "--steps", "6")).code == 0  # of another name
    assert run_command(*with_options(go, "--steps", "6"), "--force").code == 0
    records = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert sorted((record["file"], record["steps"]) for record in records) == [("a_0.png", 6), ("a_1.png", 6)]
    (tmp_path / "out" / "a_0.png").unlink()
    assert run_command(*with_options(go, "--steps", "7")).code == 0  # there is nothing to replace


@pytest.mark.parametrize("name", ["one.png", "one.npy", "one.gif"])
def test_one_file_of_other_settings_is_replaced_by_force_alone(
    name: str, tiny_bundle: Path, mask: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    outputs: tuple[str | Path, ...] = ("-o", path)
    if name == "one.gif":
        outputs = ("-o", tmp_path / "out", "--gif", path)
    go = ("generate", tiny_bundle, "-m", mask, *outputs, *ORT)
    for _ in range(2):  # of the same settings it is replaced
        assert run_command(*go).code == 0
        before = files_below(tmp_path)
        if name == "one.gif":
            (tmp_path / "out" / "a_0.png").unlink()  # else there would be nothing to look at
    before = files_below(tmp_path)
    for arguments, message in {
        ("--steps", "6"): f"{name} was made with steps 5, and this run has steps 6: choose another place with -o",
        ("--seed", "7"): f"{name} was made with seed 0, and this run has seed 7",
        ("--drop", "cavity"): "made with classes cavity + myocardium + right ventricle, and this run has classes myo",
    }.items():
        done = run_command(*with_options(go, *arguments))
        assert (done.code, done.out) == (2, "")
        assert message in done.error_lines[-1]
        assert files_below(tmp_path) == before
    if name == "one.npy":
        done = run_command(*with_options(go, "--count", "2"))
        assert (done.code, "holds 1 image, and this run makes 2" in done.err) == (2, True)
    assert run_command(*with_options(go, "--steps", "6"), "--force").code == 0
    assert files_below(tmp_path)[name] != before[name]
    path.write_bytes(b"mine")
    done = run_command(*with_options(go, "--steps", "6"), "--force")
    assert (done.code, "already exists and was not written by seggd-rt" in done.err) == (2, True)
    assert path.read_bytes() == b"mine"


def test_an_image_without_its_line_is_not_replaced_by_one_of_other_settings(
    tiny_bundle: Path, mask: Path, tmp_path: Path
) -> None:
    go = ("generate", tiny_bundle, "-m", mask, "-o", tmp_path / "out", *ORT)
    assert run_command(*go).code == 0
    (tmp_path / "out" / "manifest.jsonl").unlink()
    done = run_command(*with_options(go, "--steps", "6"))
    assert (done.code, "a_0.png was made with steps 5, and this run has steps 6" in done.err) == (2, True)
    assert run_command(*go).code == 0


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("name", ["one.png", "one.gif", "out/manifest.jsonl", "out/a_0.png"])
def test_only_regular_files_are_written(name: str, kind: str, tiny_bundle: Path, mask: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    (tmp_path / "victim").write_text("")
    if kind == "link":
        path.symlink_to(tmp_path / "victim")
    else:
        os.mkfifo(path)
    outputs: tuple[str | Path, ...] = ("-o", path if name == "one.png" else tmp_path / "out")
    if name == "one.gif":
        outputs = (*outputs, "--gif", path)
    before = [(entry.name, entry.lstat().st_mode, entry.lstat().st_ino) for entry in sorted(tmp_path.rglob("*"))]
    done = run_command("generate", tiny_bundle, "-m", mask, *outputs, *ORT)
    assert (done.code, done.out) == (2, "")
    assert f"{path} cannot be written (it is a {kind}): choose another place" in done.error_lines[-1]
    after = [(entry.name, entry.lstat().st_mode, entry.lstat().st_ino) for entry in sorted(tmp_path.rglob("*"))]
    assert (after, (tmp_path / "victim").read_text()) == (before, "")


ENDS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}


@pytest.mark.parametrize("stop", ENDS)
def test_what_is_finished_stays(stop: signal.Signals, tiny_bundle: Path, mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # Far more images than are drawn before the signal.
    process = start_command(
        "generate", tiny_bundle, "-m", mask, "-o", out, "--count", "5000", "--engine", "onnxruntime", "--threads", "1"
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        first = [process.stdout.readline() for _ in range(3)]
        process.send_signal(stop)
        # Not `communicate`: it would leave out what readline has read ahead.
        rest, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == ENDS[stop]
    printed = [Path(line) for line in "".join([*first, rest]).splitlines()]
    assert len(printed) >= 3
    assert all(path.is_file() for path in printed)
    for path in out.glob("*.png"):
        Image.open(path).load()
    recorded = [json.loads(line)["file"] for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert set(recorded) <= {path.name for path in out.glob("*.png")}
    if stop is not signal.SIGKILL:
        assert not list(out.glob(".*"))
        assert "Traceback" not in err
        # The signal may fall between an image's end and the printing of its path.
        said = re.search(r"interrupted: (\d+) of 5000 images are finished and kept", err)
        assert said is not None
        assert int(said[1]) - len(printed) in (0, 1)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_half_stack(stop: signal.Signals, tiny_bundle: Path, mask: Path, tmp_path: Path) -> None:
    arguments = ("--count", "5000", "--engine", "onnxruntime", "--threads", "1")
    process = start_command("generate", tiny_bundle, "-m", mask, "-o", tmp_path / "images.npy", *arguments)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("onnxruntime")  # now it draws
    process.send_signal(stop)
    process.communicate(timeout=60)
    assert process.returncode == ENDS[stop]
    assert sorted(files_below(tmp_path)) == ["masks", "masks/a.png", "masks/b.npy", "masks/c.png"]


def test_neither_torch_nor_onnx_is_needed(tiny_bundle: Path, mask: Path, tmp_path: Path) -> None:
    block = "import sys; sys.modules.update(dict.fromkeys(['torch', 'diffusers', 'onnx', 'onnxscript', 'accelerate']));"
    arguments = ["generate", tiny_bundle, "-m", mask, "-o", tmp_path / "i.png", *ORT]
    code = f"{block} from seggd_cli import main; sys.argv = {['seggd-rt', *map(str, arguments)]!r}; main()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)
    assert (tmp_path / "i.png").is_file()


def test_on_a_terminal_a_bar_is_shown_and_results_stand_on_lines_of_their_own(
    tiny_bundle: Path, mask: Path, tmp_path: Path
) -> None:
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    main, terminal = pty.openpty()
    arguments = ["generate", tiny_bundle, "-m", mask, "-o", tmp_path / "out", "--count", "2", *ORT]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "40"}
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=terminal, stderr=terminal, env=environment
    ) as process:
        os.close(terminal)
        shown = b""
        while chunk := read_terminal(main):
            shown += chunk
    os.close(main)
    assert process.returncode == 0
    lines = [re.split(r"[\r\n]|\x1b\[2K|\x1b\[1A", line)[-1] for line in shown.decode().split("\r\n")]
    for file in (tmp_path / "out").glob("*.png"):
        assert str(file) in lines
    assert "/2 images" in shown.decode()


def read_terminal(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says EIO when the other end is closed
        return b""


@pytest.mark.parametrize("lines", [0, 1, 7])
def test_a_run_that_was_killed_goes_on_to_the_same_files(
    tiny_bundle: Path, mask: Path, tmp_path: Path, lines: int
) -> None:
    arguments = ("generate", tiny_bundle, "-m", mask, "--count", "30", *ORT)
    assert run_command(*arguments, "-o", tmp_path / "whole").code == 0
    with start_command(*arguments, "-o", tmp_path / "killed") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline().startswith("onnxruntime")
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
        process.stdout.read(), process.stderr.read()
    assert len(list((tmp_path / "killed").glob("*.png"))) < 30
    again = run_command(*arguments, "-o", tmp_path / "killed")
    assert again.code == 0, again.err
    whole, killed = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "killed")
    )
    records = [sorted(files.pop("manifest.jsonl").splitlines()) for files in (whole, killed)]
    assert records[0] == records[1]
    assert killed == whole


def test_several_devices_share_a_run(tiny_bundle: Path, masks: Path, tmp_path: Path) -> None:
    arguments = ("generate", tiny_bundle, "-m", masks, "--count", "2", *ORT)
    assert run_command(*arguments, "-o", tmp_path / "one").code == 0
    done = subprocess.run(
        [*COMMAND, *map(str, arguments), "-o", str(tmp_path / "two"), "--device", "cpu,cpu"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).glob("*.png")} for name in ("one", "two"))
    assert one == two
    assert len(done.stdout.splitlines()) == len(two) == 8
    manifests = [(tmp_path / name / "manifest.jsonl").read_text().splitlines() for name in ("one", "two")]
    assert sorted(manifests[0]) == sorted(manifests[1])


def test_several_devices_fail_as_one(tiny_bundle: Path, masks: Path, tmp_path: Path) -> None:
    arguments = ("generate", tiny_bundle, "-m", masks, "-o", tmp_path / "out", *ORT)
    for extra, message in (
        (("--device", "cpu,gpu"), "no device 'gpu'"),
        (("--device", "cpu,cpu", "--shard=1/2"), "shard"),
        (("--device", "cpu,,cpu"), "--device is invalid (cpu,,cpu): give names"),
        (("--device", "cpu,cpu", "--keep", "lung"), "there is no class 'lung'"),
    ):
        done = subprocess.run([*COMMAND, *map(str, arguments), *extra], capture_output=True, text=True)
        assert done.returncode == 2
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert message in line


def test_several_devices_warn_as_one(tiny_bundle: Path, golden_mask: NDArray[np.uint8], tmp_path: Path) -> None:
    np.save(tmp_path / "masks.npy", np.stack([golden_mask, np.zeros_like(golden_mask)]))
    arguments = ("generate", tiny_bundle, "-m", tmp_path / "masks.npy", "-o", tmp_path / "out", *ORT)
    done = subprocess.run([*COMMAND, *map(str, arguments), "--device", "cpu,cpu"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("1 of 2 masks has no foreground") == 1


def test_an_animation_ends_in_the_image(
    tiny_bundle: Path, tiny_generator: seggd_rt.Generator, mask: Path, golden_mask: NDArray[np.uint8], tmp_path: Path
) -> None:
    arguments = ("-o", tmp_path / "i.png", "--gif", tmp_path / "new" / "i.gif", "--preview", "--every", "2", *ORT)
    done = run_command("generate", tiny_bundle, "-m", mask, *arguments)
    assert done.code == 0, done.err
    assert "--preview has no effect (it needs a terminal with 256 colors)" in done.err
    with Image.open(tmp_path / "new" / "i.gif") as animation:
        assert animation.n_frames == 3  # type: ignore[attr-defined] # after steps 2, 4 and 5
        animation.seek(2)
        last = np.asarray(animation.convert("L")).astype(int)
    assert np.abs(last - np.asarray(Image.open(tmp_path / "i.png"))).max() <= 2
    looks = list(tiny_generator.stream(golden_mask, every=2, steps=5))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "i.png")), np.rint(looks[-1].image * 255))


def test_an_image_that_is_there_makes_no_animation(tiny_bundle: Path, mask: Path, tmp_path: Path) -> None:
    arguments = ("generate", tiny_bundle, "-m", mask, "-o", tmp_path / "out", "--gif", tmp_path / "i.gif", *ORT)
    assert run_command(*arguments).code == 0
    (tmp_path / "i.gif").unlink()
    again = run_command(*arguments)
    assert again.code == 2
    assert "--force draws it again" in again.error_lines[-1]
    assert run_command(*arguments, "--force").code == 0
    assert (tmp_path / "i.gif").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--gif", "i.png"), "must end in .gif"),
        (("--gif", "i.gif", "--count", "2"), "show one image"),
        (("--preview", "--count", "2"), "show one image"),
        (("--preview", "--every", "0"), "every is 0"),
    ],
)
def test_what_cannot_be_looked_at(
    tiny_bundle: Path, mask: Path, tmp_path: Path, extra: tuple[str, ...], message: str
) -> None:
    done = run_command("generate", tiny_bundle, "-m", mask, "-o", f"{tmp_path}/out/", *extra, *ORT)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "out").exists()


def test_half_blocks_are_two_pixels_a_character() -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[0], picture[1] = (255, 0, 0), (0, 0, 255)
    text = half_blocks(picture, 64)
    assert text.plain == "▀▀▀▀▀▀\n" * 2
    assert str(text.spans[0].style) == "rgb(255,0,0) on rgb(0,0,255)"
    assert half_blocks(np.zeros((100, 200, 3), np.uint8), 64).plain == ("▀" * 64 + "\n") * 16
