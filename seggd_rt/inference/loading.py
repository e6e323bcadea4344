"""From a bundle to a generator: choose an engine, open the graph, check it against the bundle's golden run."""

from __future__ import annotations

import re
from pathlib import Path

from seggd_rt.bundle import Bundle, Manifest
from seggd_rt.diffusion import IMAGE_PSNR_DB, Precision
from seggd_rt.engine import (
    AnyNetwork,
    DeviceKind,
    Engine,
    EngineInfo,
    NetworkShape,
    SelfCheck,
    Session,
    check_threads,
    registry,
    require_equal_rows,
)
from seggd_rt.errors import EngineError, EngineUnavailableError, OptionError
from seggd_rt.gpu import find_gpus
from seggd_rt.inference.generator import Generator

AUTO = "auto"
_DEVICE = re.compile(r"cpu|cuda:\d+")


def load(
    path: str | Path,
    *,
    engine: str = AUTO,
    precision: str = AUTO,
    device: str = AUTO,
    threads: int | None = None,
    require_signature: str | Path | None = None,
) -> Generator:
    """Open a bundle, choose an engine and check it against the bundle's golden states.

    Parameters
    ----------
    path
        The bundle's folder.
    engine
        "tensorrt", "tensorrt-rtx" or "onnxruntime-cuda" on a GPU, "openvino" or "onnxruntime" on the CPU; or "auto":
        the first of this order that can run here.
    precision
        "fp32", "fp16", "bf16", or "auto": the engine's own choice where its whole image reaches 40 dB PSNR against
        PyTorch's fp32, else fp32.
    device
        "cpu", "cuda:0" (or another GPU's number), or "auto": the first GPU, else the CPU.
    threads
        CPU threads a network call may use, at most as many as there are cores; the engine's own choice by default.
    require_signature
        An Ed25519 public key, PEM: a bundle that is not signed by it, or not as it was signed, is refused before any
        engine sees it.

    Raises
    ------
    BundleError
        The bundle is not one, not whole, or lacks the graph; a `SignatureError` where it is not signed as required.
    DataError
        The public key cannot be read.
    OptionError
        A name is unknown, or `threads` is out of range.
    EngineUnavailableError
        No engine can run here as asked; the message says what to install.
    EngineCheckError
        The engine's outputs miss the golden states.
    """
    bundle = Bundle.open(path, require_signature=require_signature)
    return load_bundle(bundle, engine=engine, precision=precision, device=device, threads=threads)


def load_bundle(
    bundle: Bundle,
    *,
    engine: str = AUTO,
    precision: str = AUTO,
    device: str = AUTO,
    threads: int | None = None,
) -> Generator:
    """Do as `load` does with a bundle that is open, and that several generators may share."""
    devices = _devices(device)
    check_threads(threads)
    wanted = None if precision == AUTO else _precision(precision)
    if engine != AUTO:
        chosen = registry.find_engine(engine)
        place = next((place for place in devices if place.startswith(chosen.kind)), devices[0])
        if device == AUTO and chosen.kind is DeviceKind.CUDA:
            place = "cuda:0"  # where there is no GPU, the engine says why
        return _open(bundle, chosen, wanted, place, threads, ())
    passed_over = [f"{failed.name}: {failed.reason}" for failed in registry.failed_engines()]
    for place in devices:
        for candidate in registry.engines():
            if not place.startswith(candidate.kind):
                continue
            reason = _unfit(candidate, wanted, place)
            if reason is None:
                return _open(bundle, candidate, wanted, place, threads, tuple(passed_over))
            passed_over.append(f"{candidate.name}: {reason}")
    reasons = "; ".join(passed_over) or "no engine is registered, so install seggd-rt with pip"
    raise EngineUnavailableError(f"no engine can run on {' or '.join(devices)}: {reasons}")


def _open(
    bundle: Bundle,
    engine: Engine,
    precision: Precision | None,
    device: str,
    threads: int | None,
    notes: tuple[str, ...],
) -> Generator:
    """Open a bundle with one engine, in one precision or in its own choice of them."""
    there = engine.availability(device)
    unfit = _unfit(engine, precision, device)
    if unfit is not None:
        raise EngineUnavailableError(f"engine {engine.name}: {unfit}")
    # Also where its outcome is recalled and the golden run is not read: a bundle that was changed must not pass.
    bundle.check_file()
    check = SelfCheck(bundle)
    graphs = {graph.precision for graph in bundle.manifest.graphs}
    own = [choice for choice in there.precisions if engine.graph_precision(choice) in graphs]
    for candidate in (precision,) if precision else own or there.precisions[:1]:
        generator = Generator(bundle, open_network(bundle, engine, candidate, device, threads), notes)
        try:
            with generator.acquire(1) as session:
                if precision is not None or candidate is Precision.FP32:
                    check.states(session, generator.engine).require(generator.engine)
                    flaw = None
                else:
                    flaw = _flaw(check, session, generator.engine)
            if flaw is None and engine.kind is DeviceKind.CUDA and generator.max_batch != 1:
                with generator.acquire(2) as pair:
                    require_equal_rows(check.equal_rows(pair, generator.engine), generator.engine)
        except BaseException:
            generator.close()
            raise
        if flaw is None:
            return generator
        generator.close()
        notes = (*notes, f"{engine.name} in {candidate}: {flaw}")
    raise EngineUnavailableError(f"engine {engine.name} can use none of its precisions: {'; '.join(notes)}")


def _flaw(check: SelfCheck, session: Session, info: EngineInfo) -> str | None:
    """Return why `auto` passes a lower precision over, or None."""
    try:
        found = check.image(session, info)
        if not found.psnr_db >= IMAGE_PSNR_DB:
            return f"the golden image reaches {found.psnr_db:.1f} dB of {IMAGE_PSNR_DB:g}"
        found.require(info)
    except EngineError as error:  # its outputs miss the golden states, or are not finite
        return str(error)
    return None


def open_network(
    bundle: Bundle, engine: Engine, precision: Precision, device: str, threads: int | None = None
) -> AnyNetwork:
    """Open a bundle's graph with an engine, unchecked: see `Engine.open`."""
    graph = bundle.read_graph(bundle.graph(engine.graph_precision(precision)))
    return engine.open(graph, network_shape(bundle.manifest), device=device, precision=precision, threads=threads)


def network_shape(manifest: Manifest) -> NetworkShape:
    """Return the sizes of a bundle's network."""
    image = manifest.image
    return NetworkShape(image.channels, manifest.mask_channels, image.height, image.width)


def _unfit(engine: Engine, precision: Precision | None, device: str) -> str | None:
    """Return why `auto` passes an engine over, or None."""
    there = engine.availability(device)
    if not there.usable:
        return there.reason
    if precision is not None and precision not in there.precisions:
        return f"it computes in {', '.join(there.precisions)} here, not in {precision}"
    return None


def _devices(device: str) -> tuple[str, ...]:
    """Return the devices that may be used, the best first."""
    if device == AUTO:
        return ("cuda:0", "cpu") if find_gpus() else ("cpu",)
    device = "cuda:0" if device == "cuda" else device
    if not _DEVICE.fullmatch(device):
        raise OptionError(f"there is no device '{device}': there are cpu, cuda:0 (and so on) and auto")
    return (device,)


def _precision(name: str) -> Precision:
    if name not in list(Precision):
        raise OptionError(f"there is no precision '{name}': there are {', '.join(Precision)} and auto")
    return Precision(name)
