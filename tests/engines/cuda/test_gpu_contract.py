"""The contract of a network on a GPU, run over every engine that this GPU can run, in every precision it has."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import IMAGE_PSNR_DB, PARITY_LIMIT, Precision, encode, encode_table, psnr_db, relative_errors
from seggd_rt.engine import AnyNetwork, Clock, DeviceKind, NetworkShape, registry
from seggd_rt.errors import EngineUnavailableError
from seggd_rt.gpu import why_no_gpu
from seggd_rt.inference import load
from tests.bundles import TINY, TINY_RGB

_NO_GPU = why_no_gpu()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(_NO_GPU is not None, reason=_NO_GPU or "")]

DEVICE = "cuda:0"
GOLDEN_SHAPES = [(TINY, NetworkShape(1, 3, 24, 32)), (TINY_RGB, NetworkShape(3, 1, 16, 20))]
GPU_ENGINES = [engine.name for engine in registry.engines() if engine.kind is DeviceKind.CUDA]
ROW_LIMIT = {Precision.FP32: 1e-5, Precision.FP16: 2e-3, Precision.BF16: 2e-2}
"""How far equal rows of one batch may lie apart, of max|o|."""


def opened(name: str, precision: Precision, bundle: Bundle, shape: NetworkShape) -> AnyNetwork:
    """Open a bundle's graph, or skip because this machine cannot, saying why."""
    engine = registry.find_engine(name)
    there = engine.availability(DEVICE)
    if not there.usable:
        pytest.skip(f"{name}: {there.reason}")
    if precision not in there.precisions:
        pytest.skip(f"{name} computes in {', '.join(there.precisions)} on this {there.device_name}")
    wanted = engine.graph_precision(precision)
    if wanted not in {graph.precision for graph in bundle.manifest.graphs}:
        pytest.skip(f"{bundle.path.name} has no {wanted} graph")
    graph = bundle.read_graph(bundle.graph(wanted))
    return engine.open(graph, shape, device=DEVICE, precision=precision, threads=None)


@pytest.fixture(params=[(name, precision) for name in GPU_ENGINES for precision in Precision], ids=" ".join)
def network(request: pytest.FixtureRequest) -> Iterator[AnyNetwork]:
    name, precision = request.param
    made = opened(name, precision, Bundle.open(TINY), GOLDEN_SHAPES[0][1])
    yield made
    made.close()


def states(count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 1, 24, 32)).astype(np.float32)
    return x, rng.integers(0, 2, (count, 3, 24, 32)).astype(np.float32)


def test_an_engine_says_what_it_is(network: AnyNetwork) -> None:
    assert network.shape == GOLDEN_SHAPES[0][1]
    assert network.info.device == DEVICE
    assert network.info.version
    assert network.info.device_name


def test_every_call_of_an_engine_reads_and_overwrites(network: AnyNetwork) -> None:
    session = network.session(2)
    first, second = session.evaluate(*states(2, 0), 500), session.evaluate(*states(2, 1), 500)
    assert np.isfinite(first).all()
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(session.evaluate(*states(2, 0), 500), first)
    assert np.abs(session.evaluate(*states(2, 0), 20) - first).max() > 0.01
    session.close()


def test_rows_of_an_engine_do_not_know_each_other(network: AnyNetwork) -> None:
    x, mask = states(4)
    x[3], mask[3] = x[0], mask[0]
    limit, session, alone = ROW_LIMIT[network.info.precision], network.session(4), network.session(1)
    together = session.evaluate(x, mask, 500)
    assert relative_errors(together[3], together[0])[1] <= limit
    for row in range(4):
        single = alone.evaluate(x[row : row + 1], mask[row : row + 1], 500)[0]
        assert max(relative_errors(together[row], single)) <= PARITY_LIMIT[network.info.precision]
    session.close()
    alone.close()


def test_threads_may_share_an_engine(network: AnyNetwork) -> None:
    first = network.session(1)
    expected = [first.evaluate(*states(1, seed), 500) for seed in range(4)]

    def work(seed: int) -> float:
        session = network.session(1)
        worst = max(relative_errors(session.evaluate(*states(1, seed), 500), expected[seed])[1] for _ in range(20))
        session.close()
        return worst

    with ThreadPoolExecutor(4) as pool:
        # A session of its own may have taken other kernels of the same precision.
        assert max(pool.map(work, range(4))) <= ROW_LIMIT[network.info.precision]
    first.close()


def test_an_engine_tells_its_layers(network: AnyNetwork) -> None:
    session: Any = network.session(2)
    before = session.evaluate(*states(2), 500)
    try:
        found = session.profile(3)
    except EngineUnavailableError as reason:
        pytest.skip(f"{network.info.engine}: {reason}")
    assert (found.clock, found.runs) == (Clock.DEVICE, 3)
    assert sum(layer.ms for layer in found.layers) > 0
    again = session.profile(3)
    assert [(layer.operator, layer.calls) for layer in again.layers] == [
        (layer.operator, layer.calls) for layer in found.layers
    ]
    np.testing.assert_array_equal(session.evaluate(*states(2), 500), before)
    session.close()


@pytest.mark.parametrize(("path", "shape"), GOLDEN_SHAPES, ids=["grey", "RGB"])
@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("name", GPU_ENGINES)
def test_golden_states(name: str, precision: Precision, path: Path, shape: NetworkShape) -> None:
    bundle = Bundle.open(path)
    made = opened(name, precision, bundle, shape)
    session, golden, manifest = made.session(1), bundle.golden, bundle.manifest
    mask = encode(golden.label_map, encode_table(manifest.mask.encoding, len(manifest.classes)))
    error = max(
        max(relative_errors(session.evaluate(x[None], mask[None], float(t))[0], output))
        for x, t, output in zip(golden.states, golden.timesteps, golden.outputs, strict=True)
    )
    assert error <= PARITY_LIMIT[precision]
    if precision is not Precision.FP32:
        assert error > PARITY_LIMIT[Precision.FP32], "it says it computes in less than fp32, and does not"
    session.close()
    made.close()


@pytest.mark.parametrize("name", GPU_ENGINES)
def test_an_engine_draws_the_golden_image(name: str) -> None:
    engine = registry.find_engine(name)
    there = engine.availability(DEVICE)
    if not there.usable:
        pytest.skip(f"{name}: {there.reason}")
    with load(TINY, engine=name, precision="fp32", device=DEVICE) as generator:
        golden = generator.bundle.golden
        image = generator(golden.label_map, noise=golden.noise, steps=generator.manifest.check.steps)
        assert psnr_db(image[None], golden.image) >= IMAGE_PSNR_DB
