"""No command writes over what it reads, into the bundle or a folder of inputs, or over another program's file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.bundles import TINY, copy_bundle
from tests.commands import files_below, run_command
from tests.paths import GOLDEN

MASK = GOLDEN / "mask.png"
FEW = "--engine onnxruntime --threads 1 --steps 2"
BENCH = f"bench b.seggd {FEW} --repeats 1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a bundle, masks, a key, and another program's files."""
    monkeypatch.chdir(tmp_path)
    copy_bundle(TINY, tmp_path).rename("b.seggd")
    (tmp_path / "b.seggd" / "sub").mkdir()
    (tmp_path / "masks").mkdir()
    for place in ("mask.png", "masks/a.png"):
        shutil.copy(MASK, place)
    os.link("mask.png", "second-name.png")
    (tmp_path / "link").symlink_to("b.seggd/sub")
    (tmp_path / "k.pub").write_bytes(b"a key")
    (tmp_path / "r.html").write_bytes(b"<p>a page of another program</p>")
    (tmp_path / "f.json").write_bytes(b'{"figures": [1, 2]}')
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (f"{BENCH} --json b.seggd/bundle.json", "lies in the bundle's folder (b.seggd)"),
        (f"{BENCH} --json b.seggd/sub/f.json --force", "lies in the bundle's folder (b.seggd)"),
        (f"{BENCH} --json k.pub --require-signature k.pub --force", "k.pub is an input"),
        ("card b.seggd -o b.seggd/c.html", "lies in the bundle's folder (b.seggd)"),
        ("card b.seggd -o link/c.html", "lies in the bundle's folder (b.seggd)"),
        ("card b.seggd --report r.html -o r.html --force", "r.html is an input"),
        (f"generate b.seggd -m mask.png -o b.seggd/sub/x.png {FEW}", "lies in the bundle's folder (b.seggd)"),
        (f"generate b.seggd -m mask.png -o x.png --gif b.seggd/x.gif {FEW}", "lies in the bundle's folder (b.seggd)"),
        (f"generate b.seggd -m mask.png -o second-name.png --force {FEW}", "second-name.png is an input"),
        (f"generate b.seggd -m masks -o masks/deep/er/ {FEW}", "lies among inputs (masks)"),
        (f"sweep b.seggd -m mask.png -o link/x.png {FEW}", "lies in the bundle's folder (b.seggd)"),
    ],
)
def test_an_output_lies_apart_from_all_that_is_read(arguments: str, said: str, folder: Path) -> None:
    before = files_below(folder)
    done = run_command(*arguments.split())
    assert done.code == 2
    (line,) = done.error_lines
    assert f"{said}: choose another output" in line
    assert files_below(folder) == before


@pytest.mark.parametrize(("arguments", "file"), [("card b.seggd -o", "r.html"), (f"{BENCH} --json", "f.json")])
@pytest.mark.usefixtures("needs_onnxruntime")
def test_another_programs_file_goes_by_force_alone_and_an_own_one_always(
    arguments: str, file: str, folder: Path
) -> None:
    if arguments.startswith("card"):
        pytest.importorskip("jinja2", reason="the extra `card` is not installed")
    before = files_below(folder)
    refused = run_command(*arguments.split(), file)
    assert refused.code == 2
    assert f"{file} exists and this command did not write it" in refused.err
    assert files_below(folder) == before
    assert run_command(*arguments.split(), file, "--force").code == 0
    assert (folder / file).read_bytes() != before[file]
    assert run_command(*arguments.split(), file).code == 0
