"""Call each vendor library once, in about a minute: `python -m benchmarks.gpu --smoke [PATTERN ...]` on a GPU.

It prints PASS, FAIL or SKIP for each item, so one run shows every problem of a new machine, driver or version.
It measures nothing. Items build on each other: the first FAIL explains the next ones.
"""

from __future__ import annotations

import faulthandler
import importlib
import importlib.metadata
import importlib.util
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.checks import sanitizer_driver
from benchmarks.gpu.contenders.while_loop import WhileSession
from benchmarks.gpu.machine.checkout import ROOT, portable
from seggd_engines.cuda import Bytes, CudaSession, CudaStream, DeviceStream, Kernel
from seggd_rt.diffusion import IMAGE_PSNR_DB, Precision, psnr_db
from seggd_rt.engine import DeviceArray, DeviceKind, NetworkShape, Run, registry
from seggd_rt.errors import DataError, EngineUnavailableError
from seggd_rt.gpu import find_gpus, is_guest, make_current, on_gpu, view, why_no_gpu

if TYPE_CHECKING:
    from seggd_rt.bundle import Bundle
    from seggd_rt.engine import AnyNetwork

DEVICE = "cuda:0"
_LEGACY = 1
_HUNG_S = 150
_LONGEST = 300
_TINY = ROOT / "tests" / "golden" / "tiny.seggd"
_PACKAGES = (
    "cuda-core", "cuda-bindings", "cuda-pathfinder", "numpy", "torch", "triton", "cupy-cuda13x", "numba-cuda",
    "diffusers", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx-cu13",
)  # fmt: skip


class Skip(Exception):  # noqa: N818 - no error
    """An item that cannot be tried here, and why."""


class Item(NamedTuple):
    """What is tried, under a name."""

    name: str
    work: Callable[[], str | None]
    """Raises where something is wrong; returns what is worth telling."""


def new_stream() -> DeviceStream:
    """Return a stream on the first GPU, which is current from then on."""
    stream = CudaStream(0)
    make_current(0)
    return stream


def expect(found: object, expected: object, what: str) -> None:
    """Raise where something is not what it should be."""
    if isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected, err_msg=what)
    elif found != expected:
        raise AssertionError(f"{what}: {found!r}, not {expected!r}")


def near(found: NDArray[np.float32], expected: NDArray[np.float32], what: str) -> None:
    """Raise where images differ by more than an algorithm's own unrest."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-3, err_msg=what)


# cuda.core and the driver


def streams() -> str:
    """Compile by NVRTC, load, and close."""
    stream = new_stream()
    told = ""
    if isinstance(stream, CudaStream):
        attributes = {kernel: stream._kernels[kernel].attributes for kernel in Kernel}
        told = ", ".join(
            f"{name} {a.num_regs} registers, {a.local_size_bytes} B local" for name, a in attributes.items()
        )
    stream.close()
    return told


def memory() -> None:
    """Allocate, upload, copy, clear and download."""
    stream = new_stream()
    first, second = stream.allocate(1000), stream.allocate(4 << 20)
    expect([address % 256 for address in (first, second)], [0, 0], "alignment")
    values, found = filled(stream, 1000, 7), filled(stream, 1000, 0)
    stream.upload(first, values)
    stream.copy(second, first, 1000)
    stream.clear(second + 8, 8)
    stream.download(found, second)
    stream.synchronize()
    expected = np.full(1000, 7, np.uint8)
    expected[8:16] = 0
    expect(found.copy(), expected, "what came back")
    stream.close()


def graphs() -> None:
    """Record a copy, a memset and a copy back; nothing runs meanwhile, and each launch reads anew."""
    stream = new_stream()
    address = stream.allocate(256)
    values, found = filled(stream, 256, 1), filled(stream, 256, 99)

    def work() -> None:
        stream.upload(address, values)
        stream.clear(address, 4)
        stream.download(found, address)

    graph = stream.capture(work)
    stream.synchronize()
    expect(found[-1], 99, "a byte before the first launch")
    for value in (2, 3):
        values[:] = value
        graph.launch()
        stream.synchronize()
        expect((found[0], found[-1]), (0, value), "a byte after a launch")
    graph.close()
    stream.close()


def broken_recordings() -> None:
    """Fail while recording, by an exception and by CUDA; the stream works on, and the errors are told."""
    stream = new_stream()
    address, found = stream.allocate(256), filled(stream, 256, 99)

    def forbidden() -> None:
        raise ValueError("on purpose")

    for work in (forbidden, stream.synchronize):
        try:
            stream.capture(work).close()
        except Exception as error:  # noqa: BLE001 - whichever it is
            if work is forbidden:
                expect(str(error), "on purpose", "the error")
        else:
            raise AssertionError("no error was told")
        stream.clear(address, 256)
        stream.download(found, address)
        stream.synchronize()
        expect(found[0], 0, "a byte after it")
    stream.capture(lambda: stream.clear(address, 4)).close()
    stream.close()


def order() -> None:
    """Marks, recorded again; waiting for another stream, and holding it back; CUDA's default stream too."""
    first, second = new_stream(), new_stream()
    address, found = first.allocate(256), filled(first, 256, 99)
    for _ in range(3):
        first.clear(address, 256)
        mark = first.mark()
    mark.wait()
    second.wait_for(first.handle)
    second.download(found, address)
    second.hold_back(first.handle)
    first.synchronize()
    expect(found[0], 0, "a byte")
    if isinstance(first, CudaStream):
        first.wait_for(_LEGACY)
        first.hold_back(_LEGACY)
        first.synchronize()
    second.close()
    first.close()


def threads() -> None:
    """Use a stream made by one thread in another that has no context yet."""
    stream = new_stream()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with stream.active():
                address, found = stream.allocate(256), filled(stream, 256, 99)
                graph = stream.capture(lambda: stream.clear(address, 256))
                graph.launch()
                stream.download(found, address)
                stream.mark().wait()
                stream.synchronize()
                expect(found[0], 0, "a byte")
                graph.close()
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            failures.append(error)

    in_thread(work, failures)
    stream.close()


def kernels() -> str:
    """Draw every kind of run, as one graph and step by step, and compare with the host."""
    return f"{sanitizer_driver.drive(new_stream)} images"


def while_node() -> None:
    """Draw runs of several lengths by one graph with a while-node, and compare with a graph of each."""
    stream = new_stream()
    if not isinstance(stream, CudaStream):
        raise Skip("no GPU's own stream")
    shape, other = NetworkShape(1, 3, 32, 40), new_stream()
    session = WhileSession(sanitizer_driver.CopyNetwork(shape, stream), stream, 3)
    plain = CudaSession(sanitizer_driver.CopyNetwork(shape, other), other, 3)
    for steps in (5, 8, 1):
        run = sanitizer_driver.make_run(shape, steps=steps)
        expect(drawn(session, shape, run), drawn(plain, shape, run), f"an image of {steps} steps")
    session.close()
    plain.close()


def given_back() -> str:
    """See that closing gives device memory back."""
    driver: Any = module("cuda.bindings.driver")

    def used() -> int:
        _, free, total = driver.cuMemGetInfo()
        return int(total) - int(free)

    new_stream().close()
    before = used()
    stream = new_stream()
    stream.allocate(512 << 20)
    stream.synchronize()
    held = used() - before
    stream.close()
    left = used() - before
    if held < 512 << 20 or left > 4 << 20:
        raise AssertionError(f"{held >> 20} MiB held, {left >> 20} MiB left")
    return f"{left >> 10} KiB left"


# Guests


def torch_guests() -> None:
    """PyTorch's tensors, on CUDA's default stream and on another, read in a thread without a context."""
    torch = torch_here()
    tensor = torch.arange(12, dtype=torch.float32, device=DEVICE).reshape(3, 4)
    stream = torch.cuda.Stream()
    for handle in (_LEGACY, stream.cuda_stream):
        guest = view(tensor, "x", handle, writable=True, device=DEVICE)
        found = (guest.address, guest.shape, guest.dtype, guest.device)
        expect(found, (tensor.data_ptr(), (3, 4), np.dtype(np.float32), DEVICE), "a view")
    expect(view(tensor.byte(), "x", _LEGACY, device=DEVICE).dtype, np.dtype(np.uint8), "a type")
    expect((is_guest(tensor), is_guest(tensor.cpu())), (True, False), "who is a guest")
    try:
        view(tensor.T, "x", _LEGACY, device=DEVICE)
    except DataError:
        pass
    else:
        raise AssertionError("a transposed tensor was taken")
    failures: list[BaseException] = []

    def work() -> None:
        try:
            view(tensor, "x", _LEGACY, device=DEVICE)
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            failures.append(error)

    in_thread(work, failures)
    torch.cuda.synchronize()


def cupy_guests() -> None:
    """CuPy's arrays."""
    cupy: Any = module("cupy")
    array, stream = cupy.arange(12, dtype=cupy.uint8).reshape(3, 4), cupy.cuda.Stream(non_blocking=True)
    for handle in (_LEGACY, stream.ptr):
        guest = view(array, "x", handle, writable=True, device=DEVICE)
        expect((guest.address, guest.shape, guest.dtype), (array.data.ptr, (3, 4), np.dtype(np.uint8)), "a view")


def numba_guests() -> None:
    """Numba's arrays, by `__cuda_array_interface__`."""
    cuda: Any = module("numba.cuda")
    array = cuda.to_device(np.arange(12, dtype=np.float32).reshape(3, 4))
    guest = view(array, "x", _LEGACY, writable=True, device=DEVICE)
    expect((guest.shape, guest.dtype), ((3, 4), np.dtype(np.float32)), "a view")


# PyTorch's network in a session


def torch_session(precision: Precision, compiled: str | None = None) -> None:
    """Draw with PyTorch's network as one graph: the same as step by step, and after PyTorch's memory was used again."""
    torch = torch_here()
    module("diffusers")
    from benchmarks.torch_network import DTYPES, TorchNetwork
    from seggd_training.loop import build_unet, unet_config

    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    unet = build_unet(unet_config("tiny", image_channels=1, mask_channels=3, size=(32, 48)))
    network = TorchNetwork(unet, device=DEVICE, dtype=DTYPES[precision], compile=compiled)
    shape, session = network.shape, network.session(3)
    run = sanitizer_driver.make_run(shape)
    as_graph = drawn(session, shape, run)
    stepwise = np.zeros_like(as_graph)
    session.run(run, stepwise, lambda step: None)
    near(as_graph, stepwise, "an image")
    torch.cuda.empty_cache()
    junk = torch.full((64 << 20,), float("nan"), device=DEVICE)
    near(drawn(session, shape, run), as_graph, "an image after PyTorch's memory was used again")
    del junk
    session.close()
    network.close()


def torch_enqueues() -> None:
    """Draw into a tensor, in the order of PyTorch's stream."""
    torch = torch_here()
    shape = NetworkShape(1, 3, 32, 40)
    stream = new_stream()
    session = CudaSession(sanitizer_driver.CopyNetwork(shape, stream), stream, 3)
    run, caller = sanitizer_driver.make_run(shape), torch.cuda.Stream()
    expected = drawn(session, shape, run)
    for handle, at in ((caller.cuda_stream, caller), (_LEGACY, torch.cuda.default_stream())):
        with torch.cuda.stream(at):
            out = torch.full((3, 32, 40, 1), 77.0, device=DEVICE)
            target = DeviceArray(out.data_ptr(), tuple(out.shape), np.dtype(np.float32), DEVICE, out)
            session.enqueue(run, target, handle)
            expect(out.cpu().numpy(), expected, "an image")
        session.synchronize()
    session.close()


# Engines


def engine(name: str, precision: Precision) -> str:
    """Open a bundle, draw its golden image twice, and in a thread of its own."""
    from seggd_rt.inference import load

    with load(_TINY, engine=name, precision=precision, device=DEVICE) as generator:
        golden, steps = generator.bundle.golden, generator.manifest.check.steps

        def draw() -> NDArray[np.float32]:
            image: NDArray[np.float32] = generator(golden.label_map, noise=golden.noise, steps=steps)
            return image

        image, failures = draw(), list[BaseException]()
        expect(draw(), image, "the image again")

        def work() -> None:
            try:
                expect(draw(), image, "the image in another thread")
            except BaseException as error:  # noqa: BLE001 - raised in the main thread
                failures.append(error)

        in_thread(work, failures)
        db = psnr_db(image[None], golden.image)
        if precision is Precision.FP32 and db < IMAGE_PSNR_DB:
            raise AssertionError(f"{db:.1f} dB from the golden image")
        return f"{db:.1f} dB"


def engine_layers(name: str, device: str = DEVICE) -> str:
    """Let an engine time its layers, or skip where it cannot tell."""
    from seggd_rt.inference import load

    with load(_TINY, engine=name, precision=Precision.FP32, device=device) as generator:
        generator(generator.bundle.golden.label_map, steps=1)
        with generator.acquire(1) as session:
            try:
                found = session.profile(3)
            except EngineUnavailableError as reason:
                raise Skip(str(reason)) from reason
        told = sum(layer.ms for layer in found.layers)
        if not told > 0:
            raise AssertionError(f"{len(found.layers)} layers take {told} ms")
        return f"{len(found.layers)} layers, {told:.3f} of {found.step_ms:.3f} ms"


def rtx_unlisted(capabilities: tuple[str, ...]) -> str:
    """Draw with TensorRT-RTX on a GPU that it does not list, by a plan for it or for others; skip where it lists it."""
    from seggd_engines.tensorrt import BuildOptions, Flavour, PlanCache, TensorRTNetwork, find_or_build
    from seggd_rt.bundle import Bundle
    from seggd_rt.engine import EngineInfo
    from seggd_rt.gpu import find_gpu
    from seggd_rt.inference import network_shape

    flavour, gpu = Flavour.TENSORRT_RTX, find_gpu(DEVICE)
    if not flavour.installed:
        raise Skip("not installed")
    tensorrt = flavour.load()
    if gpu.capability in tensorrt.capabilities:
        raise Skip(f"it lists {gpu.capability}")
    bundle, cache, precision = Bundle.open(_TINY), PlanCache.of_user(), Precision.FP32
    graph, shape = bundle.read_graph(bundle.graph(precision)), network_shape(bundle.manifest)
    plan = find_or_build(
        cache, graph, shape, BuildOptions(flavour, precision, compute_capabilities=capabilities), gpu=gpu
    )
    info = EngineInfo(flavour.value, tensorrt.version, DEVICE, gpu.name, precision)
    with on_gpu(gpu.ordinal):
        network = TensorRTNetwork(tensorrt, plan, graph, shape, info, gpu, cache)
    return f"{tensorrt.version} runs on {gpu.capability}: {golden_db(bundle, network):.1f} dB"


def onnxruntime_recorded() -> str:
    """Let the session record ONNX Runtime's calls in the whole loop's graph; where one forbids it, this may crash."""
    from seggd_engines.onnxruntime import OnnxRuntimeCudaEngine
    from seggd_rt.bundle import Bundle
    from seggd_rt.inference import open_network

    engine = OnnxRuntimeCudaEngine({"enable_cuda_graph": "0"})
    there = engine.availability(DEVICE)
    if not there.usable:
        raise Skip(there.reason)
    bundle = Bundle.open(_TINY)
    network = open_network(bundle, engine, Precision.FP32, DEVICE)
    return f"{there.version}: {golden_db(bundle, network):.1f} dB"


def golden_db(bundle: Bundle, network: AnyNetwork) -> float:
    """Return how near a network in fp32 comes to the bundle's golden image; raise where it misses it. It is closed."""
    from seggd_rt.inference import Generator

    golden = bundle.golden
    with Generator(bundle, network) as generator:
        image = generator(golden.label_map, noise=golden.noise, steps=bundle.manifest.check.steps)
    db = psnr_db(image[None], golden.image)
    if db < IMAGE_PSNR_DB:
        raise AssertionError(f"{db:.1f} dB from the golden image")
    return db


# How it goes


def items() -> list[Item]:
    """Return what is tried, in order."""
    found = [
        Item("cuda.core: stream, NVRTC, kernels", streams),
        Item("driver: memory and copies", memory),
        Item("driver: graphs", graphs),
        Item("cuda.core: marks and order", order),
        Item("cuda.core: another thread", threads),
        Item("cuda.core: memory is given back", given_back),
        Item("kernels: as the host draws", kernels),
        Item("driver: a while-node", while_node),
        Item("driver: broken recordings", broken_recordings),
        Item("guests: PyTorch", torch_guests),
        Item("guests: CuPy", cupy_guests),
        Item("guests: Numba", numba_guests),
        Item("PyTorch: enqueue", torch_enqueues),
        Item("PyTorch: fp32 in a graph", lambda: torch_session(Precision.FP32)),
        Item("PyTorch: fp16 in a graph", lambda: torch_session(Precision.FP16)),
        Item("PyTorch: compiled, in a graph", lambda: torch_session(Precision.FP16, "default")),
    ]
    for each in (each for each in registry.engines() if each.kind is DeviceKind.CUDA):
        there = each.availability(DEVICE)
        if there.usable:
            found.append(Item(f"{each.name}: fp32", lambda name=each.name: engine(name, Precision.FP32)))  # type: ignore[misc]
            found.append(Item(f"{each.name}: layers", lambda name=each.name: engine_layers(name)))  # type: ignore[misc]
        else:
            found.append(Item(each.name, lambda reason=there.reason: skip(reason)))  # type: ignore[misc]
    for capability in ("current", "8.0"):
        name = f"tensorrt-rtx: a plan for {capability} on a GPU that is not listed"
        found.append(Item(name, lambda capability=capability: rtx_unlisted((capability,))))  # type: ignore[misc]
    found.append(Item("onnxruntime-cuda: recorded by the session", onnxruntime_recorded))
    return found


def attempt(item: Item) -> tuple[str, str]:
    """Try an item; return PASS, FAIL or SKIP, and what there is to tell."""
    try:
        return "PASS", item.work() or ""
    except Skip as reason:
        return "SKIP", str(reason)
    except Exception as error:  # noqa: BLE001 - the next item is tried whatever went wrong with this one
        places = [
            f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
        ]
        message = portable(" ".join(str(error).split()))[:_LONGEST]
        return "FAIL", f"{type(error).__name__}: {message} ({' > '.join(places[1:][-4:])})"


def main(chosen: Sequence[Item] | None = None, *, only: Sequence[str] = ()) -> int:
    """Try everything, or only items of such names; return the exit code.

    It is 0, 1 where something failed, 2 where there is no GPU or no such item.
    """
    if chosen is None:
        reason = why_no_gpu()
        if reason is not None:
            print(f"error: {reason}", file=sys.stderr)
            return 2
        print(", ".join(f"{gpu.name} {gpu.capability}" for gpu in find_gpus()))
        chosen = items()
    if only:
        chosen = [item for item in chosen if any(fnmatchcase(item.name, pattern) for pattern in only)]
        if not chosen:
            print(f"error: --smoke matches no item ({' '.join(only)}): leave the pattern out", file=sys.stderr)
            return 2
    faulthandler.enable(file=2)
    print(", ".join(f"{name} {version}" for name in _PACKAGES if (version := installed(name))), flush=True)
    failed, began = 0, time.monotonic()
    for item in chosen:
        faulthandler.dump_traceback_later(_HUNG_S, exit=True, file=2)  # a hang in C hears no signal
        started = time.monotonic()
        state, told = attempt(item)
        faulthandler.cancel_dump_traceback_later()
        failed += state == "FAIL"
        line = f"{state} {item.name} ({time.monotonic() - started:.1f} s)"
        print(f"{line}: {told}" if told else line, flush=True)
    print(f"{failed} of {len(chosen)} failed in {time.monotonic() - began:.0f} s", flush=True)
    return 1 if failed else 0


def installed(package: str) -> str | None:
    """Return a package's version, if it is there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def module(name: str) -> Any:
    """Import a module, or skip the item."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        raise Skip("not installed")
    return importlib.import_module(name)


def torch_here() -> Any:
    """Return PyTorch, or skip the item."""
    torch = module("torch")
    if not torch.cuda.is_available():
        raise Skip(f"PyTorch {torch.__version__} sees no GPU")
    return torch


def skip(reason: str) -> None:
    """Skip an item."""
    raise Skip(reason)


def filled(stream: DeviceStream, size: int, value: int) -> Bytes:
    """Return pinned memory of one value."""
    memory = stream.pinned(size)
    memory[:] = value
    return memory


def drawn(session: CudaSession, shape: NetworkShape, run: Run) -> NDArray[np.float32]:
    """Return the images of a run, drawn as one graph."""
    out = np.full((session.batch, shape.height, shape.width, shape.image_channels), 77, np.float32)
    session.run(run, out)
    return out


def in_thread(work: Callable[[], None], failures: list[BaseException]) -> None:
    """Run work in a thread of its own, and raise what it put into `failures`."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
