"""Bundles to break: copies of the tiny ones with a manifest edited or a file changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from seggd_rt.bundle import MANIFEST, Bundle, file_ref
from tests.paths import GOLDEN

TINY = GOLDEN / "tiny.seggd"
"""1x24x32, three foreground classes one-hot, epsilon."""
TINY_RGB = GOLDEN / "tiny-rgb.seggd"
"""3x16x20, three foreground classes as label / 255, v."""
TINY_CHECKED = GOLDEN / "tiny-checked.seggd"
"""As tiny, with a segmenter that reaches a mean Dice of 0.78 to 0.82 on its images, by seed."""


def copy_bundle(bundle: Path, folder: Path) -> Path:
    """Copy a bundle into a folder and return the copy."""
    return Path(shutil.copytree(bundle, folder / bundle.name))


def edit_manifest(bundle: Path, change: dict[str, Any]) -> None:
    """Set values at dotted paths of bundle.json ("graphs.0.opset"); ... removes the key."""
    path = bundle / MANIFEST
    manifest = json.loads(path.read_bytes())
    for dotted, value in change.items():
        *parents, last = (int(part) if part.isdecimal() else part for part in dotted.split("."))
        place = manifest
        for parent in parents:
            place = place[parent]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    path.write_text(json.dumps(manifest))


def reseal_graph(bundle: Path) -> None:
    """State the graph file's present hash and size in the manifest, as a malicious bundle would."""
    ref = file_ref(bundle / "unet.fp32.onnx")
    edit_manifest(bundle, {"graphs.0.files.0": {"path": ref.path, "sha256": ref.sha256, "size": ref.size}})


def reseal_meaning(bundle: Path) -> None:
    """State the manifest's present meaning in the golden file, as an export of such a network would."""
    path = bundle / "check.safetensors"
    save_file(load_file(path), path, Bundle.open(bundle).manifest.meaning.metadata())
    ref = file_ref(path)
    edit_manifest(bundle, {"check.file": {"path": ref.path, "sha256": ref.sha256, "size": ref.size}})
