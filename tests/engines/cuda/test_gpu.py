"""On a real GPU: the session, its kernels and graphs, guests, memory and threads.

Networks here are PyTorch's: an analytic one, whose answers are known, and a tiny UNet2DModel. The same session around
emulated streams is tested in `test_session.py`, without a GPU; engines on a GPU in `test_gpu_contract.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from seggd_engines.cuda import CudaSession, CudaStream
from seggd_engines.host import HostSession
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import (
    Column,
    MaskEncoding,
    NoiseSchedule,
    Precision,
    Prediction,
    RowTable,
    Sampler,
    ablate,
    encode,
    encode_table,
    normal,
    sampler_rows,
)
from seggd_rt.engine import Buffer, DeviceArray, EngineInfo, NetworkShape, Run, Step
from seggd_rt.errors import EngineError, LabelMapError
from seggd_rt.gpu import why_no_gpu
from seggd_rt.inference import Generator
from tests.bundles import TINY
from tests.engines.analytic import AnalyticNetwork

_NO_GPU = why_no_gpu()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(_NO_GPU is not None, reason=_NO_GPU or "")]

DEVICE = "cuda:0"
TABLE = encode_table(MaskEncoding.ONE_HOT, 4)
# Pixels in whole quads and not, one channel and several, one block and several.
SHAPES = [NetworkShape(1, 3, 5, 7), NetworkShape(3, 3, 6, 6), NetworkShape(2, 3, 5, 5), NetworkShape(1, 3, 96, 104)]
LARGE = SHAPES[3]


@pytest.fixture(scope="module")
def torch() -> Any:
    """PyTorch with CUDA, or a skip that says what is missing."""
    found = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not found.cuda.is_available():
        pytest.skip(f"PyTorch {found.__version__} sees no GPU")
    return found


class TorchAnalytic:
    """`AnalyticNetwork` in PyTorch on the GPU: see `CudaNetwork`. It counts the calls that the host makes."""

    capturable = True
    max_batch: int | None = None

    def __init__(self, torch: Any, host: AnalyticNetwork) -> None:
        self._torch, self._host = torch, host
        self.shape, self.calls = host.shape, 0
        self.info = EngineInfo("analytic", "1", DEVICE, "a GPU", Precision.FP32)
        self._alpha_bar = torch.from_numpy(host.schedule.alpha_bar()).to(DEVICE)
        self._levels = torch.tensor(host.levels, dtype=torch.float64, device=DEVICE)
        torch.cuda.synchronize()

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer, stream: int) -> Callable[[], None]:
        from benchmarks.torch_network import external_stream, tensor_at

        torch, device = self._torch, self._torch.device(DEVICE)
        inputs, time, output = (tensor_at(buffer, device) for buffer in (sample, timestep, out))
        place, pool, channels = external_stream(stream, device), torch.cuda.MemPool(), self.shape.image_channels

        def call() -> None:
            self.calls += 1
            with torch.cuda.use_mem_pool(pool, device), torch.cuda.stream(place):
                a = self._alpha_bar[time.long()][:, None, None, None]
                x, mask = inputs[:, :channels].double(), inputs[:, channels:].double()
                mu = self._host.background + (mask * self._levels[:, None, None]).sum(1, keepdim=True)
                output.copy_((1 - a).sqrt() * (x - a.sqrt() * mu) / (a * self._host.std**2 + 1 - a))

        return call

    def session(self, batch: int, lanes: int = 1) -> CudaSession:
        return CudaSession(self, CudaStream(0), batch, lanes)

    def close(self) -> None:
        """Nothing is held but by bound calls."""


@pytest.fixture
def analytic(torch: Any) -> Callable[[NetworkShape], TorchAnalytic]:
    return lambda shape: TorchAnalytic(torch, host_network(shape))


def host_network(shape: NetworkShape) -> AnalyticNetwork:
    return AnalyticNetwork(shape=shape, std=0.3)


def make_run(
    shape: NetworkShape, seeds: tuple[int, ...] = (10, 11, 12), *, steps: int = 6, eta: float = 0.7, noise: bool = False
) -> Run:
    size = (shape.height, shape.width)
    maps = [np.random.default_rng(seed).integers(0, 4, size).astype(np.uint8) for seed in seeds]
    starts = [normal(seed + 1, (shape.image_channels, *size)) for seed in seeds]
    return Run(
        table=sampler_rows(Sampler.DDIM, host_network(shape).schedule, steps, eta=eta),
        label_maps=np.stack(maps),
        encode_tables=np.stack([TABLE] * len(seeds))[None],
        seeds=seeds,
        noise=np.stack(starts) if noise else None,
    )


def empty(shape: NetworkShape, count: int, dtype: type = np.float32) -> NDArray[Any]:
    return np.full((count, shape.height, shape.width, shape.image_channels), 77, dtype)


def on_host(shape: NetworkShape, run: Run) -> NDArray[np.float32]:
    out = empty(shape, len(run.seeds))
    HostSession(host_network(shape), len(run.seeds), run.lanes).run(run, out)
    return out


def drawn(session: CudaSession, shape: NetworkShape, run: Run, on_step: Any = None) -> NDArray[np.float32]:
    out = empty(shape, len(run.seeds))
    session.run(run, out, on_step)
    return out


def on_gpu(network: TorchAnalytic, run: Run) -> NDArray[np.float32]:
    session = network.session(len(run.seeds), run.lanes)
    out = drawn(session, network.shape, run)
    session.close()
    return out


def assert_same(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    # The noise's logarithms and the network's sums differ by an edge of float32 now and then.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def used_bytes(torch: Any) -> int:
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return int(total - free)


# The kernels


def test_every_branch_of_the_kernels_draws_what_the_host_draws() -> None:
    name = "benchmarks.gpu.checks.sanitizer_driver"
    driver = pytest.importorskip(name, reason="benchmarks are not in this environment")
    assert driver.drive(lambda: CudaStream(0)) == 4 * 2 * 2 * 9


def test_noise_is_the_hosts_number_for_number(analytic: Callable[[NetworkShape], TorchAnalytic]) -> None:
    run = make_run(LARGE, steps=1)
    rows = np.zeros_like(run.table.rows)
    rows[:, Column.CX] = 0.05  # the result is 0.5 + 0.025 * start: nothing is clipped
    found = on_gpu(analytic(LARGE), replace(run, table=RowTable(run.table.timesteps, rows)))
    expected = np.stack([normal(seed, (1, LARGE.height, LARGE.width)) for seed in run.seeds])
    pixels = np.float32(0.05) * expected / np.float32(2) + np.float32(0.5)
    np.testing.assert_array_max_ulp(found[..., 0], pixels[:, 0], maxulp=1)


# The session


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("eta", "noise"), [(0.0, False), (0.7, False), (1.0, True)])
def test_it_draws_what_the_host_draws(
    analytic: Callable[[NetworkShape], TorchAnalytic], shape: NetworkShape, eta: float, noise: bool
) -> None:
    run = make_run(shape, eta=eta, noise=noise)
    assert_same(on_gpu(analytic(shape), run), on_host(shape, run))


def test_the_whole_loop_is_one_graph(analytic: Callable[[NetworkShape], TorchAnalytic]) -> None:
    network = analytic(LARGE)
    session = network.session(1)
    for seed in (1, 2, 3):
        run = make_run(LARGE, (seed,), eta=0.2 * seed)
        assert_same(drawn(session, LARGE, run), on_host(LARGE, run))
        assert network.calls == 1 + 6, "a warm-up and the recorded steps; then only the graph"
    run = make_run(LARGE, (1,), steps=9)
    assert_same(drawn(session, LARGE, run), on_host(LARGE, run))
    assert network.calls == 1 + 6 + 9
    session.close()


def test_a_seed_is_its_image_in_any_batch(analytic: Callable[[NetworkShape], TorchAnalytic]) -> None:
    network = analytic(LARGE)
    together = on_gpu(network, make_run(LARGE))
    for image, seed in enumerate((10, 11, 12)):
        np.testing.assert_array_equal(on_gpu(network, make_run(LARGE, (seed,)))[0], together[image])
    assert np.abs(together[0] - together[1]).max() > 0.1


def test_steps_are_told_and_change_nothing(analytic: Callable[[NetworkShape], TorchAnalytic]) -> None:
    session, run, seen = analytic(LARGE).session(3), make_run(LARGE), list[Step]()
    stepwise = drawn(session, LARGE, run, seen.append)
    np.testing.assert_array_equal(drawn(session, LARGE, run), stepwise)
    assert [(step.index, step.steps) for step in seen] == [(index, 6) for index in range(6)]
    session.close()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_two_lanes_and_a_blend(analytic: Callable[[NetworkShape], TorchAnalytic], shape: NetworkShape) -> None:
    run = make_run(shape)
    rows = np.repeat(run.table.rows[None], 3, axis=0)
    rows[..., Column.G] = 1.5
    rows[:, 2, Column.M], rows[:, 2, Column.A], rows[:, 2, Column.B] = (0, 0.5, 1), 0.8, 0.6
    rng = np.random.default_rng(5)
    tables = np.concatenate([run.encode_tables, np.stack([ablate(TABLE, [1, 3])] * 3)[None]])
    real = rng.uniform(-1, 1, (3, shape.image_channels, shape.height, shape.width)).astype(np.float32)
    pixel_map = rng.uniform(0, 1, (3, shape.height, shape.width)).astype(np.float32)
    both = replace(run, table=RowTable(run.table.timesteps, rows), encode_tables=tables, real=real, pixel_map=pixel_map)
    found = on_gpu(analytic(shape), both)
    assert_same(found, on_host(shape, both))
    assert np.abs(found - on_gpu(analytic(shape), run)).max() > 0.1


def test_what_is_not_finite_is_an_error_and_the_next_image_is_not(
    analytic: Callable[[NetworkShape], TorchAnalytic],
) -> None:
    session, run = analytic(LARGE).session(2), make_run(LARGE, (1, 2), noise=True)
    assert isinstance(run.noise, np.ndarray)
    run.noise[1, 0, 2, 3] = np.nan
    with pytest.raises(EngineError, match="not finite"):
        drawn(session, LARGE, run)
    good = make_run(LARGE, (1, 2))
    assert_same(drawn(session, LARGE, good), on_host(LARGE, good))
    session.close()


# Guests


def guest(tensor: Any) -> DeviceArray:
    dtype = np.dtype(str(tensor.dtype).removeprefix("torch."))
    return DeviceArray(tensor.data_ptr(), tuple(tensor.shape), dtype, DEVICE, owner=tensor)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_guests_are_used_in_the_order_of_their_stream(
    torch: Any, analytic: Callable[[NetworkShape], TorchAnalytic], dtype: str
) -> None:
    network, run = analytic(LARGE), make_run(LARGE, noise=True)
    session, caller = network.session(3), torch.cuda.Stream()
    drawn(session, LARGE, run)  # captured: from here on the host only enqueues
    maps_then, noise_then = torch.from_numpy(run.label_maps).to(DEVICE), torch.from_numpy(run.noise).to(DEVICE)
    torch.cuda.synchronize()
    with torch.cuda.stream(caller):
        maps, noise = torch.zeros_like(maps_then), torch.zeros_like(noise_then)
        out = torch.full((3, LARGE.height, LARGE.width, 1), 77, dtype=getattr(torch, dtype), device=DEVICE)
        torch.cuda._sleep(200_000_000)  # about a tenth of a second: what follows is late for sure
        maps.copy_(maps_then)
        noise.copy_(noise_then)
        session.enqueue(replace(run, label_maps=guest(maps), noise=guest(noise)), guest(out), caller.cuda_stream)
        assert not caller.query(), "nothing was waited for"
        # The owner may free and use its memory again as soon as the call has returned.
        del maps, noise
        torch.full((3, LARGE.height, LARGE.width), 255, dtype=torch.uint8, device=DEVICE)
        torch.full((3, 1, LARGE.height, LARGE.width), float("nan"), device=DEVICE)
        found = out.cpu().numpy()
    session.synchronize()
    expected = empty(LARGE, 3, np.dtype(dtype).type)
    session.run(run, expected)
    np.testing.assert_array_equal(found, expected)
    session.close()


def test_a_guests_wrong_label_is_told_when_one_waits(
    torch: Any, analytic: Callable[[NetworkShape], TorchAnalytic]
) -> None:
    session, run = analytic(LARGE).session(1), make_run(LARGE, (1,))
    maps = torch.full((1, LARGE.height, LARGE.width), 4, dtype=torch.uint8, device=DEVICE)
    out = torch.empty((1, LARGE.height, LARGE.width, 1), device=DEVICE)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    session.enqueue(replace(run, label_maps=guest(maps)), guest(out), stream.cuda_stream)
    with pytest.raises(LabelMapError):
        session.synchronize()
    session.close()


def test_a_generator_takes_and_gives_tensors(torch: Any, analytic: Callable[[NetworkShape], TorchAnalytic]) -> None:
    shape = NetworkShape(1, 3, 24, 32)
    with Generator(Bundle.open(TINY), analytic(shape)) as generator:
        mask = Bundle.open(TINY).golden.label_map
        expected = generator(mask, seed=5, steps=4)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            there = torch.from_numpy(np.array(mask)).to(DEVICE, non_blocking=True)
            out = torch.zeros((24, 32), device=DEVICE)
            assert generator(there, seed=5, steps=4, out=out, stream=stream) is out
            found = out.cpu().numpy()
        generator.synchronize()
        np.testing.assert_array_equal(found, expected)
        # By CUDA's default stream, and back to the host.
        np.testing.assert_array_equal(generator(there, seed=5, steps=4), expected)


# Memory and threads


def test_a_thousand_images_do_not_grow_memory_and_close_gives_it_back(
    torch: Any, analytic: Callable[[NetworkShape], TorchAnalytic]
) -> None:
    network = analytic(NetworkShape(1, 3, 256, 256))
    run = make_run(network.shape, (1,), steps=4, noise=True)
    session = network.session(1)
    drawn(session, network.shape, run)
    session.close()  # the device's context, modules and libraries stay
    before = used_bytes(torch)
    session = network.session(1)
    first = drawn(session, network.shape, run)
    held = used_bytes(torch)
    assert held > before
    for _ in range(1000):
        session.run(run, first)
    assert used_bytes(torch) <= held
    session.close()
    del session
    # What the driver keeps for a pool's or a graph's book-keeping comes in blocks of 2 MiB.
    assert used_bytes(torch) <= before + (2 << 20)


def test_each_thread_has_a_session_of_its_own(analytic: Callable[[NetworkShape], TorchAnalytic]) -> None:
    network = analytic(LARGE)
    runs = [make_run(LARGE, (seed,)) for seed in range(4)]
    expected = [on_gpu(network, run) for run in runs]

    def work(index: int) -> bool:
        session = network.session(1)
        same = all(np.array_equal(drawn(session, LARGE, runs[index]), expected[index]) for _ in range(50))
        session.close()
        return same

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_pytorchs_cache_may_be_emptied_between_images(
    torch: Any, analytic: Callable[[NetworkShape], TorchAnalytic]
) -> None:
    session, run = analytic(LARGE).session(3), make_run(LARGE)
    expected = drawn(session, LARGE, run)
    torch.cuda.empty_cache()
    junk = torch.full((64 << 20,), float("nan"), device=DEVICE)
    np.testing.assert_array_equal(drawn(session, LARGE, run), expected)
    del junk
    session.close()


# PyTorch's UNet as a network


def tiny_unet(torch: Any) -> Any:
    networks = pytest.importorskip("seggd_training.loop.networks", reason="training is not in this environment")
    torch.manual_seed(0)
    return networks.build_unet(networks.unet_config("tiny", image_channels=1, mask_channels=3, size=(32, 48)))


@pytest.mark.filterwarnings("default")  # torch.compile warns of what it traces through
@pytest.mark.parametrize(
    ("precision", "compiled", "limit"),
    [
        (Precision.FP32, None, 1e-4),
        (Precision.FP16, None, 1e-2),
        (Precision.BF16, None, 5e-2),
        (Precision.FP16, "default", 1e-2),
    ],
)
def test_pytorchs_network_in_a_graph_draws_pytorchs_image(
    torch: Any, precision: Precision, compiled: str | None, limit: float
) -> None:
    torch_network = pytest.importorskip("benchmarks.torch_network", reason="benchmarks are not in this environment")
    from benchmarks.torch_loop import TorchLoop

    unet, shape = tiny_unet(torch), NetworkShape(1, 3, 32, 48)
    run = make_run(shape, noise=True, eta=0.0)
    table = sampler_rows(Sampler.DDIM, NoiseSchedule(prediction=Prediction.V), 6)
    run = replace(run, table=table)
    assert isinstance(run.label_maps, np.ndarray)
    assert isinstance(run.noise, np.ndarray)
    loop = TorchLoop(unet, encode(run.label_maps, TABLE), device=DEVICE, dtype=torch.float32, channels_last=False)
    expected = loop.draw(loop.place(run.noise), table).cpu().numpy()
    network = torch_network.TorchNetwork(unet, dtype=torch_network.DTYPES[precision], compile=compiled)
    session = network.session(3)
    found = drawn(session, shape, run)
    assert np.abs(found - expected).max() < limit
    np.testing.assert_array_equal(drawn(session, shape, run), found)
    session.close()
    network.close()
