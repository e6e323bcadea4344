"""One run over several devices: a process for each, which draws a shard."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from seggd_rt.errors import OptionError

_SAID = "SEGGD_RT_SAID"
"""The environment's name of a folder with a file for each warning and error that a process of the run printed."""


def run_on_each(devices: Sequence[str], arguments: Sequence[str]) -> int:
    """Run the command of this process once for each device, a shard each, and wait for all.

    Parameters
    ----------
    devices
        As "cuda:0"; may name one several times.
    arguments
        The command line of this process, from the command's name on.

    Returns
    -------
    int
        The exit code: 0 if all ended with that, else the first other one.

    Raises
    ------
    OptionError
        The run is a shard already, or a device has no name.
    """
    if any(argument.startswith("--shard") for argument in arguments):
        raise OptionError("several devices share a run as shards of their own: give no --shard")
    if not all(devices):
        raise OptionError(f"--device is invalid ({','.join(devices)}): give names, such as cuda:0,cuda:1")
    with tempfile.TemporaryDirectory() as said:
        processes = [
            subprocess.Popen(  # noqa: S603 - this program, with the arguments it was given
                [
                    *(sys.executable, "-m", "seggd_cli", *_without_device(arguments)),
                    *("--device", device, "--shard", f"{place}/{len(devices)}"),
                ],
                env={**os.environ, _SAID: said},
            )
            for place, device in enumerate(devices, start=1)
        ]
        try:
            codes = [process.wait() for process in processes]
        except (KeyboardInterrupt, SystemExit):
            # A terminal's Ctrl-C reached them too; what is sent twice they end by all the same.
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait()
            raise
    return next((code for code in codes if code), 0)


def _without_device(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without `--device`: each process gets its own."""
    kept, rest = [], iter(arguments)
    for argument in rest:
        if argument == "--device":
            next(rest, None)
        elif not argument.startswith("--device="):
            kept.append(argument)
    return kept


def was_said(line: str) -> bool:
    """Say whether another process that shares this one's run has printed a line; from now on this one counts as it."""
    folder = os.environ.get(_SAID)
    if folder is None:
        return False
    try:
        Path(folder, hashlib.sha256(line.encode("utf-8", "surrogatepass")).hexdigest()).touch(exist_ok=False)
    except FileExistsError:
        return True
    except OSError:  # the folder is gone: better twice than never
        return False
    return False
