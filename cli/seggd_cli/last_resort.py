"""A process that kills its parent where native code holds Python's interpreter, so that the parent handles no signal.

It is run by its path, `python last_resort.py READER PARENT`, and imports nothing of this package. Python's C handler
writes each signal to the socket READER. A thread of the parent takes a signal once it is handled, unless no thread of
Python can run.
"""

import os
import select
import signal
import sys
import time

_PATIENCE_S, _TICK_S = 5.0, 0.25


def watch(reader: int, parent: int) -> None:
    """Wait until the socket's writer is gone, or kill the parent."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    unread = 0.0
    while os.getppid() == parent:
        # Block until a signal arrives or the socket closes. While a signal is unread, poll without blocking.
        ((_, events),) = poll.poll(None if not unread else 0) or [(reader, 0)]
        if events & ~select.POLLIN:
            return
        unread = unread + _TICK_S if events else 0.0
        if unread > _PATIENCE_S:
            os.kill(parent, signal.SIGKILL)
            return
        if events:
            time.sleep(_TICK_S)


if __name__ == "__main__":
    watch(*map(int, sys.argv[1:]))
