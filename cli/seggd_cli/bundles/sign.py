"""`seggd-rt sign`: sign a bundle, or make the key for it."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from seggd_cli.strict_command import needs
from seggd_rt import terminal
from seggd_rt.errors import OptionError

_VARIABLE = "SEGGD_KEY_PASSPHRASE"


@needs(force="key")
def sign(
    bundle: Annotated[Path | None, typer.Argument(metavar="BUNDLE", help="The bundle's folder, NAME.seggd.")] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="K.pem",
            help=f"The Ed25519 private key, PEM; an encrypted one's passphrase is {_VARIABLE}, or asked for.",
        ),
    ] = None,
    new_key: Annotated[
        Path | None,
        typer.Option(
            metavar="K.pem", help=f"Make a key, and K.pub beside it; encrypted if {_VARIABLE} is set. Signs nothing."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another signature.")] = False,
) -> None:
    """Verify every file of a bundle and write bundle.sig, or make a key pair."""
    from seggd_rt.bundle import Bundle, SigningKey

    if new_key is not None:
        if bundle is not None or key is not None:
            raise OptionError("--new-key makes a key and signs nothing: give it alone, then BUNDLE and --key")
        made, public = SigningKey.create(new_key, os.environ.get(_VARIABLE))
        terminal.say(f"the public key's SHA-256 is {made.fingerprint}; keep {new_key} secret")
        for path in (new_key, public):
            terminal.result(str(path))
        return
    if bundle is None or key is None:
        raise OptionError("give BUNDLE and --key K.pem to sign it, or --new-key K.pem to make a key")
    signing_key = SigningKey.read(key, lambda: _passphrase(key))
    path = Bundle.open(bundle).sign(signing_key, force=force)
    terminal.say(f"signed by the key with SHA-256 {signing_key.fingerprint}")
    terminal.result(str(path))


def _passphrase(key: Path) -> str:
    given = os.environ.get(_VARIABLE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise OptionError(f"{key} is encrypted and there is no terminal to ask on: set {_VARIABLE}")
    return getpass.getpass(f"Passphrase of {key}: ")
