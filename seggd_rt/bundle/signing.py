"""Signatures: `bundle.sig` beside `bundle.json`, Ed25519 over the manifest's exact bytes, which hash every other file.

What is signed begins with a domain of its own, so that a signature of anything else is never one of a bundle. The file
also states its public key. That tells whose signature it is, and makes it worth nothing yet: only a key that the caller
has from elsewhere does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import msgspec

from seggd_rt.bundle.manifest import SIGNATURE
from seggd_rt.errors import DataError, OptionError, SignatureError
from seggd_rt.files import check_name, decode, read_file, write_new_file
from seggd_rt.optional import require

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Schema = Literal["seggd-signature/1"]
SCHEMA: Schema = "seggd-signature/1"
_DOMAIN = b"seggd-rt: signature of a bundle's manifest, version 1\0"
_MAX_BYTES = 64 << 10
"""Of a signature's or a key's file: both have some hundred."""
_MAX_PASSPHRASE = 1023
"""Bytes: cryptography takes no more."""
_PRIVATE = 0o600
_ED25519 = "cryptography.hazmat.primitives.asymmetric.ed25519"

Passphrase = Callable[[], str]
"""Asks for the passphrase of a private key."""


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `bundle.sig` states.

    Attributes
    ----------
    public_key
        32 bytes in hexadecimal digits: whose signature it says it is.
    signature
        64 bytes in hexadecimal digits.
    """

    schema: Schema
    public_key: str
    signature: str

    def __post_init__(self) -> None:
        """Check that both are as long as they must be."""
        for name, length in (("public_key", 64), ("signature", 128)):
            if not re.fullmatch(f"[0-9a-f]{{{length}}}", getattr(self, name)):
                raise ValueError(f"{name} must be {length} lowercase hexadecimal digits")
        _check_key(bytes.fromhex(self.public_key), "public_key")

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the public key's 32 bytes, by which people tell keys apart."""
        return hashlib.sha256(bytes.fromhex(self.public_key)).hexdigest()

    def holds(self, manifest: bytes) -> bool:
        """Say whether it is its key's signature of these bytes of `bundle.json`.

        Raises
        ------
        MissingExtraError
            The package `cryptography` is not installed.
        """
        cryptography = _require(_ED25519)
        key = cryptography.Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.public_key))
        try:
            key.verify(bytes.fromhex(self.signature), _DOMAIN + manifest)
        except _require("cryptography.exceptions").InvalidSignature:
            return False
        return True

    def to_json(self) -> bytes:
        """Return `bundle.sig`'s bytes: the same for the same signature."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def read_signature(folder: Path) -> Signature | None:
    """Return the signature in a bundle's folder; None where there is none.

    Raises
    ------
    SignatureError
        It cannot be read, or is none.
    """
    path = folder / SIGNATURE
    try:
        if path.resolve().parent != folder.resolve():
            raise SignatureError(
                f"{path} is a link that leaves the bundle's folder: copy the bundle with the files that its links "
                "lead to"
            )
        return parse_signature(read_file(path, _MAX_BYTES), str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SignatureError(f"{path} cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise SignatureError(f"{path} is no signature ({error}): {_AGAIN}") from error


def parse_signature(data: bytes, where: str = SIGNATURE) -> Signature:
    """Read a signature that `to_json` wrote; `where` names it in errors.

    Raises
    ------
    SignatureError
        It is none, or not in the one form that a signature has: so no byte of the file goes unchecked.
    """
    try:
        found = decode(data, Signature)
    except msgspec.DecodeError as error:
        raise SignatureError(f"{where} is no signature ({error}): {_AGAIN}") from error
    if found.to_json() != data:
        raise SignatureError(f"{where} is not as it was written: {_AGAIN}")
    return found


@dataclass(frozen=True)
class PublicKey:
    """A key that the caller trusts, and the file it is from."""

    path: Path
    raw: bytes

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """Read an Ed25519 public key, PEM.

        Raises
        ------
        DataError
            The file cannot be read, or holds another kind of key, or one that proves nothing.
        MissingExtraError
            The package `cryptography` is not installed.
        """
        data = _read_key(path)
        if b"PRIVATE KEY" in data:
            raise DataError(f"{path} is a private key, which stays with who signs: give the public one, .pub")
        serialization, refusals = _require(f"{_PRIMITIVES}.serialization"), _refusals()
        try:
            key = serialization.load_pem_public_key(data)
        except refusals as error:
            raise DataError(f"{path} is no public key in PEM: {_ADVICE}") from error
        if not isinstance(key, _require(_ED25519).Ed25519PublicKey):
            raise DataError(f"{path} is a public key of another kind than Ed25519: {_ADVICE}")
        raw = key.public_bytes_raw()
        try:
            _check_key(raw, f"the public key {path}")
        except ValueError as error:
            raise DataError(f"{error}: {_ADVICE}") from error
        return cls(path, raw)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the key's 32 bytes."""
        return hashlib.sha256(self.raw).hexdigest()

    def require(self, signature: Signature | None, manifest: bytes, folder: Path) -> None:
        """Refuse a bundle that this key did not sign.

        Parameters
        ----------
        signature
            What lies in the bundle's folder.
        manifest
            The bytes of `bundle.json`.
        folder
            The bundle's, for the message.

        Raises
        ------
        SignatureError
            There is no signature, or another key's, or one of other bytes.
        """
        if signature is None:
            raise SignatureError(
                f"{folder} has no signature, and one by {self.path} is required: get the signed bundle from who made "
                "it, or sign it yourself (seggd-rt sign)"
            )
        if signature.public_key != self.raw.hex():
            raise SignatureError(
                f"{folder} is signed by another key, SHA-256 {signature.fingerprint}, than the one required, "
                f"{self.path}, SHA-256 {self.fingerprint}"
            )
        if not signature.holds(manifest):
            raise SignatureError(
                f"{folder / SIGNATURE} does not hold: it, or bundle.json, was changed after signing. Get the bundle "
                "again from who made it"
            )


class SigningKey:
    """A private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def read(cls, path: Path, passphrase: Passphrase | None = None) -> SigningKey:
        """Read an Ed25519 private key, PEM (PKCS#8), as `create` or `openssl genpkey -algorithm ed25519` writes it.

        Parameters
        ----------
        path
            The file.
        passphrase
            Asked where the key is encrypted.

        Raises
        ------
        DataError
            The file cannot be read, holds another kind of key, or the passphrase is another.
        OptionError
            The passphrase cannot be used.
        MissingExtraError
            The package `cryptography` is not installed.
        """
        data = _read_key(path)
        serialization, refusals = _require(f"{_PRIMITIVES}.serialization"), _refusals()

        def load(password: str | None) -> object:
            secret = None if password is None else _secret(password)
            try:
                loaded: object = serialization.load_pem_private_key(data, secret)
            except refusals as error:
                what = "is no private key in PEM" if password is None else "cannot be decrypted with this passphrase"
                raise DataError(f"{path} {what}: {_ADVICE if password is None else 'give its own'}") from error
            return loaded

        try:
            key = load(None)
        except TypeError as error:  # it is encrypted
            if passphrase is None:
                raise DataError(f"{path} is encrypted: give its passphrase") from error
            key = load(passphrase())
        if not isinstance(key, _require(_ED25519).Ed25519PrivateKey):
            raise DataError(f"{path} is a private key of another kind than Ed25519: {_ADVICE}")
        return cls(key)

    @classmethod
    def create(cls, path: Path, passphrase: str | None = None) -> tuple[SigningKey, Path]:
        """Make a key pair: the private key at `path`, for this user alone, the public one beside it, `.pub`.

        Parameters
        ----------
        path
            Where there is no file yet; nor is there its `.pub`.
        passphrase
            To encrypt the private key with.

        Returns
        -------
        tuple
            The key, and the path of its public part.

        Raises
        ------
        OptionError
            The name is that of a public key, or the passphrase cannot be used.
        OutputError
            There is a file already, or none can be written. Nothing is left behind.
        MissingExtraError
            The package `cryptography` is not installed.
        """
        check_name(path)
        public_path = path.with_suffix(".pub")
        if path == public_path:
            raise OptionError(f"{path} would be the public key's name: name the private one otherwise, as K.pem")
        serialization = _require(f"{_PRIMITIVES}.serialization")
        made = cls(_require(_ED25519).Ed25519PrivateKey.generate())
        cipher = (
            serialization.NoEncryption()
            if passphrase is None
            else serialization.BestAvailableEncryption(_secret(passphrase))
        )
        pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        write_new_file(path, made._key.private_bytes(pem, private, cipher), _PRIVATE)
        try:
            public = made._key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
            write_new_file(public_path, public)
        except BaseException:
            path.unlink()
            raise
        return made, public_path

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the public key's 32 bytes."""
        return hashlib.sha256(self._key.public_key().public_bytes_raw()).hexdigest()

    def sign(self, manifest: bytes) -> Signature:
        """Sign the bytes of `bundle.json`."""
        return Signature(
            schema=SCHEMA,
            public_key=self._key.public_key().public_bytes_raw().hex(),
            signature=self._key.sign(_DOMAIN + manifest).hex(),
        )


class Standing(StrEnum):
    """What can be said of a bundle's signature without a key to require."""

    NONE = "none"
    HOLDS = "holds"
    """It is its key's signature of this `bundle.json`."""
    BROKEN = "broken"
    UNCHECKED = "unchecked"
    """There is one; the package that could check it is not installed."""


class SignatureState(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle's signature: how it stands, and the SHA-256 of the public key that it states."""

    standing: Standing
    key_sha256: str | None = None
    required: bool = False
    """Whether the caller required this key, and so trusts it."""

    def __str__(self) -> str:
        """Say it in a few words."""
        if self.standing is Standing.NONE:
            return "none"
        if self.standing is Standing.BROKEN:
            return "does not hold: bundle.json or bundle.sig was changed after signing"
        by = f"by the key with SHA-256 {self.key_sha256}"
        if self.standing is Standing.UNCHECKED:
            return f"{by}, not checked: pip install 'seggd-rt[sign]'"
        return f"holds, {by}, which was required" if self.required else f"holds, {by}; nobody required that key"


_PRIMITIVES = "cryptography.hazmat.primitives"
_AGAIN = "copy the bundle again, or sign it again"
_ADVICE = "make a key pair with seggd-rt sign --new-key K.pem, or openssl genpkey -algorithm ed25519"


_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
"""Edwards25519 is -x^2 + y^2 = 1 + d x^2 y^2 modulo p (RFC 8032, section 5.1)."""


def _check_key(raw: bytes, name: str) -> None:
    """Raise ValueError for a public key of 32 bytes that RFC 8032 does not write so, or that proves nothing.

    A key of small order is one of the eight points whose order divides 8. Anyone can make a signature by it that holds
    for every message, and OpenSSL accepts it.
    """
    y = int.from_bytes(raw, "little") & (2**255 - 1)  # the highest bit is the sign of x
    if y >= _P:
        raise ValueError(f"{name} is not in the one form that Ed25519 has for a key ({raw.hex()})")
    # y = 0 has the order 4, y^2 = 1 the orders 1 and 2. Doubled, a point of order 8 has y = 0, so that x^2 = -y^2.
    if y * (y * y - 1) * (_D * y**4 + 2 * y * y - 1) % _P == 0:
        raise ValueError(f"{name} is of small order, by which anyone can sign anything ({raw.hex()})")


def _require(module: str) -> ModuleType:
    return require(module, extra="sign", feature="signing bundles and checking signatures")


def _secret(passphrase: str) -> bytes:
    """Return a passphrase's bytes.

    Raises
    ------
    OptionError
        It is not one that OpenSSL takes.
    """
    try:
        secret = passphrase.encode()
    except UnicodeEncodeError as error:
        raise OptionError("the passphrase is not UTF-8: give one of valid characters") from error
    if not 0 < len(secret) <= _MAX_PASSPHRASE:
        raise OptionError(f"the passphrase has {len(secret)} bytes: give one of 1 to {_MAX_PASSPHRASE:,}")
    return secret


def _refusals() -> tuple[type[Exception], ...]:
    """What cryptography raises for keys it cannot take; an internal error, for one, of another curve's wrong length."""
    exceptions = _require("cryptography.exceptions")
    return ValueError, exceptions.UnsupportedAlgorithm, exceptions.InternalError


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"it is over {_MAX_BYTES >> 10} KiB")
    return data


def _read_key(path: Path) -> bytes:
    try:
        return _read(path)
    except OSError as error:
        raise DataError(f"the key {path} cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise DataError(f"{path} is no key: {error}") from error
