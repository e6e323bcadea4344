"""`seggd-rt sign`, and `--require-signature` of every command that opens a bundle to draw or to measure."""

from __future__ import annotations

import getpass
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from seggd_engines.tensorrt import Flavour
from seggd_rt.bench.cold_start import ColdRequest, cold_start
from seggd_rt.bundle.signing import PublicKey
from seggd_rt.errors import EngineError
from tests.bundles import TINY, copy_bundle
from tests.commands import files_below, run_command, start_command

pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'seggd-rt[sign]'")

ORT = ("--engine", "onnxruntime", "--precision", "fp32", "--threads", "1")


@pytest.fixture
def folder(tmp_path: Path, golden_mask: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: `tiny.seggd`, signed, `unsigned.seggd`, `K.pem`, `K.pub` and masks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEGGD_KEY_PASSPHRASE", raising=False)
    copy_bundle(TINY, tmp_path).rename("unsigned.seggd")
    copy_bundle(TINY, tmp_path)
    np.save("mask.npy", golden_mask)
    np.save("real.npy", golden_mask / 255)
    np.save("region.npy", np.ones((24, 32), bool))
    assert run_command("sign", "--new-key", "K.pem").code == 0
    assert run_command("sign", "tiny.seggd", "--key", "K.pem").code == 0
    return tmp_path


def test_a_key_and_a_signature(folder: Path) -> None:
    made = run_command("sign", "--new-key", "N.pem")
    assert (made.code, made.out) == (0, "N.pem\nN.pub\n")
    key = PublicKey.read(Path("N.pub")).fingerprint
    assert key in made.err
    done = run_command("sign", "unsigned.seggd", "--key", "N.pem")
    assert (done.code, done.out.strip()) == (0, str(Path("unsigned.seggd", "bundle.sig")))
    assert key in done.err
    assert run_command("inspect", "unsigned.seggd", "--require-signature", "N.pub").code == 0
    again = run_command("sign", "unsigned.seggd", "--key", "K.pem")
    assert (again.code, "--force" in again.err) == (2, True)
    assert run_command("sign", "unsigned.seggd", "--key", "K.pem", "--force").code == 0


def test_no_signature_goes_through_a_link(folder: Path) -> None:
    Path("victim").write_text("safe")
    Path("unsigned.seggd", "bundle.sig").symlink_to(folder / "victim")
    done = run_command("sign", "unsigned.seggd", "--key", "K.pem", "--force")
    assert (done.code, "bundle.sig cannot be written (it is a link)" in done.err) == (2, True)
    assert Path("victim").read_text() == "safe"


def test_what_is_signed_is_as_the_bundle_was(folder: Path) -> None:
    before, after = files_below(folder / "unsigned.seggd"), files_below(folder / "tiny.seggd")
    assert set(after) - set(before) == {"bundle.sig"}
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "give BUNDLE and --key"),
        ("tiny.seggd", "give BUNDLE and --key"),
        ("--key K.pem", "give BUNDLE and --key"),
        ("tiny.seggd --new-key X.pem", "signs nothing"),
        ("--key K.pem --new-key X.pem", "signs nothing"),
        ("--new-key K.pem", "K.pem is there already"),
        ("tiny.seggd --key K.pub", "K.pub is no private key"),
        ("tiny.seggd --key none.pem", "none.pem cannot be read"),
        ("none.seggd --key K.pem", "is not a bundle"),
    ],
)
def test_bad_options_are_one_line(folder: Path, arguments: str, message: str) -> None:
    before = files_below(folder)
    done = run_command("sign", *arguments.split())
    assert done.code == 2
    assert message in done.error_lines[-1]
    assert len(done.error_lines) == 1
    assert files_below(folder) == before


def test_a_passphrase_by_the_environment_or_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGGD_KEY_PASSPHRASE", "secret")
    assert run_command("sign", "--new-key", "E.pem").code == 0
    assert "ENCRYPTED" in Path("E.pem").read_text()
    arguments = ("sign", "unsigned.seggd", "--key", "E.pem")
    monkeypatch.setenv("SEGGD_KEY_PASSPHRASE", "other")
    assert "cannot be decrypted" in run_command(*arguments).err
    monkeypatch.delenv("SEGGD_KEY_PASSPHRASE")
    assert "set SEGGD_KEY_PASSPHRASE" in run_command(*arguments).err
    assert not Path("unsigned.seggd", "bundle.sig").exists()
    asked: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: asked.append(prompt) or "secret")
    assert run_command(*arguments).code == 0
    assert asked == ["Passphrase of E.pem: "]


DRAW = "-m mask.npy --steps 2"
COMMANDS = {
    "generate": f"{DRAW} -o out.npy",
    "interpolate": f"{DRAW} --real real.npy -o out.npy",
    "sweep": f"{DRAW} -o out.npy",
    "inpaint": f"{DRAW} --real real.npy --region region.npy -o out.npy",
    "bench": "--steps 1 --repeats 1 --json out.json",
}


@pytest.mark.usefixtures("needs_onnxruntime")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signed_bundle_is_used_and_another_is_not(folder: Path, command: str) -> None:
    arguments = (*COMMANDS[command].split(), *ORT, "--require-signature", "K.pub")
    refused = run_command(command, "unsigned.seggd", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert refused.error_lines[-1].startswith("error: unsigned.seggd has no signature")
    assert list(folder.glob("*out*")) == []
    done = run_command(command, "tiny.seggd", *arguments)
    assert done.code == 0, done.err
    assert len(list(folder.glob("out*"))) >= 1


def test_inspect_hashes_what_must_be_signed(folder: Path) -> None:
    refused = run_command("inspect", "unsigned.seggd", "--require-signature", "K.pub")
    assert (refused.code, "has no signature" in refused.err) == (2, True)
    key = PublicKey.read(Path("K.pub")).fingerprint
    stated = {
        name: json.loads(run_command("inspect", *name.split(), "--json").out)["signature"]
        for name in ("unsigned.seggd", "tiny.seggd", "tiny.seggd --require-signature K.pub")
    }
    assert list(stated.values()) == [
        {"standing": "none", "key_sha256": None, "required": False},
        {"standing": "holds", "key_sha256": key, "required": False},
        {"standing": "holds", "key_sha256": key, "required": True},
    ]
    shown = run_command("inspect", "tiny.seggd").out
    assert "Signature" in shown and "nobody required" in " ".join(shown.replace("│", " ").split())
    graph = Path("tiny.seggd", "unet.fp32.onnx")
    graph.write_bytes(graph.read_bytes()[::-1])
    assert run_command("inspect", "tiny.seggd").code == 0
    assert "was changed" in run_command("inspect", "tiny.seggd", "--require-signature", "K.pub").err


def test_build_refuses_it(folder: Path) -> None:
    if not Flavour.TENSORRT_RTX.installed:
        pytest.skip("tensorrt-rtx is not installed: pip install 'seggd-rt[tensorrt-rtx]'")
    arguments = ("--engine", "tensorrt-rtx", "--precision", "fp32", "--require-signature", "K.pub", "-o", "plans")
    done = run_command("build", "unsigned.seggd", *arguments)
    assert (done.code, done.out) == (2, "")
    assert "has no signature" in done.err
    assert not Path("plans").exists()


def test_evaluate_refuses_it(folder: Path) -> None:
    for module in ("torch", "monai", "scipy", "matplotlib"):
        pytest.importorskip(module, reason="needs the extra `eval`")
    arguments = ("--data", "none.npz", "-o", "out", "--require-signature", "K.pub")
    assert "unsigned.seggd has no signature" in run_command("evaluate", "unsigned.seggd", *arguments).err
    assert "none.npz" in run_command("evaluate", "tiny.seggd", *arguments).err
    assert not Path("out").exists()


@pytest.mark.usefixtures("needs_onnxruntime")
def test_processes_of_several_devices_require_it_too(folder: Path) -> None:
    arguments = ("-m", "mask.npy", "--steps", "1", "--count", "2", "-o", "out", "--device", "cpu,cpu", *ORT)
    for bundle, code, images in (("unsigned.seggd", 2, 0), ("tiny.seggd", 0, 2)):
        process = start_command("generate", bundle, *arguments, "--require-signature", "K.pub")
        _, err = process.communicate()
        assert process.returncode == code, err
        assert err.count("has no signature") == (1 if code else 0)
        assert len(list(folder.glob("out/*.png"))) == images


@pytest.mark.usefixtures("needs_onnxruntime")
def test_a_cold_start_requires_it_too(folder: Path) -> None:
    def request(bundle: str) -> ColdRequest:
        return ColdRequest(
            bundle=bundle,
            engine="onnxruntime",
            precision="fp32",
            threads=1,
            steps=1,
            batch=1,
            require_signature="K.pub",
        )

    with pytest.raises(EngineError, match="has no signature"):
        cold_start(request("unsigned.seggd"))
    assert cold_start(request("tiny.seggd")).total_ms > 0


def test_a_key_needs_a_name() -> None:
    for name in ("/", ".", ""):
        done = run_command("sign", "--new-key", name)
        assert (done.code, len(done.error_lines)) == (2, 1)
