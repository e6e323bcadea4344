"""One written contract, run over every Network, also over those of engines that other packages register."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from seggd_rt.bundle import Bundle, OnnxGraph
from seggd_rt.diffusion import PARITY_LIMIT, Precision, encode, encode_table, relative_errors
from seggd_rt.engine import Buffer, DeviceKind, Network, NetworkShape, open_session, registry, session_options
from seggd_rt.errors import EngineError, EngineUnavailableError
from tests.bundles import TINY, TINY_RGB
from tests.engines.analytic import AnalyticNetwork

SHAPE = NetworkShape(1, 3, 24, 32)
OURS = [("onnxruntime", Precision.FP32), ("openvino", Precision.FP32), ("openvino", Precision.BF16)]
"""Engines of this project, and the precisions they have on some machine."""
FOREIGN = [
    (engine.name, precision)
    for engine in registry.engines()
    if engine.kind is DeviceKind.CPU and engine.name not in dict(OURS)
    for precision in engine.availability("cpu").precisions
]
GRAPHS = OURS + FOREIGN
ROW_LIMIT = {Precision.FP32: 1e-5, Precision.FP16: 1e-2, Precision.BF16: 5e-2}
"""How far an image may lie from itself in another batch: another order of sums, at the precision's resolution."""


def open_graph(engine_name: str, precision: Precision, bundle: Path = TINY, shape: NetworkShape = SHAPE) -> Network:
    """Open a bundle's graph, or skip because this machine cannot, saying why."""
    engine = registry.find_engine(engine_name)
    there = engine.availability("cpu")
    if not there.usable:
        pytest.skip(f"{engine_name}: {there.reason}")
    if precision not in there.precisions:
        pytest.skip(f"{engine_name} computes in {', '.join(there.precisions)} on this {there.device_name}")
    opened = Bundle.open(bundle)
    graph = opened.read_graph(opened.graph(engine.graph_precision(precision)))
    return engine.open(graph, shape, device="cpu", precision=precision, threads=1)


@pytest.fixture(scope="module", params=[("analytic", Precision.FP32), *GRAPHS], ids=" ".join)
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    name, precision = request.param
    opened = AnalyticNetwork(SHAPE, std=0.2) if name == "analytic" else open_graph(name, precision)
    yield opened
    opened.close()


class Bound:
    """Buffers of a batch, and the network's call on them."""

    def __init__(self, network: Network, batch: int) -> None:
        shape = network.shape
        self.sample = np.zeros((batch, shape.channels, shape.height, shape.width), np.float32)
        self.timestep = np.zeros(batch, np.float32)
        self.out = np.full((batch, shape.image_channels, shape.height, shape.width), np.nan, np.float32)
        buffers = (Buffer.of(self.sample), Buffer.of(self.timestep), Buffer.of(self.out))
        self.call: Callable[[], None] = network.bind(*buffers)

    def evaluate(self, sample: NDArray[np.float32], timestep: NDArray[np.float32]) -> NDArray[np.float32]:
        self.sample[...], self.timestep[...] = sample, timestep
        self.out[...] = np.nan
        self.call()
        return self.out.copy()


def draw(batch: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return inputs [x | mask] and a timestep for each image."""
    rng = np.random.default_rng(seed)
    sample = rng.standard_normal((batch, SHAPE.channels, SHAPE.height, SHAPE.width)).astype(np.float32)
    sample[:, 1:] = rng.integers(0, 2, sample[:, 1:].shape)
    return sample, rng.integers(100, 999, batch).astype(np.float32)


def test_every_engine_is_under_the_contract() -> None:
    on_cpu = {engine.name for engine in registry.engines() if engine.kind is DeviceKind.CPU}
    assert {name for name, _ in GRAPHS} == on_cpu  # test_gpu_contract.py has those of GPUs


def test_says_what_it_is(network: Network) -> None:
    info = network.info
    assert network.shape == SHAPE
    assert info.engine
    assert info.version
    assert info.device == "cpu"
    assert info.device_name
    assert info.precision in list(Precision)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_every_call_reads_and_overwrites_the_buffers(network: Network, batch: int) -> None:
    bound = Bound(network, batch)
    first, second = bound.evaluate(*draw(batch, 0)), bound.evaluate(*draw(batch, 1))
    assert np.isfinite(first).all()
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(bound.evaluate(*draw(batch, 0)), first)


def test_inputs_are_left_alone(network: Network) -> None:
    bound = Bound(network, 2)
    sample, timestep = draw(2)
    bound.evaluate(sample, timestep)
    np.testing.assert_array_equal(bound.sample, sample)
    np.testing.assert_array_equal(bound.timestep, timestep)


def test_rows_do_not_know_each_other(network: Network) -> None:
    sample, timestep = draw(4)
    together = Bound(network, 4).evaluate(sample, timestep)
    alone = Bound(network, 1)
    for row in range(4):
        single = alone.evaluate(sample[row : row + 1], timestep[row : row + 1])
        assert max(relative_errors(together[row : row + 1], single)) <= ROW_LIMIT[network.info.precision]


def test_equal_rows_give_equal_outputs(network: Network) -> None:
    sample, timestep = draw(1)
    out = Bound(network, 3).evaluate(np.repeat(sample, 3, axis=0), np.repeat(timestep, 3))
    np.testing.assert_array_equal(out[1], out[0])
    np.testing.assert_array_equal(out[2], out[0])


def test_every_image_has_its_own_timestep(network: Network) -> None:
    sample, _ = draw(1)
    out = Bound(network, 2).evaluate(np.repeat(sample, 2, axis=0), np.array([100, 900], np.float32))
    assert np.abs(out[0] - out[1]).max() > 0.1


def test_the_mask_is_seen(network: Network) -> None:
    sample, timestep = draw(1)
    bound = Bound(network, 1)
    masked = bound.evaluate(sample, timestep)
    sample[:, 1:] = 0
    assert np.abs(bound.evaluate(sample, timestep) - masked).max() > 0.05


_WHERE_THREADS_RUN = """
import os, sys, threading
from pathlib import Path
import numpy as np
import seggd_rt

generator = seggd_rt.load(sys.argv[1], engine=sys.argv[2], precision="fp32", threads=1)
mask = generator.bundle.golden.label_map
seen, drawing = set(), threading.Thread(target=lambda: generator(mask, seed=0, steps=300))
drawing.start()
while drawing.is_alive():
    for task in Path("/proc/self/task").iterdir():
        try:
            seen.add(tuple(sorted(os.sched_getaffinity(int(task.name)))))
        except ProcessLookupError:  # it has ended
            pass
drawing.join()
print(*sorted(seen), sep=";")
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system does not tell where threads may run")
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_network_of_few_threads_takes_no_core_for_itself(engine: str) -> None:
    """Of several processes with one thread each, all would take the first. (Threads of other tests may be pinned.)"""
    there = registry.find_engine(engine).availability("cpu")
    if not there.usable:
        pytest.skip(f"{engine}: {there.reason}")
    allowed = tuple(sorted(os.sched_getaffinity(0)))
    if len(allowed) == 1:
        pytest.skip("this machine has one core")
    command = [sys.executable, "-c", _WHERE_THREADS_RUN, str(TINY), engine]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(allowed)


def test_threads_may_bind_and_call(network: Network) -> None:
    expected = [Bound(network, 2).evaluate(*draw(2, seed)) for seed in range(4)]

    def work(seed: int) -> bool:
        bound = Bound(network, 2)
        return all(np.array_equal(bound.evaluate(*draw(2, seed)), expected[seed]) for _ in range(20))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def golden_errors(network: Network, bundle: Path) -> float:
    opened = Bundle.open(bundle)
    golden, manifest = opened.golden, opened.manifest
    mask = encode(golden.label_map, encode_table(manifest.mask.encoding, len(manifest.classes)))
    bound = Bound(network, 1)
    return max(
        max(relative_errors(bound.evaluate(np.concatenate([x, mask])[None], np.float32(t))[0], output))
        for x, t, output in zip(golden.states, golden.timesteps, golden.outputs, strict=True)
    )


@pytest.mark.parametrize(("name", "precision"), GRAPHS)
def test_golden_states(name: str, precision: Precision) -> None:
    for bundle, shape in ((TINY, SHAPE), (TINY_RGB, NetworkShape(3, 1, 16, 20))):
        network = open_graph(name, precision, bundle, shape)
        error = golden_errors(network, bundle)
        assert error <= PARITY_LIMIT[precision]
        if precision is not Precision.FP32:
            assert error > PARITY_LIMIT[Precision.FP32], "it says it computes in less than fp32, and does not"
        network.close()


@pytest.mark.parametrize("name", [engine.name for engine in registry.engines()])
def test_bad_graphs_are_refused(name: str, tmp_path: Path) -> None:
    open_graph(name, Precision.FP32).close()  # skips where the engine cannot run
    engine = registry.find_engine(name)
    whole = (TINY / "unet.fp32.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[:1500])
    (tmp_path / "text.onnx").write_text("no graph")
    for path in (tmp_path / "cut.onnx", tmp_path / "text.onnx", tmp_path / "missing.onnx"):
        with pytest.raises(EngineError, match=f"cannot open {path.name}"):
            OnnxGraph.read(path)
        if path.exists():
            unchecked = OnnxGraph(path.name, "", path.read_bytes())
            with pytest.raises(EngineError, match=f"cannot open {path.name}"):
                engine.open(unchecked, SHAPE, device="cpu", precision=Precision.FP32, threads=1)
    graph = OnnxGraph.read(TINY / "unet.fp32.onnx")
    for shape in (NetworkShape(2, 3, 24, 32), NetworkShape(1, 2, 24, 32), NetworkShape(1, 3, 32, 24)):
        with pytest.raises(EngineError, match="not the network of this manifest"):
            engine.open(graph, shape, device="cpu", precision=Precision.FP32, threads=1)
    with pytest.raises(EngineUnavailableError, match="cuda:0"):
        engine.open(graph, SHAPE, device="cuda:0", precision=Precision.FP32, threads=1)
    with pytest.raises(EngineUnavailableError, match="fp16"):
        engine.open(graph, SHAPE, device="cpu", precision=Precision.FP16, threads=1)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_only_onnx_is_opened(name: str, tmp_path: Path) -> None:
    """Engines must not guess the format: other formats can name files to open."""
    open_graph(name, Precision.FP32).close()  # skips where the engine cannot run
    (tmp_path / "unet.fp32.onnx").write_bytes((TINY / "unet.fp32.onnx").read_bytes())
    if name == "openvino":
        openvino = pytest.importorskip("openvino")
        openvino.save_model(openvino.Core().read_model(tmp_path / "unet.fp32.onnx"), tmp_path / "other.xml")
        other = tmp_path / "other.xml"
    else:
        onnxruntime = pytest.importorskip("onnxruntime")
        other, options = tmp_path / "other.ort", onnxruntime.SessionOptions()
        options.optimized_model_filepath, options.log_severity_level = str(other), 3
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(tmp_path / "unet.fp32.onnx", options)
    engine = registry.find_engine(name)
    graph = OnnxGraph("unet.fp32.onnx", "", other.read_bytes())
    with pytest.raises(EngineError, match=r"cannot open unet\.fp32\.onnx"):
        engine.open(graph, SHAPE, device="cpu", precision=Precision.FP32, threads=1)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_graph_that_bears_the_mark_of_another_format(name: str) -> None:
    """ONNX Runtime knows its own format by four letters, which may be those of a plain graph's maker."""
    onnx = pytest.importorskip("onnx", reason="the export side is not installed")
    whole, model = open_graph(name, Precision.FP32), onnx.load(TINY / "unet.fp32.onnx")
    model.producer_name = "ORTM"
    graph = OnnxGraph("unet.fp32.onnx", "", model.SerializeToString())
    assert graph.model[4:8] == b"ORTM"
    opened = registry.find_engine(name).open(graph, SHAPE, device="cpu", precision=Precision.FP32, threads=1)
    np.testing.assert_array_equal(Bound(opened, 2).evaluate(*draw(2)), Bound(whole, 2).evaluate(*draw(2)))


def test_onnxruntime_neither_tries_again_nor_prints(capfd: pytest.CaptureFixture[str]) -> None:
    open_graph("onnxruntime", Precision.FP32).close()  # skips where the engine cannot run
    import onnxruntime

    # Its wrapper tries other providers, and says so on stdout, after a ValueError or RuntimeError: here, of a text that
    # is not UTF-8, which no graph of a bundle may have.
    name = b"Mul"
    model = (TINY / "unet.fp32.onnx").read_bytes()
    assert name in model
    graph = OnnxGraph("unet.fp32.onnx", "", model.replace(name, b"\xff\xfe\x80"))
    with pytest.raises(EngineError, match="cannot open"):
        open_session(onnxruntime, graph, session_options(onnxruntime, 1), ["CPUExecutionProvider"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_message_that_quotes_bytes_that_are_no_text(name: str) -> None:
    onnx = pytest.importorskip("onnx", reason="the export side is not installed")
    open_graph(name, Precision.FP32).close()  # skips where the engine cannot run
    model = onnx.load(TINY / "unet.fp32.onnx")
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("auto_pad", b"\xff\xfe"))
    graph = OnnxGraph("unet.fp32.onnx", "", model.SerializeToString())
    with pytest.raises(EngineError, match=r"cannot open unet\.fp32\.onnx"):
        registry.find_engine(name).open(graph, SHAPE, device="cpu", precision=Precision.FP32, threads=1)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_external_data_comes_from_memory(name: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the export side is not installed")
    whole = open_graph(name, Precision.FP32)
    path = tmp_path / "unet.fp32.onnx"
    onnx.save(onnx.load(TINY / path.name), path, save_as_external_data=True, location="weights", size_threshold=100)
    graph = OnnxGraph.read(path)
    assert graph.external.keys() == {"weights"}
    (tmp_path / "weights").write_bytes(bytes(len(graph.external["weights"])))
    opened = registry.find_engine(name).open(graph, SHAPE, device="cpu", precision=Precision.FP32, threads=1)
    np.testing.assert_array_equal(Bound(opened, 2).evaluate(*draw(2)), Bound(whole, 2).evaluate(*draw(2)))


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("port", ["sample", "timestep", "out"])
def test_other_element_types_are_refused(name: str, port: str) -> None:
    onnx = pytest.importorskip("onnx", reason="the export side is not installed")
    open_graph(name, Precision.FP32).close()  # skips where the engine cannot run
    model = onnx.load(TINY / "unet.fp32.onnx")
    double = onnx.TensorProto.DOUBLE
    if port == "out":
        model.graph.output[0].type.tensor_type.elem_type = double
        last = next(node for node in model.graph.node if "out" in node.output)
        last.output[0] = "out_float"
        model.graph.node.append(onnx.helper.make_node("Cast", ["out_float"], ["out"], to=double))
    else:
        given = next(value for value in model.graph.input if value.name == port)
        given.type.tensor_type.elem_type = double
        for node in model.graph.node:
            node.input[:] = [f"{port}_float" if name == port else name for name in node.input]
        model.graph.node.insert(0, onnx.helper.make_node("Cast", [port], [f"{port}_float"], to=onnx.TensorProto.FLOAT))
    graph = OnnxGraph("unet.fp32.onnx", "", model.SerializeToString())
    with pytest.raises(EngineError, match=rf"is not the network of this manifest .*{port} (f64|tensor\(double\))"):
        registry.find_engine(name).open(graph, SHAPE, device="cpu", precision=Precision.FP32, threads=1)


def test_openvino_keeps_the_compiled_graphs_of_four_batch_sizes() -> None:
    network: Any = open_graph("openvino", Precision.FP32)
    in_use, expected = Bound(network, 1), Bound(network, 1).evaluate(*draw(1))
    compiled = {batch: weakref.ref(network.compiled(batch)) for batch in range(1, 8)}
    gc.collect()
    kept = {batch for batch, graph in compiled.items() if graph() is not None}
    assert kept == {4, 5, 6, 7}
    np.testing.assert_array_equal(in_use.evaluate(*draw(1)), expected)
