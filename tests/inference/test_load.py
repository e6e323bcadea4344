"""Loading: which engine and precision `auto` takes, what it says, and how engines are checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import seggd_rt
from seggd_engines.host import HostSession
from seggd_engines.onnxruntime import OnnxRuntimeEngine
from seggd_rt.bundle import OnnxGraph
from seggd_rt.diffusion import IMAGE_PSNR_DB, Precision
from seggd_rt.engine import Availability, Buffer, DeviceKind, EngineInfo, Network, NetworkShape, registry
from seggd_rt.errors import BundleError, EngineCheckError, EngineUnavailableError, IntegrityError, OptionError
from tests.bundles import TINY, copy_bundle, edit_manifest
from tests.engines.analytic import host_array

pytestmark = pytest.mark.usefixtures("needs_onnxruntime")
BOTH = (Precision.BF16, Precision.FP32)


@dataclass
class Lossy:
    """ONNX Runtime with outputs off by a factor."""

    network: Network
    info: EngineInfo
    error: float

    @property
    def shape(self) -> NetworkShape:
        return self.network.shape

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer) -> Callable[[], None]:
        call, output = self.network.bind(sample, timestep, out), host_array(out)

        def lossy() -> None:
            call()
            np.multiply(output, np.float32(1 + self.error), out=output)

        return lossy

    def session(self, batch: int, lanes: int = 1) -> HostSession:
        return HostSession(self, batch, lanes)

    def close(self) -> None:
        self.network.close()


@dataclass
class LossyEngine:
    """An engine whose error in each precision is stated."""

    name: str
    errors: dict[Precision, float] = field(default_factory=lambda: {Precision.FP32: 0.0})
    reason: str = ""
    version: str = "1"
    opened: list[Precision] = field(default_factory=list)
    kind: DeviceKind = DeviceKind.CPU

    def availability(self, device: str) -> Availability:
        return Availability(not self.reason, self.version, "here", tuple(self.errors), self.reason)

    def graph_precision(self, precision: Precision) -> Precision:
        return Precision.FP32

    def open(
        self, graph: OnnxGraph, shape: NetworkShape, *, device: str, precision: Precision, threads: int | None
    ) -> Network:
        self.opened.append(precision)
        network = OnnxRuntimeEngine().open(graph, shape, device=device, precision=Precision.FP32, threads=1)
        info = dataclasses.replace(network.info, engine=self.name, version=self.version, precision=precision)
        return Lossy(network, info, self.errors[precision])


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Put engines in the place of those there are, with a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def replace(*fakes: LossyEngine) -> None:
        monkeypatch.setattr(registry, "engines", lambda: fakes)

    return replace


def test_auto_takes_the_first_that_can_and_says_what_it_passed_over(engines: Callable[..., None]) -> None:
    engines(LossyEngine("first", reason="not installed: pip install it"), LossyEngine("second"), LossyEngine("third"))
    with seggd_rt.load(TINY) as generator:
        assert generator.engine.engine == "second"
        assert generator.engine.notes == ("first: not installed: pip install it",)


def test_auto_takes_the_first_that_has_the_precision(engines: Callable[..., None]) -> None:
    engines(LossyEngine("first"), LossyEngine("second", dict.fromkeys(BOTH, 0.0)))
    with seggd_rt.load(TINY, precision="bf16") as generator:
        assert (generator.engine.engine, generator.engine.precision) == ("second", Precision.BF16)
        assert generator.engine.notes == ("first: it computes in fp32 here, not in bf16",)


@pytest.mark.parametrize(("error", "taken"), [(1e-3, Precision.BF16), (3e-1, Precision.FP32)])
def test_a_lower_precision_is_taken_only_where_the_image_is_good(
    engines: Callable[..., None], error: float, taken: Precision
) -> None:
    engines(LossyEngine("fake", {Precision.BF16: error, Precision.FP32: 0.0}))
    with seggd_rt.load(TINY) as generator:
        assert generator.engine.precision is taken
        if taken is Precision.FP32:
            (note,) = generator.engine.notes
            assert f"dB of {IMAGE_PSNR_DB:g}" in note


def test_a_lower_precision_must_also_meet_the_golden_states(
    engines: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seggd_rt.engine.self_check.psnr_db", lambda image, reference: 50.0)
    engines(LossyEngine("fake", {Precision.BF16: 6e-2, Precision.FP32: 0.0}))
    with seggd_rt.load(TINY) as generator:
        assert generator.engine.precision is Precision.FP32
        (note,) = generator.engine.notes
        assert "misses the bundle's golden states by 6.0e-02" in note


def test_a_lower_precision_that_is_not_finite_is_passed_over(engines: Callable[..., None]) -> None:
    engines(LossyEngine("fake", {Precision.BF16: np.inf, Precision.FP32: 0.0}))
    for _ in range(2):
        with np.errstate(invalid="ignore"), seggd_rt.load(TINY) as generator:
            assert generator.engine.precision is Precision.FP32
            assert "not finite" in generator.engine.notes[0]


def test_an_equal_image_is_also_good_where_the_check_is_recalled(
    engines: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seggd_rt.engine.self_check.psnr_db", lambda image, reference: float("inf"))
    engines(LossyEngine("fake", dict.fromkeys(BOTH, 0.0)))
    for _ in range(2):
        with seggd_rt.load(TINY) as generator:
            assert generator.engine.precision is Precision.BF16


def test_what_is_refused_is_closed(engines: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Lossy] = []
    monkeypatch.setattr(Lossy, "close", lambda network: closed.append(network))
    engines(LossyEngine("fake", {Precision.FP32: 1.0}))
    with pytest.raises(EngineCheckError):
        seggd_rt.load(TINY)
    assert len(closed) == 1


def test_an_engine_that_is_wrong_is_refused(engines: Callable[..., None]) -> None:
    engines(LossyEngine("fake", {Precision.FP32: 2e-5, Precision.BF16: 6e-2}))
    with pytest.raises(EngineCheckError, match=r"fp32 on .* misses the bundle's golden states by 2.0e-05, over 1e-05"):
        seggd_rt.load(TINY, precision="fp32")
    with pytest.raises(EngineCheckError, match=r"by 6.0e-02, over 5e-02: .* try precision='fp32'"):
        seggd_rt.load(TINY, precision="bf16")


def test_the_check_is_made_once_for_a_bundle_engine_and_version(
    engines: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seggd_rt.engine import self_check

    made: list[str] = []
    measure = self_check.SelfCheck._measure_states

    def counted(self, session):  # type: ignore[no-untyped-def]
        made.append(self.bundle.path.name)
        return measure(self, session)

    monkeypatch.setattr(self_check.SelfCheck, "_measure_states", counted)
    engines(LossyEngine("fake"))
    seggd_rt.load(TINY).close()
    seggd_rt.load(TINY).close()
    assert len(made) == 1
    engines(LossyEngine("fake", version="2"))
    seggd_rt.load(TINY).close()
    assert len(made) == 2
    other = copy_bundle(TINY, tmp_path)
    edit_manifest(other, {"name": "other"})
    seggd_rt.load(other).close()
    assert len(made) == 3
    for path in (tmp_path / "cache").rglob("*.json"):
        path.write_text("damaged")
    with pytest.warns(RuntimeWarning, match="damaged: the check it keeps is made again"):
        seggd_rt.load(other).close()
    assert len(made) == 4


def test_a_changed_check_file_is_noticed_also_where_the_check_is_recalled(
    engines: Callable[..., None], tmp_path: Path
) -> None:
    engines(LossyEngine("fake"))
    bundle = copy_bundle(TINY, tmp_path)
    seggd_rt.load(bundle).close()
    with (bundle / "check.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(IntegrityError, match="changed after export"):
        seggd_rt.load(bundle)


@pytest.mark.parametrize(
    "change",
    [
        {"schedule.prediction": "v"},
        {"schedule.beta_end": 0.03},
        {"classes.1.name": "myocardium", "classes.2.name": "cavity"},
    ],
)
def test_an_edited_manifest_is_not_loaded(
    engines: Callable[..., None], tmp_path: Path, change: dict[str, object]
) -> None:
    engines(LossyEngine("fake"))
    bundle = copy_bundle(TINY, tmp_path)
    edit_manifest(bundle, change)
    with pytest.raises(IntegrityError, match="was edited after export"):
        seggd_rt.load(bundle)


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    engines: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    engines(LossyEngine("fake", dict.fromkeys(BOTH, 0.0)))
    with pytest.warns(RuntimeWarning, match="cannot be kept") as warned:
        seggd_rt.load(TINY).close()
    assert len(warned) == 1


def test_a_cache_entry_that_cannot_be_replaced_is_no_obstacle(engines: Callable[..., None], tmp_path: Path) -> None:
    engines(LossyEngine("fake"))
    seggd_rt.load(TINY).close()
    (entry,) = (tmp_path / "cache").rglob("*.json")
    entry.unlink()
    entry.mkdir()
    with pytest.warns(RuntimeWarning, match="cannot be kept"):
        seggd_rt.load(TINY).close()
    assert list(entry.parent.iterdir()) == [entry]


def test_no_engine_at_all(engines: Callable[..., None]) -> None:
    engines(LossyEngine("one", reason="not installed: pip install 'seggd-rt[cpu]'"))
    with pytest.raises(EngineUnavailableError, match=r"no engine can run on cpu: one: not installed: pip install"):
        seggd_rt.load(TINY)
    with pytest.raises(EngineUnavailableError, match="engine one: not installed"):
        seggd_rt.load(TINY, engine="one")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"engine": "onnxrt"}, OptionError, "did you mean 'onnxruntime'"),
        ({"precision": "fp8"}, OptionError, "there are fp32, fp16, bf16 and auto"),
        ({"device": "tpu"}, OptionError, "there is no device 'tpu'"),
        ({"threads": 0}, OptionError, "threads is 0"),
        ({"threads": 1.5}, OptionError, "threads is 1.5"),
        ({"threads": 20000}, OptionError, "threads is 20000: this machine has .* core"),
        ({"engine": "onnxruntime", "precision": "bf16"}, EngineUnavailableError, "computes in fp32 here, not in bf16"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        seggd_rt.load(TINY, **arguments)  # type: ignore[arg-type]


def test_a_bundle_without_the_graph(tmp_path: Path) -> None:
    bundle = copy_bundle(TINY, tmp_path)
    edit_manifest(bundle, {"graphs.0.precision": "fp16"})
    with pytest.raises(BundleError, match="no fp32 graph, only fp16: export it with --precision fp32"):
        seggd_rt.load(bundle, engine="onnxruntime")


@pytest.mark.parametrize("name", [engine.name for engine in registry.engines()])
def test_fp32_is_really_fp32(name: str) -> None:
    engine = registry.find_engine(name)
    there = engine.availability("cpu" if engine.kind is DeviceKind.CPU else "cuda:0")
    if not there.usable:
        pytest.skip(f"{name}: {there.reason}")
    golden = seggd_rt.Bundle.open(TINY).golden
    with seggd_rt.load(TINY, engine=name, precision="fp32", threads=1) as generator:
        assert generator.engine.precision is Precision.FP32
        image = generator(golden.label_map, noise=golden.noise, steps=20)
    # bfloat16 products are off by 1e-3 here; rounding alone by 1e-7.
    assert np.abs(image - golden.image[0]).max() < 1e-5
