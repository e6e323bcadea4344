"""Sessions of ONNX Runtime that print nothing of their own."""

from __future__ import annotations

from typing import Any

_FATAL = 4


def session_options(onnxruntime: Any, threads: int | None = None) -> Any:
    """Return the options of a session that logs nothing; errors still arrive as exceptions.

    ONNX Runtime logs to stderr from C++ and does not escape the names of nodes. A hostile graph could send control
    characters to the terminal in them.

    Parameters
    ----------
    onnxruntime
        The module.
    threads
        CPU threads of one operator; ONNX Runtime's choice if None.
    """
    onnxruntime.set_default_logger_severity(_FATAL)  # for what is logged outside of a session
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _FATAL
    return options
