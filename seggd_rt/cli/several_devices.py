"""One run over several devices: a process for each, which draws a shard."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

from seggd_rt.errors import OptionError


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
        The run is a shard already.
    """
    if any(argument.startswith("--shard") for argument in arguments):
        raise OptionError("several devices share a run as shards of their own: give no --shard")
    processes = [
        subprocess.Popen(  # noqa: S603 - this program, with the arguments it was given
            [
                *(sys.executable, "-m", "seggd_rt.cli", *arguments),
                *("--device", device, "--shard", f"{place}/{len(devices)}"),
            ]
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
