"""The session on a GPU, around the real kernels compiled for the host: it draws what the session on the CPU draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from seggd_engines.cuda import CudaSession
from seggd_engines.host import HostSession
from seggd_rt.diffusion import (
    Column,
    MaskEncoding,
    RowTable,
    Sampler,
    Stream,
    ablate,
    encode,
    encode_table,
    normal,
    sampler_rows,
)
from seggd_rt.engine import DeviceArray, NetworkShape, Run, Session, Step
from seggd_rt.errors import EngineError, LabelMapError
from tests.engines.analytic import AnalyticNetwork
from tests.engines.cuda.emulated import STREAMS, EmulatedNetwork, EmulatedStream

TABLE = encode_table(MaskEncoding.ONE_HOT, 4)
# Pixels in whole quads and not, one channel and several, one block and several.
SHAPES = [NetworkShape(1, 3, 5, 7), NetworkShape(3, 3, 6, 6), NetworkShape(2, 3, 5, 5), NetworkShape(1, 3, 32, 40)]


def analytic(shape: NetworkShape = SHAPES[0], std: float = 0.3) -> AnalyticNetwork:
    return AnalyticNetwork(shape=shape, std=std)


def make_run(
    shape: NetworkShape, seeds: tuple[int, ...] = (10, 11, 12), *, steps: int = 6, eta: float = 0.0, noise: bool = False
) -> Run:
    size = (shape.height, shape.width)
    maps = [np.random.default_rng(seed).integers(0, 4, size).astype(np.uint8) for seed in seeds]
    starts = [normal(seed + 1, (shape.image_channels, *size)) for seed in seeds]
    return Run(
        table=sampler_rows(Sampler.DDIM, analytic().schedule, steps, eta=eta),
        label_maps=np.stack(maps),
        encode_tables=np.stack([TABLE] * len(seeds))[None],
        seeds=seeds,
        noise=np.stack(starts) if noise else None,
    )


def empty(shape: NetworkShape, count: int, dtype: type = np.float32) -> NDArray[np.float32]:
    return np.full((count, shape.height, shape.width, shape.image_channels), 77, dtype)


def on_host(network: AnalyticNetwork, run: Run, dtype: type = np.float32) -> NDArray[np.float32]:
    out = empty(network.shape, len(run.seeds), dtype)
    HostSession(network, len(run.seeds), run.lanes).run(run, out)
    return out


def session_of(network: AnalyticNetwork, batch: int, lanes: int = 1) -> tuple[CudaSession, EmulatedStream]:
    stream = EmulatedStream()
    return CudaSession(EmulatedNetwork(network), stream, batch, lanes), stream


def on_gpu(network: AnalyticNetwork, run: Run, dtype: type = np.float32) -> NDArray[np.float32]:
    out = empty(network.shape, len(run.seeds), dtype)
    session_of(network, len(run.seeds), run.lanes)[0].run(run, out)
    return out


def assert_same(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    # Only the noise's double logarithms differ, by an edge of float32 now and then.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert (found != expected).mean() < 0.02


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("eta", "noise"), [(0.0, False), (0.7, False), (1.0, True)])
def test_it_draws_what_the_host_draws(shape: NetworkShape, eta: float, noise: bool) -> None:
    run = make_run(shape, eta=eta, noise=noise)
    assert_same(on_gpu(analytic(shape), run), on_host(analytic(shape), run))


@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_are_the_pixels_rounded(shape: NetworkShape) -> None:
    run = make_run(shape)
    found = on_gpu(analytic(shape), run, np.uint8)
    np.testing.assert_array_equal(found, np.rint(on_gpu(analytic(shape), run) * np.float32(255)))
    np.testing.assert_array_equal(found, on_host(analytic(shape), run, np.uint8))


def guided(run: Run) -> Run:
    rows = run.table.rows.copy()
    rows[:, Column.G] = 1.5
    tables = np.concatenate([run.encode_tables, np.stack([ablate(TABLE, [1, 3])] * len(run.seeds))[None]])
    return Run(RowTable(run.table.timesteps, rows), run.label_maps, tables, run.seeds)


def blended(run: Run, shape: NetworkShape, *, mapped: bool) -> Run:
    """Mix a real image in, with a weight of its own for every image of the batch."""
    count = len(run.seeds)
    rows = np.repeat(run.table.rows[None], count, axis=0)
    rows[:, 2, Column.M] = np.linspace(0, 1, count)
    rows[:, 2, Column.A], rows[:, 2, Column.B] = 0.8, 0.6
    rng = np.random.default_rng(5)
    real = rng.uniform(-1, 1, (count, shape.image_channels, shape.height, shape.width)).astype(np.float32)
    pixel_map = rng.uniform(0, 1, (count, shape.height, shape.width)).astype(np.float32) if mapped else None
    table = RowTable(run.table.timesteps, rows)
    return Run(table, run.label_maps, run.encode_tables, run.seeds, real=real, pixel_map=pixel_map)


@pytest.mark.parametrize("shape", SHAPES)
def test_guidance_takes_two_lanes(shape: NetworkShape) -> None:
    run = make_run(shape)
    found = on_gpu(analytic(shape), guided(run))
    assert_same(found, on_host(analytic(shape), guided(run)))
    assert np.abs(found - on_gpu(analytic(shape), run)).max() > 0.1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mapped", [False, True])
def test_a_real_image_is_blended_in(shape: NetworkShape, mapped: bool) -> None:
    run = make_run(shape)
    found = on_gpu(analytic(shape), blended(run, shape, mapped=mapped))
    assert_same(found, on_host(analytic(shape), blended(run, shape, mapped=mapped)))
    plain = on_gpu(analytic(shape), run)
    np.testing.assert_array_equal(found[0], plain[0])  # its weight is 0
    assert np.abs(found[2] - plain[2]).max() > 0.02


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("noise", [False, True])
def test_the_start_may_be_blended(shape: NetworkShape, noise: bool) -> None:
    run = make_run(shape, noise=noise)
    other = blended(run, shape, mapped=True)
    entries = np.zeros((3, len(Column)), np.float32)
    entries[:, Column.M], entries[:, Column.A], entries[:, Column.B] = (0, 0.5, 1), 0.6, 0.8
    run = replace(run, entries=entries, real=other.real, pixel_map=other.pixel_map)
    found = on_gpu(analytic(shape), run)
    assert_same(found, on_host(analytic(shape), run))
    plain = on_gpu(analytic(shape), make_run(shape, noise=noise))
    np.testing.assert_array_equal(found[0], plain[0])
    assert np.abs(found[2] - plain[2]).max() > 0.01


def test_the_blends_noise_is_the_seeds_own() -> None:
    shape = SHAPES[0]
    run = blended(make_run(shape, steps=3), shape, mapped=False)
    # The last row leaves nothing of x: the image is the noised real image.
    run.table.rows[:, 2, Column.M] = 1
    noise = np.stack([normal(seed, (1, 5, 7), stream=Stream.START) for seed in run.seeds])
    assert run.real is not None
    expected = np.float32(0.8) * run.real + np.float32(0.6) * noise
    np.testing.assert_allclose(on_gpu(analytic(), run)[..., 0], np.clip(expected / 2 + 0.5, 0, 1)[:, 0], atol=1e-6)


def test_an_image_does_not_depend_on_its_batch() -> None:
    shape = SHAPES[3]
    together = on_gpu(analytic(shape), make_run(shape, eta=0.7))
    for image, seed in enumerate((10, 11, 12)):
        np.testing.assert_array_equal(on_gpu(analytic(shape), make_run(shape, (seed,), eta=0.7))[0], together[image])


def test_one_graph_serves_every_image_of_a_number_of_steps() -> None:
    network, shape = analytic(), SHAPES[0]
    session, stream = session_of(network, 1)
    for seed in (1, 2, 3):
        out, run = empty(shape, 1), make_run(shape, (seed,), eta=0.2 * seed)
        session.run(run, out)
        assert_same(out, on_host(network, run))
    assert [graph.launches for graph in stream.graphs] == [3]
    session.run(make_run(shape, (1,), steps=9), empty(shape, 1))
    assert [graph.launches for graph in stream.graphs] == [3, 1]
    assert len(stream.graphs[0].work) == 1 + 2 * 6 + 1  # begin; network and update; finish


def test_the_latest_graphs_are_kept() -> None:
    session, stream = session_of(analytic(), 1)
    for steps in (1, 2, 3, 4, 1, 5, 1):
        session.run(make_run(SHAPES[0], (1,), steps=steps), empty(SHAPES[0], 1))
    assert [graph.closed for graph in stream.graphs] == [False, True, False, False, False]
    assert stream.graphs[0].launches == 3


def test_memory_is_fixed_after_the_first_image() -> None:
    session, stream = session_of(analytic(), 1)
    session.run(make_run(SHAPES[0], (0,), eta=1.0, noise=True), empty(SHAPES[0], 1))
    held = [len(memory) for memory in stream.memory]
    for seed in range(20):
        session.run(make_run(SHAPES[0], (seed,), eta=1.0, noise=True), empty(SHAPES[0], 1))
    assert [len(memory) for memory in stream.memory] == held
    session.close()
    assert stream.closed
    assert all(graph.closed for graph in stream.graphs)
    assert not stream.memory


def test_more_steps_than_ever_before_are_made_room_for() -> None:
    network, shape = analytic(), SHAPES[0]
    session, _ = session_of(network, 1)
    for steps in (2, 900, 2):
        out, run = empty(shape, 1), make_run(shape, (3,), steps=steps)
        session.run(run, out)
        assert_same(out, on_host(network, run))


def test_an_engine_that_cannot_be_captured_is_run_step_by_step() -> None:
    network, stream = analytic(), EmulatedStream()
    session = CudaSession(EmulatedNetwork(network, capturable=False), stream, 3)
    out, run = empty(SHAPES[0], 3), make_run(SHAPES[0])
    session.run(run, out)
    assert_same(out, on_host(network, run))
    assert not stream.graphs


def test_steps_are_told_and_may_stop_the_run() -> None:
    seen: list[Step] = []

    def stop_at_third(step: Step) -> None:
        seen.append(step)
        if step.index == 2:
            raise KeyboardInterrupt

    session, _ = session_of(analytic(), 1)
    run = make_run(SHAPES[0], (1,), steps=5)
    with pytest.raises(KeyboardInterrupt):
        session.run(run, empty(SHAPES[0], 1), stop_at_third)
    assert [(step.index, step.steps, step.timestep) for step in seen] == [(0, 5, 800), (1, 5, 600), (2, 5, 400)]
    out = empty(SHAPES[0], 1)
    session.run(run, out, seen.append)
    assert_same(out, on_host(analytic(), run))
    assert len(seen) == 3 + 5


def test_an_image_that_is_not_finite_is_an_error_and_the_next_one_is_not() -> None:
    session, _ = session_of(analytic(), 2)
    run = make_run(SHAPES[0], (1, 2), noise=True)
    assert isinstance(run.noise, np.ndarray)
    run.noise[1, 0, 2, 3] = np.nan
    with pytest.raises(EngineError, match="not finite"):
        session.run(run, empty(SHAPES[0], 2))
    session.run(make_run(SHAPES[0], (1, 2)), empty(SHAPES[0], 2))


def test_evaluate_is_one_call() -> None:
    network = analytic()
    x, mask = normal(0, (2, 1, 5, 7)), encode(make_run(SHAPES[0], (1, 2)).label_maps, TABLE)  # type: ignore[arg-type]
    expected = HostSession(network, 2).evaluate(x, mask, 500)
    session, _ = session_of(network, 2)
    for _ in range(2):
        np.testing.assert_array_equal(session.evaluate(x, mask, 500), expected)


def test_waiting_for_the_gpu_is_told_from_the_hosts_own_work(monkeypatch: pytest.MonkeyPatch) -> None:
    session, stream = session_of(analytic(), 1)
    clock, wait = [0.0], stream.synchronize
    monkeypatch.setattr("seggd_engines.cuda.session.time.perf_counter", lambda: clock[0])

    def take_two_seconds() -> None:
        clock[0] += 2
        wait()

    run = make_run(SHAPES[0], (1,), steps=3)
    session.run(run, empty(SHAPES[0], 1))
    assert session.waited_s == 0
    monkeypatch.setattr(stream, "synchronize", take_two_seconds)
    session.run(run, empty(SHAPES[0], 1))
    assert session.waited_s == 2
    session.call(3)
    assert session.waited_s == 4


def on_device(array: NDArray[np.generic]) -> DeviceArray:
    """Describe an array as device memory, which here is the host's."""
    return DeviceArray(array.ctypes.data, array.shape, array.dtype, "cuda:0", owner=array)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_guests_are_read_and_written_on_their_own_stream(dtype: type) -> None:
    network, shape = analytic(), SHAPES[0]
    session, _ = session_of(network, 2)
    caller = EmulatedStream()
    given = make_run(shape, (1, 2), noise=True)
    assert isinstance(given.noise, np.ndarray)
    assert isinstance(given.label_maps, np.ndarray)
    maps, noise, out = np.zeros_like(given.label_maps), np.zeros_like(given.noise), empty(shape, 2, dtype)
    later = empty(shape, 2, dtype)

    def fill() -> None:
        maps[...], noise[...] = given.label_maps, given.noise

    caller.enqueue(fill)  # the caller's own work comes first
    run = Run(given.table, on_device(maps), given.encode_tables, given.seeds, on_device(noise))
    session.enqueue(run, on_device(out), caller.handle)
    caller.enqueue(lambda: np.copyto(later, out))  # and what it does afterwards finds the images
    assert (out == 77).all(), "nothing has run yet"
    caller.synchronize()
    np.testing.assert_array_equal(later, on_gpu(network, given, dtype))
    session.synchronize()


def test_images_may_be_enqueued_one_after_the_other() -> None:
    network, shape = analytic(), SHAPES[0]
    session, _ = session_of(network, 1)
    caller, runs = EmulatedStream(), [make_run(shape, (seed,), eta=0.5) for seed in (1, 2, 3)]
    outs = [empty(shape, 1) for _ in runs]
    for run, out in zip(runs, outs, strict=True):
        session.enqueue(run, on_device(out), caller.handle)
    assert (outs[-1] == 77).all(), "the last image has not been waited for"
    session.synchronize()
    for run, out in zip(runs, outs, strict=True):
        assert_same(out, on_host(network, run))


@pytest.mark.parametrize(("flaw", "error"), [("label", LabelMapError), ("noise", EngineError)])
def test_what_was_wrong_with_a_guest_is_told_when_one_waits(flaw: str, error: type[Exception]) -> None:
    session, _ = session_of(analytic(), 1)
    caller, good = EmulatedStream(), make_run(SHAPES[0], (1,), noise=True)
    maps, noise, out = np.array(good.label_maps), np.array(good.noise), empty(SHAPES[0], 1)
    if flaw == "label":
        maps[0, 0, 0] = 4
    else:
        noise[0, 0, 0, 0] = np.inf
    bad = Run(good.table, on_device(maps), good.encode_tables, good.seeds, on_device(noise))
    session.enqueue(bad, on_device(out), caller.handle)
    session.enqueue(good, on_device(out), caller.handle)
    with pytest.raises(error):
        session.synchronize()
    session.synchronize()


def test_a_session_on_the_cpu_refuses_guests() -> None:
    run = make_run(SHAPES[0], (1,))
    bad = Run(run.table, on_device(np.array(run.label_maps)), run.encode_tables, run.seeds)
    with pytest.raises(EngineError, match="host memory"):
        HostSession(analytic(), 1).run(bad, empty(SHAPES[0], 1))


def test_streams_are_told_apart() -> None:
    first, second = EmulatedStream(), EmulatedStream()
    assert STREAMS[first.handle] is first
    assert STREAMS[second.handle] is second


Parts = Callable[[AnalyticNetwork, int], Session]


@pytest.fixture(params=["host", "cuda"])
def session_for(request: pytest.FixtureRequest) -> Parts:
    """Make a session of either kind."""
    return HostSession if request.param == "host" else lambda network, batch: session_of(network, batch)[0]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_in_parts_is_the_run_at_once(session_for: Parts, shape: NetworkShape, dtype: type) -> None:
    network, run = analytic(shape), make_run(shape, eta=0.5)
    whole, out, look = empty(shape, 3, dtype), empty(shape, 3, dtype), empty(shape, 3, dtype)
    session = session_for(network, 3)
    session.run(run, whole)
    session.start(run, dtype)
    for steps in (2, 1, 3):
        session.advance(steps)
        session.preview(look)
    session.finish(out)
    np.testing.assert_array_equal(out, whole)


def test_a_preview_shows_what_the_image_becomes(session_for: Parts) -> None:
    network = analytic(std=0.0)
    run = make_run(SHAPES[0], steps=6)
    session, look = session_for(network, 3), empty(SHAPES[0], 3)
    session.start(run)
    session.advance(1)
    session.preview(look)
    # With no spread the very first estimate of x0 is the answer.
    np.testing.assert_allclose(look[..., 0], network.mu(encode_all(run))[:, 0] / 2 + 0.5, atol=2e-3)


def encode_all(run: Run) -> NDArray[np.float32]:
    assert isinstance(run.label_maps, np.ndarray)
    return encode(run.label_maps, TABLE)


@pytest.mark.parametrize("sampler", [Sampler.DDIM, Sampler.DPM_SOLVER, Sampler.DPM_SOLVER_SDE])
def test_many_images_go_on_from_one(session_for: Parts, sampler: Sampler) -> None:
    network, run = analytic(), make_run(SHAPES[0], (5,))
    run = replace(run, table=sampler_rows(sampler, network.schedule, 8))
    whole, out = empty(SHAPES[0], 1), empty(SHAPES[0], 3)
    first, second = session_for(network, 1), session_for(network, 3)
    first.run(run, whole)
    first.start(run)
    first.advance(5)
    left = first.latents()
    if isinstance(second, CudaSession):
        second.wait_for(left.stream)
    rest = replace(
        run,
        label_maps=np.repeat(run.label_maps, 3, axis=0),
        encode_tables=np.repeat(run.encode_tables, 3, axis=1),
        seeds=run.seeds * 3,
        noise=repeated(left.x),
        last_x0=repeated(left.x0),
        first=5,
    )
    second.run(rest, out)
    for image in out:
        np.testing.assert_array_equal(image, whole[0])


def repeated(left: NDArray[np.float32] | DeviceArray) -> NDArray[np.float32] | DeviceArray:
    return left if isinstance(left, DeviceArray) else np.repeat(left, 3, axis=0)
