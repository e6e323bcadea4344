"""Sessions of ONNX Runtime that read graphs from memory and print nothing of their own."""

from __future__ import annotations

from typing import Any

from seggd_rt.bundle import OnnxGraph
from seggd_rt.engine.forks import bind_to_process, require_own
from seggd_rt.engine.signature import FLOAT32, Port
from seggd_rt.errors import EngineError

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


def open_session(ort: Any, graph: OnnxGraph, options: Any, providers: list[Any]) -> Any:
    """Open a graph that is in memory, with options and execution providers; nothing is read from files.

    Raises
    ------
    EngineError
        It cannot be opened.
    """
    # Else it takes bytes for its own format, which nothing here checks, by four letters among them.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if graph.external:
        names, data = zip(*graph.external.items(), strict=True)
        options.add_external_initializers_from_files_in_memory(names, data, [len(each) for each in data])
    try:
        # Without its fallback, which prints to stdout and tries other providers.
        session = ort.InferenceSession(graph.model, options, providers=providers, enable_fallback=0)
    except failures(ort) as error:
        raise EngineError(f"ONNX Runtime cannot open {graph.name}: {error}") from error
    if options.intra_op_num_threads != 1:  # with 1 the calling thread computes alone, and a fork loses nothing
        bind_to_process(session)
    return session


def require_own_session(session: Any) -> None:
    """Refuse a session of several threads that was opened before this process was forked.

    Raises
    ------
    EngineError
        The message says what to do.
    """
    require_own(session, "ONNX Runtime opened this graph", "load the bundle in each process, or with threads=1")


def ports(session: Any) -> dict[str, Port]:
    """Return a session's inputs and outputs by name."""
    return {
        node.name: Port(FLOAT32 if node.type == "tensor(float)" else node.type, node.shape)
        for node in (*session.get_inputs(), *session.get_outputs())
    }


def failures(ort: Any) -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises: exceptions of its own without a common root.

    UnicodeDecodeError comes where a message quotes bytes of a graph that are no UTF-8.
    """
    state = ort.capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    return (*(getattr(state, name) for name in names), state.RuntimeException, RuntimeError, UnicodeDecodeError)
