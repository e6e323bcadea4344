"""Sessions of ONNX Runtime that print nothing of their own."""

from __future__ import annotations

from typing import Any

_FATAL = 4


def session_options(onnxruntime: Any, threads: int | None = None) -> Any:
    """Return the options of a session that prints no errors: they arrive as exceptions too.

    ONNX Runtime writes its log lines to stderr from C++, with the names of a graph's nodes as they are: a hostile graph
    would steer the terminal by them.

    Parameters
    ----------
    onnxruntime
        The module.
    threads
        For one operator; ONNX Runtime's choice if None.
    """
    onnxruntime.set_default_logger_severity(_FATAL)  # for what is logged outside of a session
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _FATAL
    return options
