"""The manifest's bytes, what it refuses, and what an opened bundle verifies."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from seggd_rt.bundle import MANIFEST, SCHEMA, Bundle, Manifest, file_ref
from seggd_rt.bundle.manifest import parse_manifest
from seggd_rt.diffusion import Precision
from seggd_rt.errors import BundleError, BundleVersionError, IntegrityError, ManifestError
from tests.bundles import TINY_CHECKED

SAMPLER = {
    "files": [{"path": "sampler.onnx", "sha256": "0" * 64, "size": 1}],
    "opset": 20,
    "sampler": "ddim",
    "steps": 5,
    "max_error": 0.0,
    "limit": 1e-5,
}


def edited(bundle: Path, change: dict[str, Any]) -> bytes:
    """Return a bundle's manifest with values set at dotted paths; ... removes the key."""
    manifest = json.loads((bundle / MANIFEST).read_bytes())
    for path, value in change.items():
        *parents, last = (int(part) if part.isdecimal() else part for part in path.split("."))
        place = manifest
        for parent in parents:
            place = place[parent]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return json.dumps(manifest).encode()


def sampler_in(path: str) -> dict[str, Any]:
    return {**SAMPLER, "files": [{"path": path, "sha256": "0" * 64, "size": 1}]}


def test_round_trip_is_the_same_bytes(tiny_bundle: Path) -> None:
    data = (tiny_bundle / MANIFEST).read_bytes()
    assert parse_manifest(data).to_json() == data
    assert json.loads(data)["schema"] == SCHEMA


def test_golden_run_and_graph(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    golden = bundle.golden
    assert golden.image.min() >= 0
    assert golden.image.max() <= 1
    assert set(golden.label_map.flat) == {c.id for c in bundle.manifest.classes}
    assert bundle.graph_file(bundle.graph(Precision.FP32)).suffix == ".onnx"


def test_hash_is_that_of_the_manifest(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.seggd"
    shutil.copytree(tiny_bundle, copy)
    assert Bundle.open(copy).sha256 == Bundle.open(tiny_bundle).sha256
    (copy / MANIFEST).write_bytes(edited(copy, {"name": "other"}))
    assert Bundle.open(copy).sha256 != Bundle.open(tiny_bundle).sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "colour"),
        ({"image.depth": 3}, "depth"),
        ({"graphs.0.parity.note": "x"}, "note"),
        ({"classes": ...}, "classes"),
        ({"classes.1.id": 2}, "in order"),
        ({"classes.1.color": [0, 0]}, "length"),
        ({"image.height": 0}, "image size"),
        ({"image.width": 1 << 40}, "image size"),
        ({"image.channels": 65}, "channels"),
        ({"mask.encoding": "two-hot"}, "two-hot"),
        ({"schedule.beta_end": 2.0}, "beta_end"),
        ({"check.steps": 0}, "steps"),
        ({"defaults.steps": 1001}, "steps"),
        ({"defaults.sampler": "euler"}, "euler"),
        ({"graphs": []}, "at least one"),
        ({"graphs.0.files": []}, "names no file"),
        ({"graphs.0.files.0.path": "../unet.onnx"}, "plain file name"),
        ({"graphs.0.files.0.path": "/etc/passwd"}, "plain file name"),
        ({"graphs.0.files.0.path": "a\\b"}, "plain file name"),
        ({"graphs.0.files.0.path": ".."}, "plain file name"),
        ({"graphs.0.files.0.path": "bundle.json"}, "differ"),
        ({"graphs.0.files.0.path": "bundle.sig"}, "differ"),
        ({"graphs.0.files.0.sha256": "0" * 63}, "64 lowercase"),
        ({"graphs.0.files.0.size": -1}, "negative"),
        ({"schema": "seggd-bundle/0"}, "schema"),
        ({"schema": "other/1"}, "schema"),
        ({"schema": 1}, "str"),
        ({"classes.1.name": " cavity"}, "spaces around"),
        ({"spacing_mm": [1.0, 0.0]}, "must be positive"),
        ({"intensity_range": [5, 5]}, "must be less"),
        ({"extensions": {"sampler": 1}}, r"extensions\.sampler: Expected `object`"),
        ({"extensions": {"sampler": {"steps": 5}}}, r"extensions\.sampler: Object missing required field"),
        ({"extensions": {"sampler": {**SAMPLER, "files": []}}}, r"extensions\.sampler: it names no file"),
        ({"extensions": {"sampler": {**SAMPLER, "note": "x"}}}, r"extensions\.sampler: .* `note`"),
        ({"extensions": {"sampler": sampler_in("../sampler.onnx")}}, "plain file name"),
        ({"extensions": {"sampler": sampler_in("unet.fp32.onnx")}}, "differ"),
    ],
)
def test_what_the_manifest_refuses(tiny_bundle: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        parse_manifest(edited(tiny_bundle, change))


REAL = {"data": "a.npz, val", "images": 9, "patients": None, "per_patient": 0.9, "per_image": 0.8, "per_image_low": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmenter.more": 1}, "more"),
        ({"segmenter.files": []}, "names no file"),
        ({"segmenter.files.0.path": "unet.fp32.onnx"}, "differ"),
        ({"segmenter.classes.1": "lake"}, "segmenter.classes are .* they must be the bundle's|intensities are of"),
        ({"classes.1.name": "lake"}, "segmenter.classes are .* they must be the bundle's"),
        ({"segmenter.intensities.0.low": 0.97}, "intensities of cavity are 0.97 to 0.963"),
        ({"segmenter.intensities.0.high": 1.5}, "intensities of cavity are 0.888 to 1.5"),
        ({"segmenter.intensities.0.name": "background"}, "another foreground class"),
        ({"segmenter.intensities.0.name": "myocardium"}, "another foreground class"),
        ({"segmenter.percentiles": [99, 1]}, r"percentiles are \(99.0, 1.0\)"),
        ({"segmenter.percentiles": ...}, "percentiles"),
        ({"segmenter.parity.images": ...}, "images"),
        ({"segmenter.real": {**REAL, "per_image": 80.0}}, r"per_image is 80.0; a Dice lies in \[0, 1\]"),
        ({"segmenter": {}}, r"\$.segmenter"),
    ],
)
def test_what_a_segmenter_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        parse_manifest(edited(TINY_CHECKED, change))


def test_a_segmenter_is_read(tiny_bundle: Path) -> None:
    manifest = parse_manifest(edited(TINY_CHECKED, {"segmenter.real": REAL}))
    assert manifest.segmenter is not None and manifest.segmenter.real is not None
    assert manifest.segmenter.real.images == 9
    data = (TINY_CHECKED / MANIFEST).read_bytes()
    assert parse_manifest(data).to_json() == data
    assert [ref.path for ref in parse_manifest(data).files][-1] == "segmenter.onnx"
    with pytest.raises(BundleError, match=r"tiny\.seggd has no segmenter .* --segmenter SEGMENTER.pt"):
        _ = Bundle.open(tiny_bundle).segmenter


def test_an_unknown_extension_is_left_alone(tiny_bundle: Path) -> None:
    manifest = parse_manifest(edited(tiny_bundle, {"extensions": {"unheard": {"of": [1]}}}))
    assert manifest.extensions == {"unheard": {"of": [1]}}
    assert manifest.sampler_graph is None


def test_a_manifest_has_a_limit_of_values(tiny_bundle: Path) -> None:
    few, many = ({"extensions": {"unheard": {"of": [{}] * count}}} for count in (60_000, 400_000))
    parse_manifest(edited(tiny_bundle, few))
    with pytest.raises(ManifestError, match="has more than 65,536 values"):
        parse_manifest(edited(tiny_bundle, many))


def test_a_newer_schema_asks_for_an_upgrade(tiny_bundle: Path) -> None:
    with pytest.raises(BundleVersionError, match="upgrade"):
        parse_manifest(edited(tiny_bundle, {"schema": "seggd-bundle/2", "unheard": "of"}))
    with pytest.raises(BundleVersionError, match="upgrade"):
        parse_manifest(edited(tiny_bundle, {"schema": "seggd-bundle/1" + "0" * 5000}))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(data)


def test_not_a_bundle(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError, match="is not a bundle"):
            Bundle.open(path)
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.open("x" * 300)


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy.seggd"))


def graph_path(bundle: Path) -> Path:
    return bundle / Bundle.open(bundle).manifest.graphs[0].files[0].path


def open_graph(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    opened.graph_file(opened.manifest.graphs[0])


def test_a_changed_byte_is_noticed(copy: Path) -> None:
    path = graph_path(copy)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="changed"):
        open_graph(copy)


def test_a_missing_file_is_noticed(copy: Path) -> None:
    graph_path(copy).unlink()
    with pytest.raises(IntegrityError, match="missing"):
        open_graph(copy)


def test_a_link_out_of_the_folder_is_refused(copy: Path, tmp_path: Path) -> None:
    path = graph_path(copy)
    path.rename(tmp_path / "outside.onnx")
    path.symlink_to(tmp_path / "outside.onnx")
    with pytest.raises(IntegrityError, match="leaves"):
        open_graph(copy)


@pytest.mark.parametrize("name", ["bundle.json", "check.safetensors"])
def test_every_file_of_a_bundle_lies_in_it(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).rename(tmp_path / "outside")
    (copy / name).symlink_to(tmp_path / "outside")
    with pytest.raises(IntegrityError, match=rf"{name} is a link that leaves the bundle's folder: copy"):
        Bundle.open(copy).check_file()
    with pytest.raises(IntegrityError, match=rf"{name} is a link"):
        Bundle.open(copy).check_sizes()


def test_a_link_within_the_folder_is_followed(copy: Path) -> None:
    path = graph_path(copy)
    path.rename(copy / "renamed.onnx")
    path.symlink_to("renamed.onnx")
    Bundle.open(copy).verify()


def test_a_graph_is_what_the_manifest_states_whatever_happens_to_the_folder(copy: Path, tmp_path: Path) -> None:
    """A folder that is exchanged while a bundle is open: its files are refused, and never another bundle's network."""
    opened = Bundle.open(copy)
    graph = opened.read_graph(opened.graph(Precision.FP32))
    copy.rename(tmp_path / "away.seggd")
    shutil.copytree(TINY_CHECKED, copy)
    with (copy / "unet.fp32.onnx").open("ab") as file:
        file.write(b"\x12\x00")
    with pytest.raises(IntegrityError, match="was changed"):
        opened.read_graph(opened.graph(Precision.FP32))
    assert graph.model == (tmp_path / "away.seggd" / graph.name).read_bytes()


def test_external_data_that_is_too_short(copy: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the export side is not installed")
    path = graph_path(copy)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights", size_threshold=0)
    data = (copy / "weights").read_bytes()
    for content, message in ((data, None), (data[:-1], "needs more external data than there is in weights")):
        (copy / "weights").write_bytes(content)
        files = [msgspec.to_builtins(file_ref(each)) for each in (path, copy / "weights")]
        (copy / MANIFEST).write_bytes(edited(copy, {"graphs.0.files": files}))
        opened = Bundle.open(copy)
        if message is None:
            assert opened.read_graph(opened.graph(Precision.FP32)).external == {"weights": data}
        else:
            with pytest.raises(IntegrityError, match=message):
                open_graph(copy)
    (copy / MANIFEST).write_bytes(edited(copy, {"graphs.0.files": files[:1]}))
    with pytest.raises(IntegrityError, match=r"names external data that the manifest does not list \(weights"):
        open_graph(copy)


def test_a_sampler_graph_is_verified_as_any_file(copy: Path) -> None:
    shutil.copy(graph_path(copy), copy / "sampler.onnx")
    ref = msgspec.to_builtins(file_ref(copy / "sampler.onnx"))
    (copy / MANIFEST).write_bytes(edited(copy, {"extensions": {"sampler": {**SAMPLER, "files": [ref]}}}))
    bundle = Bundle.open(copy)
    assert bundle.sampler_file() == copy / "sampler.onnx"
    bundle.verify()
    with (copy / "sampler.onnx").open("r+b") as file:
        file.write(b"x")
    for check in (lambda: Bundle.open(copy).sampler_file(), lambda: Bundle.open(copy).verify()):
        with pytest.raises(IntegrityError, match=r"sampler\.onnx was changed"):
            check()
    Bundle.open(copy).check_sizes()
    (copy / "sampler.onnx").unlink()
    with pytest.raises(IntegrityError, match=r"sampler\.onnx is missing"):
        Bundle.open(copy).check_sizes()


def test_a_segmenter_is_verified_as_any_file(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(TINY_CHECKED, tmp_path / "checked.seggd"))
    Bundle.open(copy).verify()
    with (copy / "segmenter.onnx").open("r+b") as file:
        file.write(b"x")
    for check in (lambda: Bundle.open(copy).read_segmenter(), lambda: Bundle.open(copy).verify()):
        with pytest.raises(IntegrityError, match=r"segmenter\.onnx was changed"):
            check()
    (copy / "segmenter.onnx").unlink()
    with pytest.raises(IntegrityError, match=r"segmenter\.onnx is missing"):
        Bundle.open(copy).check_sizes()


def test_a_linked_folder_is_a_bundle(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "link.seggd").symlink_to(copy)
    open_graph(tmp_path / "link.seggd")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("states", lambda states: np.where(states > 1, np.nan, states), "states is not finite"),
        ("image", lambda image: image + np.float32(np.inf), "image is not finite"),
        ("states", lambda states: states[0], r"states is float32 \(1, 24, 32\)"),
        ("noise", lambda noise: noise.astype(np.float64), "not hold the tensors of a golden run .*noise F64"),
        ("label_map", lambda label_map: label_map + np.uint8(1), "a label outside the classes"),
        ("image", None, "not hold the tensors of a golden run"),
    ],
)
def test_a_golden_run_that_is_none(
    copy: Path, name: str, change: Callable[[NDArray[Any]], NDArray[Any]] | None, message: str
) -> None:
    def changed(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        array = arrays.pop(name)
        return arrays if change is None else {**arrays, name: change(array)}

    reseal_golden(copy, changed)
    with pytest.raises(IntegrityError, match=message):
        _ = Bundle.open(copy).golden


EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header | {"extra": EMPTY}, "extra F32"),
        (lambda header: header | {"extra": EMPTY | {"dtype": "BF16"}}, "extra BF16"),
        (lambda header: header | {"extra": EMPTY | {"dtype": "F8_E4M3"}}, "extra F8_E4M3"),
        (lambda header: header | {"extra": EMPTY | {"shape": [0, 1 << 62]}}, "extra F32"),
        (lambda header: header | {"noise": header["noise"] | {"dtype": "I32"}}, "noise I32"),
    ],
)
def test_a_golden_run_has_its_tensors_alone(copy: Path, change: Callable[[Any], Any], message: str) -> None:
    reseal_golden_header(copy, lambda header: json.dumps(change(json.loads(header))).encode())
    with pytest.raises(IntegrityError, match=f"not hold the tensors of a golden run .*{message}"):
        Bundle.open(copy).check_file()


def test_a_golden_run_states_its_meaning_once(copy: Path) -> None:
    reseal_golden_header(
        copy, lambda header: header.replace(b'{"__metadata__":{', b'{"__metadata__":{"a":"b","a":"c",')
    )
    with pytest.raises(IntegrityError, match="'a' twice"):
        Bundle.open(copy).check_file()


def reseal_golden_header(bundle: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the header of `check.safetensors`, and the hash in the manifest with it."""
    path = bundle / "check.safetensors"
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = change(data[8:end].rstrip())
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[end:])
    (bundle / MANIFEST).write_bytes(edited(bundle, {"check.file": msgspec.to_builtins(file_ref(path))}))


def test_a_golden_run_without_states(copy: Path) -> None:
    reseal_golden(copy, lambda arrays: arrays | {k: arrays[k][:0] for k in ("states", "outputs", "timesteps")})
    with pytest.raises(IntegrityError, match="has no state"):
        _ = Bundle.open(copy).golden


@pytest.mark.parametrize(
    "change",
    [
        {"image.height": 16},
        {"classes.1.name": "myocardium", "classes.2.name": "cavity"},
        {"mask.trained_with_empty_mask": True},
        {"schedule.prediction": "v"},
        {"schedule.beta_end": 0.03},
        {"schedule.spacing": "trailing"},
        {"defaults.steps": 49},
        {"check.steps": 10},
        {"intensity_range": [0, 4095]},
    ],
)
def test_an_edited_meaning_is_noticed(copy: Path, change: dict[str, Any]) -> None:
    (copy / MANIFEST).write_bytes(edited(copy, change))
    for use in (Bundle.check_file, lambda bundle: bundle.golden):
        with pytest.raises(IntegrityError, match=r"bundle\.json was edited after export"):
            use(Bundle.open(copy))


def test_what_does_not_decide_an_image_may_be_edited(copy: Path) -> None:
    (copy / MANIFEST).write_bytes(edited(copy, {"name": "other", "modality": "MR", "provenance.licence": "none"}))
    assert Bundle.open(copy).check_file() == copy / "check.safetensors"


def with_meaning(bundle: Path, metadata: dict[str, str] | None) -> None:
    """Give the golden run other metadata, and the manifest the file's new hash."""
    path = bundle / "check.safetensors"
    save_file(load_file(path), path, metadata)
    ref = file_ref(path)
    resealed = {"path": ref.path, "sha256": ref.sha256, "size": ref.size}
    (bundle / MANIFEST).write_bytes(edited(bundle, {"check.file": resealed}))


def test_a_golden_run_that_does_not_state_the_meaning(copy: Path) -> None:
    with_meaning(copy, None)
    with pytest.raises(IntegrityError, match="export the bundle again"):
        Bundle.open(copy).check_file()


def test_values_of_the_meaning_are_compared_not_how_they_are_written(copy: Path) -> None:
    (key, stated), *_ = Bundle.open(copy).manifest.meaning.metadata().items()
    assert '"beta_end":0.02,' in stated
    written = json.dumps(json.loads(stated), indent=3, sort_keys=True).replace("0.02,", "2.0e-2,")
    with_meaning(copy, {key: written})
    assert Bundle.open(copy).check_file() == copy / "check.safetensors"


@pytest.mark.parametrize("stated", ["", "{", "[]", "null", "{}", "\x1b[31m", '{"image": 1, "image": 2}', "[" * 100_000])
def test_a_damaged_meaning_is_an_error(copy: Path, stated: str) -> None:
    (key, _), *_ = Bundle.open(copy).manifest.meaning.metadata().items()
    with_meaning(copy, {key: stated})
    with pytest.raises(IntegrityError, match=r"check\.safetensors has a damaged record of bundle\.json"):
        Bundle.open(copy).check_file()


def reseal_golden(bundle: Path, change: Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]) -> None:
    """Change the golden run, and the hash in the manifest with it."""
    path = bundle / "check.safetensors"
    arrays = {name: np.ascontiguousarray(array) for name, array in change(load_file(path)).items()}
    save_file(arrays, path, Bundle.open(bundle).manifest.meaning.metadata())
    ref = file_ref(path)
    resealed = {"path": ref.path, "sha256": ref.sha256, "size": ref.size}
    (bundle / MANIFEST).write_bytes(edited(bundle, {"check.file": resealed}))


def test_manifest_is_frozen(tiny_bundle: Path) -> None:
    manifest: Manifest = Bundle.open(tiny_bundle).manifest
    with pytest.raises(AttributeError):
        manifest.name = "other"
