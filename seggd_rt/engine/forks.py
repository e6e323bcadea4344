"""What a forked process must not use: objects whose threads stayed in the process that it was forked from.

A fork copies memory, but of all threads the calling one alone. A library that then waits for another thread waits for
ever: OpenVINO where it compiles a graph or ends, ONNX Runtime where a session of several threads is destroyed.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any

from seggd_rt.errors import EngineError

_threaded: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
"""Objects that have threads in this process, by id: not all of them can be hashed."""
_inherited: set[int] = set()
"""The ids of objects that this process has by a fork. They are never destroyed, so no other object gets their ids."""


def bind_to_process(value: Any) -> None:
    """Note that an object has threads, or starts them now: a forked process must not use it and does not destroy it."""
    _threaded[id(value)] = value


def require_own(value: Any, event: str, advice: str) -> None:
    """Refuse an object that this process has by a fork, if it was bound to its process before.

    Parameters
    ----------
    value
        The object.
    event
        What happened before the fork, for the message: "OpenVINO was used".
    advice
        What to do.

    Raises
    ------
    EngineError
        The message has event and advice in one line.
    """
    if id(value) in _inherited:
        raise EngineError(
            f"{event} before this process was forked, and its threads do not survive a fork: {advice}; or start "
            "processes with multiprocessing_context='spawn' (without PyTorch: multiprocessing.get_context('spawn'))"
        )


def _after_fork() -> None:
    for value in list(_threaded.values()):
        _inherited.add(id(value))
        # One reference too many: also the end of the interpreter, which empties every module, does not destroy it.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
