"""Signed bundles: keys, the file's bytes, what is refused, and that what runs is what was verified."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import pickle
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import seggd_rt
from seggd_engines.onnxruntime import OnnxRuntimeEngine
from seggd_rt.bundle import MANIFEST, Bundle, OnnxGraph, SigningKey, Standing
from seggd_rt.bundle.manifest import SIGNATURE
from seggd_rt.bundle.signing import PublicKey, parse_signature, read_signature
from seggd_rt.diffusion import Precision
from seggd_rt.engine import Network, NetworkShape, registry
from seggd_rt.errors import (
    BundleError,
    DataError,
    IntegrityError,
    MissingExtraError,
    OptionError,
    OutputError,
    SignatureError,
)
from tests.bundles import TINY, TINY_CHECKED, copy_bundle, edit_manifest, reseal_graph

pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'seggd-rt[sign]'")

# RFC 8410, section 10: the keys in the form that openssl writes.
PRIVATE_PEM = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
"""
PUBLIC_PEM = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""
PUBLIC_HEX = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the key pair `K.pem` and `K.pub`."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "K.pem").write_text(PRIVATE_PEM)
    (folder / "K.pub").write_text(PUBLIC_PEM)
    return folder


def signed(folder: Path, keys: Path) -> Path:
    bundle = copy_bundle(TINY, folder)
    Bundle.open(bundle).sign(SigningKey.read(keys / "K.pem"))
    return bundle


@pytest.fixture
def bundle(tmp_path: Path, keys: Path) -> Path:
    return signed(tmp_path, keys)


class Engine(OnnxRuntimeEngine):
    """ONNX Runtime that keeps which graphs it was to open, and does something before it opens one."""

    def __init__(self, before: Any = lambda graph: None) -> None:
        self.graphs: list[OnnxGraph] = []
        self._before = before

    def open(
        self, graph: OnnxGraph, shape: NetworkShape, *, device: str, precision: Precision, threads: int | None
    ) -> Network:
        self.graphs.append(graph)
        self._before(graph)
        return super().open(graph, shape, device=device, precision=precision, threads=threads)


def use(engine: Engine, patch: pytest.MonkeyPatch) -> Engine:
    patch.setattr(registry, "engines", lambda: (engine,))
    return engine


def test_the_file_of_a_signature(keys: Path) -> None:
    signature = SigningKey.read(keys / "K.pem").sign(b"{}\n")
    assert json.loads(signature.to_json()) == {
        "schema": "seggd-signature/1",
        "public_key": PUBLIC_HEX,
        "signature": "acc27c014f8b8668199f23f4cd632ccbbf6720f9036f13fca90049cf6bbf5159"
        "f2e2ad91f21ef3c02d2c322b32720551a2c1d61083977f03fd182bb7b60de80f",
    }
    assert (
        signature.fingerprint
        == PublicKey.read(keys / "K.pub").fingerprint
        == SigningKey.read(keys / "K.pem").fingerprint
    )
    assert signature.holds(b"{}\n")
    assert not signature.holds(b"{}")


def test_a_signature_of_something_else_is_none(bundle: Path, keys: Path) -> None:
    """The manifest alone, without the domain, as another program might have been made to sign it."""
    key = SigningKey.read(keys / "K.pem")
    plain = key._key.sign((bundle / MANIFEST).read_bytes()).hex()
    stated = json.loads((bundle / SIGNATURE).read_bytes())
    (bundle / SIGNATURE).write_text(json.dumps({**stated, "signature": plain}, indent=2) + "\n")
    with pytest.raises(SignatureError, match="does not hold"):
        Bundle.open(bundle, require_signature=keys / "K.pub")


# The y of the eight points whose order divides 8, with either sign of x; and numbers that are not below p.
P = 2**255 - 19
Y_OF_ORDER_8 = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
SMALL = {y + sign for y in (0, 1, P - 1, Y_OF_ORDER_8, P - Y_OF_ORDER_8) for sign in (0, 1 << 255)}
NOT_CANONICAL = {y + sign for y in (P, P + 1, P + 3, P + 18) for sign in (0, 1 << 255)}


@pytest.mark.parametrize("number", sorted(SMALL | NOT_CANONICAL))
def test_keys_that_prove_nothing_are_refused(tmp_path: Path, number: int) -> None:
    raw = number.to_bytes(32, "little")
    der = bytes.fromhex("302a300506032b6570032100") + raw
    pem = f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(der).decode()}\n-----END PUBLIC KEY-----\n"
    (tmp_path / "K.pub").write_text(pem)
    said = "is of small order" if number in SMALL else "is not in the one form"
    with pytest.raises(DataError, match=rf"^the public key .*K\.pub {said}.*\({raw.hex()}\): make a key pair"):
        PublicKey.read(tmp_path / "K.pub")
    # The neutral element and 0: for a key of order 1, OpenSSL finds that this holds for every message.
    forged = {"schema": "seggd-signature/1", "public_key": raw.hex(), "signature": "01" + "00" * 63}
    with pytest.raises(SignatureError, match=f"public_key {said}"):
        parse_signature((json.dumps(forged, indent=2) + "\n").encode())


def test_a_new_pair(tmp_path: Path) -> None:
    made, public = SigningKey.create(tmp_path / "N.pem")
    assert public == tmp_path / "N.pub"
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "N.pem").stat().st_mode) == 0o600
    assert (tmp_path / "N.pem").read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert SigningKey.read(tmp_path / "N.pem").fingerprint == PublicKey.read(public).fingerprint == made.fingerprint
    assert SigningKey.create(tmp_path / "M.pem")[0].fingerprint != made.fingerprint


def test_a_key_replaces_no_file(tmp_path: Path) -> None:
    (tmp_path / "A.pem").write_text("mine")
    with pytest.raises(OutputError, match=r"A\.pem is there already"):
        SigningKey.create(tmp_path / "A.pem")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A.pem"]
    (tmp_path / "B.pub").write_text("mine")
    with pytest.raises(OutputError, match=r"B\.pub is there already"):
        SigningKey.create(tmp_path / "B.pem")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A.pem", "B.pub"]
    assert (tmp_path / "A.pem").read_text() == (tmp_path / "B.pub").read_text() == "mine"
    with pytest.raises(OptionError, match="name the private one otherwise"):
        SigningKey.create(tmp_path / "C.pub")
    with pytest.raises(OutputError, match="cannot be written"):
        SigningKey.create(tmp_path / "none" / "D.pem")


def test_an_encrypted_key(tmp_path: Path) -> None:
    made, _ = SigningKey.create(tmp_path / "E.pem", "secret")
    assert b"ENCRYPTED" in (tmp_path / "E.pem").read_bytes()
    assert SigningKey.read(tmp_path / "E.pem", lambda: "secret").fingerprint == made.fingerprint
    with pytest.raises(DataError, match="cannot be decrypted"):
        SigningKey.read(tmp_path / "E.pem", lambda: "other")
    with pytest.raises(DataError, match="is encrypted"):
        SigningKey.read(tmp_path / "E.pem")


@pytest.mark.parametrize("passphrase", ["", "x" * 1024, "\udcff"])
def test_a_passphrase_that_cannot_be_used(tmp_path: Path, passphrase: str) -> None:
    SigningKey.create(tmp_path / "E.pem", "x" * 1023)
    with pytest.raises(OptionError, match=r"the passphrase .*: give one of"):
        SigningKey.read(tmp_path / "E.pem", lambda: passphrase)
    with pytest.raises(OptionError, match=r"the passphrase .*: give one of"):
        SigningKey.create(tmp_path / "F.pem", passphrase)
    assert not (tmp_path / "F.pem").exists()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_keys_of_openssl(tmp_path: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    openssl("genpkey", "-algorithm", "ed25519", "-out", "O.pem")
    openssl("pkey", "-in", "O.pem", "-pubout", "-out", "O.pub")
    openssl("pkey", "-in", "O.pem", "-aes256", "-passout", "pass:secret", "-out", "E.pem")
    public = PublicKey.read(tmp_path / "O.pub").fingerprint
    assert SigningKey.read(tmp_path / "O.pem").fingerprint == public
    assert SigningKey.read(tmp_path / "E.pem", lambda: "secret").fingerprint == public


def test_what_is_no_key(tmp_path: Path, keys: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    other = Ed448PrivateKey.generate()
    files = {
        "noise.pem": b"\x00\xff" * 20,
        "long.pem": b"a" * (1 << 20),
        "other.pem": other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "other.pub": other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    }
    # Another curve by one letter, X448, whose keys have other lengths.
    files["curve.pem"] = (keys / "K.pem").read_bytes().replace(b"K2VwBCIE", b"K2VvBCIE")
    files["curve.pub"] = (keys / "K.pub").read_bytes().replace(b"K2VwAyEA", b"K2VvAyEA")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert files["curve.pem"] != (keys / "K.pem").read_bytes()
    assert files["curve.pub"] != (keys / "K.pub").read_bytes()
    with pytest.raises(DataError, match="is no private key"):
        SigningKey.read(tmp_path / "curve.pem")
    with pytest.raises(DataError, match="is no public key"):
        PublicKey.read(tmp_path / "curve.pub")
    for name, message in (
        ("noise.pem", "is no p"),
        ("long.pem", "over 64 KiB"),
        ("none.pem", "cannot be read"),
    ):
        for read in (SigningKey.read, PublicKey.read):
            with pytest.raises(DataError, match=message):
                read(tmp_path / name)
    with pytest.raises(DataError, match="another kind than Ed25519"):
        SigningKey.read(tmp_path / "other.pem")
    with pytest.raises(DataError, match="another kind than Ed25519"):
        PublicKey.read(tmp_path / "other.pub")
    with pytest.raises(DataError, match="is a private key"):
        PublicKey.read(keys / "K.pem")


def test_a_signed_bundle_is_opened(bundle: Path, keys: Path) -> None:
    opened = Bundle.open(bundle, require_signature=keys / "K.pub")
    assert opened.signer == PublicKey.read(keys / "K.pub").fingerprint
    opened.verify()
    # The signature is outside the bundle's hash, and of no matter to who requires none.
    assert opened.sha256 == Bundle.open(TINY).sha256
    plain = Bundle.open(bundle)
    plain.verify()
    plain.check_sizes()
    assert plain.signer is None


def test_what_is_not_signed_by_this_key_is_refused(tmp_path: Path, bundle: Path, keys: Path) -> None:
    with pytest.raises(SignatureError, match="has no signature"):
        Bundle.open(TINY, require_signature=keys / "K.pub")
    _, other = SigningKey.create(tmp_path / "other.pem")
    with pytest.raises(SignatureError, match=r"signed by another key, SHA-256 .*, than the one required"):
        Bundle.open(bundle, require_signature=other)


def test_who_states_the_right_key_must_have_it(tmp_path: Path, bundle: Path, keys: Path) -> None:
    forger, _ = SigningKey.create(tmp_path / "forger.pem")
    forged = json.loads(forger.sign((bundle / MANIFEST).read_bytes()).to_json())
    (bundle / SIGNATURE).write_text(json.dumps({**forged, "public_key": PUBLIC_HEX}, indent=2) + "\n")
    with pytest.raises(SignatureError, match="does not hold"):
        Bundle.open(bundle, require_signature=keys / "K.pub")


def test_an_edited_manifest_is_refused_before_it_is_read(bundle: Path, keys: Path) -> None:
    edit_manifest(bundle, {"provenance.licence": "none"})
    Bundle.open(bundle)
    with pytest.raises(SignatureError, match="does not hold"):
        Bundle.open(bundle, require_signature=keys / "K.pub")
    (bundle / MANIFEST).write_bytes(b"{")
    with pytest.raises(SignatureError, match="does not hold"):
        Bundle.open(bundle, require_signature=keys / "K.pub")


@pytest.mark.usefixtures("needs_onnxruntime")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(data=st.data())
def test_any_flipped_byte_is_refused_before_a_graph_is_opened(bundle: Path, keys: Path, data: st.DataObject) -> None:
    files = sorted(path.name for path in bundle.iterdir())
    assert files == ["bundle.json", "bundle.sig", "check.safetensors", "unet.fp32.onnx"]
    path = bundle / data.draw(st.sampled_from(files))
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = bytearray(content)
    flipped[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(flipped)
    try:
        with pytest.MonkeyPatch.context() as patch:
            engine = use(Engine(), patch)
            with pytest.raises(BundleError):
                seggd_rt.load(bundle, engine="onnxruntime", require_signature=keys / "K.pub")
            with pytest.raises(BundleError):
                Bundle.open(bundle, require_signature=keys / "K.pub").verify()
            assert engine.graphs == []
    finally:
        path.write_bytes(content)


def test_every_byte_of_a_signature_counts(bundle: Path, keys: Path) -> None:
    """Also those that JSON makes nothing of: a space for a line's end, an upper-case digit."""
    key = PublicKey.read(keys / "K.pub")
    content, manifest = (bundle / SIGNATURE).read_bytes(), (bundle / MANIFEST).read_bytes()
    key.require(parse_signature(content), manifest, bundle)
    for place in range(len(content)):
        for change in (*(1 << bit for bit in range(8)), ord(" ") ^ ord("\n"), ord(" ") ^ ord("\t")):
            flipped = bytearray(content)
            flipped[place] ^= change
            with pytest.raises(SignatureError):
                key.require(parse_signature(bytes(flipped)), manifest, bundle)


@pytest.mark.usefixtures("needs_onnxruntime")
def test_a_resealed_graph_passes_only_where_no_signature_is_required(
    bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attacker who changes the graph also states its new hash: hashes alone do not notice."""
    with (bundle / "unet.fp32.onnx").open("ab") as file:
        file.write(b"\x32\x00")  # ModelProto.doc_string, empty
    reseal_graph(bundle)
    engine = use(Engine(), monkeypatch)
    seggd_rt.load(bundle, engine="onnxruntime").close()
    assert len(engine.graphs) == 1
    with pytest.raises(SignatureError):
        seggd_rt.load(bundle, engine="onnxruntime", require_signature=keys / "K.pub")
    assert len(engine.graphs) == 1


@pytest.mark.parametrize("tail", [b"\0", b"\0" * (3 << 20)])
def test_a_longer_file_is_refused(bundle: Path, keys: Path, tail: bytes) -> None:
    with (bundle / "check.safetensors").open("ab") as file:
        file.write(tail)
    with pytest.raises(IntegrityError, match="was changed"):
        Bundle.open(bundle, require_signature=keys / "K.pub").check_file()


@pytest.mark.usefixtures("needs_onnxruntime")
def test_what_runs_is_what_was_verified(bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are exchanged between their hashing and the engine's opening them: it opens what was hashed, in memory."""

    def exchange(_: OnnxGraph) -> None:
        for path in bundle.iterdir():
            path.write_bytes(b"exchanged")

    engine = use(Engine(exchange), monkeypatch)
    with seggd_rt.load(bundle, engine="onnxruntime", require_signature=keys / "K.pub") as generator:
        (graph,) = engine.graphs
        assert generator(generator.bundle.golden.label_map, steps=2).shape == (24, 32)
    assert graph.model == (TINY / "unet.fp32.onnx").read_bytes()
    assert graph.origin == bundle.name  # plans are named after it


def test_the_segmenter_is_verified_too(tmp_path: Path, keys: Path) -> None:
    bundle = copy_bundle(TINY_CHECKED, tmp_path)
    Bundle.open(bundle).sign(SigningKey.read(keys / "K.pem"))
    opened = Bundle.open(bundle, require_signature=keys / "K.pub")
    path = bundle / opened.segmenter.files[0].path
    assert opened.read_segmenter().model == path.read_bytes()
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(IntegrityError, match="was changed"):
        Bundle.open(bundle, require_signature=keys / "K.pub").read_segmenter()


def test_another_process_verifies_for_itself(bundle: Path, keys: Path) -> None:
    opened = Bundle.open(bundle, require_signature=keys / "K.pub")
    opened.check_file()
    other = pickle.loads(pickle.dumps(opened))  # noqa: S301 - as a worker process gets it
    (bundle / "check.safetensors").write_bytes(b"exchanged")
    with pytest.raises(IntegrityError, match="was changed"):
        other.check_file()


def test_only_a_whole_bundle_is_signed(bundle: Path, keys: Path) -> None:
    (bundle / SIGNATURE).unlink()
    (bundle / "unet.fp32.onnx").write_bytes(b"")
    with pytest.raises(IntegrityError):
        Bundle.open(bundle).sign(SigningKey.read(keys / "K.pem"))
    assert not (bundle / SIGNATURE).exists()


def test_a_signature_replaces_no_other(bundle: Path, keys: Path, tmp_path: Path) -> None:
    before = (bundle / SIGNATURE).read_bytes()
    other, _ = SigningKey.create(tmp_path / "other.pem")
    with pytest.raises(OutputError, match="already holds another signature: replace it with --force"):
        Bundle.open(bundle).sign(other)
    Bundle.open(bundle).sign(SigningKey.read(keys / "K.pem"))  # the same again
    assert (bundle / SIGNATURE).read_bytes() == before
    assert Bundle.open(bundle).sign(other, force=True).read_bytes() != before


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b"[" * 5000, b"a" * (1 << 20), b'{"schema": "seggd-signature/2"}']
)
def test_a_damaged_signature_is_said(bundle: Path, keys: Path, content: bytes) -> None:
    (bundle / SIGNATURE).write_bytes(content)
    for look in (
        lambda: Bundle.open(bundle, require_signature=keys / "K.pub"),
        lambda: Bundle.open(bundle).signature_state,
    ):
        with pytest.raises(SignatureError, match=r"is no signature|cannot be read"):
            look()


def test_a_signature_lies_in_the_bundle(bundle: Path, keys: Path, tmp_path: Path) -> None:
    (bundle / SIGNATURE).rename(tmp_path / "outside.sig")
    (bundle / SIGNATURE).symlink_to(tmp_path / "outside.sig")
    for look in (
        lambda: Bundle.open(bundle, require_signature=keys / "K.pub"),
        lambda: Bundle.open(bundle).signature_state,
    ):
        with pytest.raises(SignatureError, match=r"bundle\.sig is a link that leaves the bundle's folder: copy"):
            look()


def test_how_a_signature_stands(bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = PublicKey.read(keys / "K.pub").fingerprint
    assert Bundle.open(TINY).signature_state.standing is Standing.NONE
    state = Bundle.open(bundle).signature_state
    assert (state.standing, state.key_sha256, state.required) == (Standing.HOLDS, key, False)
    required = Bundle.open(bundle, require_signature=keys / "K.pub").signature_state
    assert (required.standing, required.required) == (Standing.HOLDS, True)
    with monkeypatch.context() as patch:
        hide_cryptography(patch)
        unchecked = Bundle.open(bundle).signature_state
        assert (unchecked.standing, unchecked.key_sha256) == (Standing.UNCHECKED, key)
    edit_manifest(bundle, {"name": "other"})
    assert Bundle.open(bundle).signature_state.standing is Standing.BROKEN
    assert len({str(s) for s in (state, required, unchecked, Bundle.open(bundle).signature_state)}) == 4


def test_without_cryptography_nothing_passes(bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_cryptography(monkeypatch)
    with pytest.raises(MissingExtraError, match=r"seggd-rt\[sign\]"):
        Bundle.open(bundle, require_signature=keys / "K.pub")
    Bundle.open(bundle).verify()
    assert read_signature(bundle) is not None


def hide_cryptography(patch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name == "cryptography" else find(name, package)

    patch.setattr(importlib.util, "find_spec", find_spec)
