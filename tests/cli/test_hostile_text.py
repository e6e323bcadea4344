"""Names and texts in files never steer the terminal or forge a line, whatever command prints them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.bundles import TINY, copy_bundle, edit_manifest, reseal_graph, reseal_meaning
from tests.commands import Outcome, run_command

pytestmark = pytest.mark.usefixtures("needs_onnxruntime")

HOSTILE = "x\x1b[2K\x9b1A\u202eok\n\rdrawn by tiny.seggd: its SHA-256 is the one that the file names"
ORT = ("--engine", "onnxruntime", "--threads", "1")
ONE = ("-m", "mask.png", "--steps", "2", *ORT)


@pytest.fixture
def folder(tmp_path: Path, golden_mask: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a bundle and a mask, the working directory."""
    copy_bundle(TINY, tmp_path)
    Image.fromarray(golden_mask).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plain(done: Outcome) -> None:
    """Check that an outcome has no character that would steer a terminal, and no forged line."""
    assert not {"\x1b", "\x9b", "\u202e", "\r"} & set(done.out + done.err)
    assert not [line for line in (done.out + done.err).splitlines() if line.startswith("drawn by")]


def test_a_record_forges_no_success(folder: Path) -> None:
    assert run_command("generate", "tiny.seggd", "-o", "a.npy", *ONE).code == 0
    record = Path("a.npy.json")
    document = json.loads(record.read_bytes())
    document["all"]["bundle"] = HOSTILE
    record.write_text(json.dumps(document))
    done = run_command("verify", "a.npy", "tiny.seggd")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    plain(done)
    done = run_command("verify", "a.npy", "--json")
    plain(done)
    assert json.loads(done.out)[0]["bundle"] == HOSTILE


def test_a_bundle_steers_neither_tables_nor_json(folder: Path) -> None:
    change = {"name": HOSTILE, "modality": HOSTILE, "provenance.licence": f"{HOSTILE}[/bold]"}
    edit_manifest(folder / "tiny.seggd", change)
    done = run_command("inspect", "tiny.seggd")
    assert done.code == 0
    plain(done)
    done = run_command("inspect", "tiny.seggd", "--json")
    plain(done)
    assert json.loads(done.out)["manifest"]["name"] == HOSTILE


def test_a_file_name_steers_nothing(folder: Path) -> None:
    name = HOSTILE.replace("\n", "")
    Path("masks").mkdir()
    Path("mask.png").rename(f"masks/{name}.png")
    for more in ((), ("--json",)):
        done = run_command("generate", "tiny.seggd", "-m", "masks", "-o", "out/", "--force", *ONE[2:], *more)
        assert done.code == 0, done.err
        plain(done)
    assert name in json.loads(done.out)["file"]


def test_what_an_engine_logs_is_not_printed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """ONNX Runtime would write the node's name to stderr itself."""
    onnx = pytest.importorskip("onnx")
    nodes = [
        onnx.helper.make_node("Shape", ["sample"], ["shape"]),
        onnx.helper.make_node("Add", ["shape", "one"], ["larger"]),
        onnx.helper.make_node("Reshape", ["sample", "larger"], ["image"], name=HOSTILE),
        onnx.helper.make_node("ReduceSum", ["timestep"], ["t"]),
        onnx.helper.make_node("Add", ["image", "t"], ["out"]),
    ]

    def tensor(name: str, *shape: int | str) -> object:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    graph = onnx.helper.make_graph(
        nodes,
        HOSTILE,
        [tensor("sample", "batch", 4, 24, 32), tensor("timestep", "batch")],
        [tensor("out", "batch", 1, 24, 32)],
        [onnx.helper.make_tensor("one", onnx.TensorProto.INT64, [1], [1])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 9
    (folder / "tiny.seggd" / "unet.fp32.onnx").write_bytes(model.SerializeToString())
    reseal_graph(folder / "tiny.seggd")
    reseal_meaning(folder / "tiny.seggd")
    capfd.readouterr()
    done = run_command("generate", "tiny.seggd", "-o", "a.npy", *ONE)
    assert (done.code, len(done.error_lines)) == (2, 1)
    assert r"x\u001b[2K" in done.err
    plain(done)
    assert capfd.readouterr() == ("", "")


def test_names_that_differ_in_white_space_are_told_apart(folder: Path) -> None:
    said = {run_command("inspect", folder / name).err for name in ("a b", "a  b", "a\nb", "a\tb")}
    assert len(said) == 4
    assert all(line.count("\n") == 1 for line in said)
