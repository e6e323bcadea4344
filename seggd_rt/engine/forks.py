"""Refuse, in a forked process, objects whose threads stayed in the parent process.

A fork copies the memory, but only the calling thread. A library that then waits for another thread never returns:
OpenVINO when it compiles a graph or ends, ONNX Runtime when a session of several threads is destroyed.
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
"""Ids of registered objects that a fork copied. They are never destroyed, so no other object gets their ids."""


def bind_to_process(value: Any) -> None:
    """Register an object that has threads: a forked process must not use it and never destroys it."""
    _threaded[id(value)] = value


def require_own(value: Any, event: str, advice: str) -> None:
    """Refuse an object that was registered by `bind_to_process` before this process was forked.

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
        # The extra reference keeps the object alive, even when the interpreter ends and empties every module.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
