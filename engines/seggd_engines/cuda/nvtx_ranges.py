"""Names on the timeline of NVIDIA's Nsight Systems: what a session does, as NVTX ranges.

They need the package `nvtx`; where it is not installed there are none, and nothing else changes. TensorRT names its
layers on the same timeline by itself.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ParamSpec, TypeVar

_DOMAIN = "seggd-rt"
_Given = ParamSpec("_Given")
_Returned = TypeVar("_Returned")


def in_range(name: str) -> Callable[[Callable[_Given, _Returned]], Callable[_Given, _Returned]]:
    """Let every call of a function be a range of this name."""

    def wrap(function: Callable[_Given, _Returned]) -> Callable[_Given, _Returned]:
        @functools.wraps(function)
        def call(*args: _Given.args, **kwargs: _Given.kwargs) -> _Returned:
            with nvtx_range(name):
                return function(*args, **kwargs)

        return call

    return wrap


@functools.cache
def nvtx_range(name: str) -> AbstractContextManager[object]:
    """Return a range that may be entered any number of times, by any thread."""
    if importlib.util.find_spec("nvtx") is None:
        return nullcontext()
    annotation: AbstractContextManager[object] = importlib.import_module("nvtx").annotate(name, domain=_DOMAIN)
    return annotation
