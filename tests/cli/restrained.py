"""`seggd-rt` in a process that is restrained: of little memory, on a full disk, or ended at a chosen moment.

    restrained.py memory BYTES ARGUMENT...      no more address space than that; prints what was used at most, in KiB
    restrained.py disk BYTES ARGUMENT...        no file may be longer than that: to a writer, the disk is full
    restrained.py SIGINT NUMBER ARGUMENT...     the signal comes as the output is touched for the NUMBER-th time

Touched is what lies in a folder or file whose name begins with `out`, before it is opened, linked, moved or removed.
"""

import os
import resource
import signal
import sys

_restraint, _number = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]
_touched = 0


def _count(event: str, arguments: tuple[object, ...]) -> None:
    global _touched
    if event not in ("open", "os.link", "os.rename", "os.remove") or not isinstance(arguments[0], str | os.PathLike):
        return
    parts = os.fspath(arguments[0]).lstrip(".").split("/")
    if any(part.lstrip(".").startswith("out") for part in parts):
        _touched += 1
        if _touched == _number:
            os.kill(os.getpid(), signal.Signals[_restraint])


def _peak_kib() -> int:
    """Return what this process used at most: `getrusage` would tell its parent's peak too, which it inherits."""
    with open("/proc/self/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


if _restraint == "memory":
    resource.setrlimit(resource.RLIMIT_AS, (_number, _number))
elif _restraint == "disk":
    resource.setrlimit(resource.RLIMIT_FSIZE, (_number, _number))
else:
    sys.addaudithook(_count)

from seggd_cli import main  # noqa: E402

try:
    main()
finally:
    if _restraint == "memory":
        print(f"peak {_peak_kib()}", file=sys.stderr)
    elif _restraint.startswith("SIG"):
        print(f"touched {_touched}", file=sys.stderr)
