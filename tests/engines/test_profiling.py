"""Where networks say that their time goes. No test asks how long anything takes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from seggd_engines.cuda import CudaSession
from seggd_engines.host import HostSession
from seggd_engines.onnxruntime.trace import Trace, trace
from seggd_engines.openvino.counters import profile_request
from seggd_rt.diffusion import Precision
from seggd_rt.engine import WARM_UPS, Average, Buffer, Clock, LayerCall, LayerProfile, ProfiledNetwork, medians
from seggd_rt.errors import EngineError, EngineUnavailableError
from tests.engines.analytic import SHAPE as ANALYTIC_SHAPE
from tests.engines.analytic import AnalyticNetwork
from tests.engines.cuda.emulated import EmulatedNetwork
from tests.engines.test_network_contract import GRAPHS, SHAPE, draw, open_graph

IN_GRAPH = {"Conv", "Tanh", "Slice", "Reshape", "Add", "Mul", "Neg", "Exp", "Sqrt", "Sub", "Div"}
"""The operators of the tiny bundle's graph."""


def profile_of(name: str, precision: Precision, runs: int = 3, batch: int = 2) -> LayerProfile:
    network = open_graph(name, precision)
    assert isinstance(network, ProfiledNetwork)
    session = HostSession(network, batch)
    session.evaluate(*np.split(draw(batch)[0], [SHAPE.image_channels], axis=1), timestep=500)
    found = session.profile(runs)
    session.close()
    network.close()
    return found


def structure(found: LayerProfile) -> list[tuple[str, str, int]]:
    """Return the layers without their times; ONNX Runtime numbers the reorders it adds as it comes."""
    return [(layer.name.partition("_token_")[0], layer.operator, layer.calls) for layer in found.layers]


@pytest.mark.parametrize(("name", "precision"), GRAPHS)
def test_layers_are_those_that_run(name: str, precision: Precision) -> None:
    found = profile_of(name, precision)
    assert (found.clock, found.runs) == (Clock.HOST, 3)
    assert found.step_ms > 0
    assert sum(layer.ms for layer in found.layers) > 0
    assert all(layer.ms >= 0 and layer.calls >= 1 and layer.name for layer in found.layers)
    convolutions = [layer for layer in found.layers if layer.operator in ("Conv", "Convolution")]
    assert len(convolutions) == 2
    assert all(layer.ms > 0 for layer in convolutions)
    assert structure(profile_of(name, precision)) == structure(found)


def test_onnx_runtime_has_the_graphs_operators_and_its_own_reorders() -> None:
    operators = {layer.operator for layer in profile_of("onnxruntime", Precision.FP32).layers}
    assert {"Conv", "Mul", "Tanh"} <= operators <= IN_GRAPH | {"ReorderInput", "ReorderOutput"}


def test_openvinos_ports_are_no_layers_and_its_means_add_up() -> None:
    found = profile_of("openvino", Precision.FP32)
    assert not {"Parameter", "Result"} & {layer.operator for layer in found.layers}
    assert found.average is Average.MEAN
    assert found.step_ms - found.between_ms == pytest.approx(sum(layer.ms for layer in found.layers))


def test_openvinos_warm_ups_are_not_in_its_means() -> None:
    calls: list[int] = []

    def layer(name: str, kind: str, first: int, later: int) -> SimpleNamespace:
        spent = sum([first] + [later] * (len(calls) - 1))
        return SimpleNamespace(node_name=name, node_type=kind, real_time=timedelta(microseconds=spent // len(calls)))

    listed = [("x", "Parameter", 0, 0), ("conv", "Convolution", 9000, 1000), ("shape", "Reshape", 3, 0)]
    request = SimpleNamespace(get_profiling_info=lambda: [layer(*told) for told in listed])
    conv, shape = profile_request(request, lambda: calls.append(1), 8).layers
    assert (conv.name, conv.operator, conv.ms, len(calls)) == ("conv", "Convolution", 1.0, WARM_UPS + 8)
    assert shape.ms == 0, "not negative, where whole microseconds are rounded off"
    listed.clear()
    with pytest.raises(EngineError, match="OpenVINO told nothing"):
        profile_request(request, lambda: calls.append(1), 1)


@pytest.mark.parametrize(("name", "precision"), GRAPHS)
def test_the_network_itself_goes_on_as_before(name: str, precision: Precision) -> None:
    network: Any = open_graph(name, precision)
    session = HostSession(network, 1)
    sample, mask = np.split(draw(1)[0], [SHAPE.image_channels], axis=1)
    before = session.evaluate(sample, mask, timestep=500)
    session.profile(1)
    np.testing.assert_array_equal(session.evaluate(sample, mask, timestep=500), before)
    network.close()


def test_nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    profile_of("onnxruntime", Precision.FP32, runs=1)
    network: Any = open_graph("onnxruntime", Precision.FP32)

    def fails() -> None:
        assert list(tmp_path.iterdir()), "the trace is written while it runs"
        raise EngineError("the engine failed")

    with pytest.raises(EngineError, match="the engine failed"):
        trace(network._open, lambda session: fails, 1)
    assert not list(tmp_path.iterdir())


def test_what_tells_nothing_says_so() -> None:
    session = HostSession(AnalyticNetwork(), 1)
    with pytest.raises(EngineUnavailableError, match="engine analytic does not tell how long its layers take"):
        session.profile(1)
    on_gpu = EmulatedNetwork().session(1)
    with pytest.raises(EngineUnavailableError, match="engine analytic does not tell"):
        on_gpu.profile(1)


class ProfiledEmulation(EmulatedNetwork):
    """One that tells where it was asked to run."""

    def profile(self, sample: Buffer, timestep: Buffer, out: Buffer, runs: int, stream: int) -> LayerProfile:
        self.asked = (sample.shape, timestep.shape, out.shape, runs, stream)
        return medians(Clock.DEVICE, [[LayerCall("conv_in", "Conv", 1.0)]] * runs, [0.002] * runs)


def test_on_a_gpu_the_sessions_own_buffers_and_stream_are_used() -> None:
    network = ProfiledEmulation()
    session = network.session(2)
    assert isinstance(session, CudaSession)
    assert session.profile(5).runs == 5
    sizes = (ANALYTIC_SHAPE.height, ANALYTIC_SHAPE.width)
    assert network.asked == ((2, 4, *sizes), (2,), (2, 1, *sizes), 5, session._stream.handle)


def test_medians_are_of_a_runs_calls_together() -> None:
    runs = [[("a", "Conv", 1.0), ("b", "Add", time), ("a", "Conv", 2.0)] for time in (5.0, 1.0, 2.0)]
    calls = [[LayerCall(*call) for call in run] for run in runs]
    found = medians(Clock.DEVICE, calls, [0.010, 0.005, 0.006])
    assert [(layer.name, layer.operator, layer.calls, layer.ms) for layer in found.layers] == [
        ("a", "Conv", 2, 3.0),
        ("b", "Add", 1, 2.0),
    ]
    assert (found.clock, found.average, found.runs) == (Clock.DEVICE, Average.MEDIAN, 3)
    assert found.step_ms == pytest.approx(6)
    assert found.between_ms == pytest.approx(1), "the median of 10 - 8, 5 - 4 and 6 - 5"


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ([], "told nothing of its layers"),
        ([[], []], "told nothing of its layers"),
        ([[LayerCall("a", "Conv", 1.0)], []], "other layers from one run to the next"),
        ([[LayerCall("a", "Conv", 1.0)], [LayerCall("a", "Conv", 1.0)] * 2], "other layers from one run to the next"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(runs: list[list[LayerCall]], reason: str) -> None:
    with pytest.raises(EngineError, match=reason):
        medians(Clock.HOST, runs, [0.001] * len(runs))


def event(cat: str, name: str, ts: int, dur: int, **args: Any) -> dict[str, Any]:
    return {"cat": cat, "pid": 1, "tid": 1, "dur": dur, "ts": ts, "ph": "X", "name": name, "args": args}


def events_of_run(at: int) -> list[dict[str, Any]]:
    """Return what ONNX Runtime writes of a run, as it writes it: sorted by where things end."""
    return [
        event("Node", "conv_in_kernel_time", at + 10, 30, op_name="Conv", provider="CUDAExecutionProvider"),
        event("Kernel", "sm90_conv", at + 25, 400, op_name="Conv", parent_name="conv_in_kernel_time", stream="7"),
        event("Node", "out_fence_before", at + 45, 1, op_name="Add"),
        event("Node", "out_kernel_time", at + 50, 20, op_name="Add"),
        event("Kernel", "memcpy", at + 430, 5, stream="7"),
        event("Session", "SequentialExecutor::Execute", at + 5, 70),
        event("Session", "model_run", at, 80),
    ]


def traced(events: list[dict[str, Any]], runs: int) -> Trace:
    """Return the trace of a session that writes these events."""

    def open_session(prefix: str) -> Any:
        file = Path(prefix + "_2026.json")
        file.write_text(json.dumps(events))
        return SimpleNamespace(end_profiling=lambda: str(file))

    def bind(session: Any) -> Callable[[], None]:
        return lambda: None

    return trace(open_session, bind, runs)


def test_a_trace_is_read_run_by_run() -> None:
    begin = [event("Session", "session_initialization", 3, 900), event("Kernel", "set_up", 800, 50)]
    runs = [found for at in range(WARM_UPS + 2) for found in events_of_run(1000 * (at + 1))]
    found = traced(begin + runs, 2)
    assert len(found.seconds) == 2
    assert found.nodes() == [[("conv_in", "Conv", 0.03), ("out", "Add", 0.02)]] * 2
    assert found.kernels() == [[("conv_in", "Conv", 0.4), ("memcpy", "unknown", 0.005)]] * 2


def test_a_trace_of_something_else_is_refused() -> None:
    with pytest.raises(EngineError, match="trace cannot be read"):
        traced({"traceEvents": []}, 1)  # type: ignore[arg-type]
