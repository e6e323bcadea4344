"""The latency part on a CPU with emulated streams: everything is asked for, compared and kept. No time is asserted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu import latency
from benchmarks.gpu.contenders import lineup, subjects
from benchmarks.gpu.contenders import networks as contenders
from benchmarks.gpu.contenders import onnxruntime as onnxruntime_contenders
from benchmarks.gpu.contenders.lineup import makers
from benchmarks.gpu.contenders.networks import Contender, LoopContender, Task
from benchmarks.gpu.contenders.subjects import EXPORTED, Subject
from benchmarks.gpu.latency import TASKS, group_name, measure, steps_of
from benchmarks.gpu.record import Record
from benchmarks.gpu.results import Failed, Group, Timed
from benchmarks.gpu.run import Context, Deadline, DeviceLostError, OutOfTime, work_through
from benchmarks.reference_network import reference_network
from seggd_engines.onnxruntime import OnnxRuntimeEngine
from seggd_rt.diffusion import Precision
from seggd_rt.engine import Availability, DeviceKind, registry
from seggd_rt.errors import EngineError
from tests.benchmarks.gpu.late import LateDevice, LateTorchNetwork
from tests.benchmarks.gpu.test_record import a_run
from tests.engines.cuda.emulated import EmulatedNetwork

TINY = Subject("tiny", "tiny", 16)
EAGER, SESSION, ENGINE = "pytorch eager", "session of eager pytorch", "late"


class LateEngine(OnnxRuntimeEngine):
    """ONNX Runtime on the CPU, as if it were on a GPU."""

    name = ENGINE

    def open(self, *arguments: object, **options: object) -> EmulatedNetwork:  # type: ignore[override]
        return EmulatedNetwork(super().open(*arguments, **options))  # type: ignore[arg-type]


class AbsentEngine(OnnxRuntimeEngine):
    name = "absent"

    def availability(self, device: str) -> Availability:
        return Availability(False, reason="not on this machine")


class OtherEngine(OnnxRuntimeEngine):
    name, kind = "other", DeviceKind.CUDA


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference_network(tmp_path_factory.mktemp("bundle"), network="tiny", size=16)[1]


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: Path) -> Context:
    engines = (LateEngine(), AbsentEngine(), OtherEngine())
    monkeypatch.setattr(registry, "engines", lambda: engines)
    monkeypatch.setattr(lineup, "TorchNetwork", LateTorchNetwork)
    monkeypatch.setattr(contenders, "bundle_of", lambda subject, context: bundle)
    record = Record(tmp_path / "out.json")
    return Context(record, Deadline(None), LateDevice(), tmp_path, say=lambda line: None)


def keep_group(context: Context, task: Task, steps: tuple[int, ...] = (4, 2), rounds: int = 3) -> Group:
    return measure(task, context, steps=steps, most_rounds=rounds)


@pytest.mark.usefixtures("needs_onnxruntime")
@pytest.mark.parametrize("batch", [1, 3])
def test_a_group_measures_every_contender_in_turn(context: Context, batch: int) -> None:
    task = Task(TINY, Precision.FP32, batch)
    group = keep_group(context, task)
    assert group == Group(
        subject="tiny", precision="fp32", batch=batch, rounds=3, contenders=(EAGER, SESSION, ENGINE), trained=False,
        absent={"absent": "not on this machine"}, state="clock 1 MHz",
    )  # fmt: skip
    for name in group.contenders:
        timed = context.record.find("latency", f"tiny/fp32/batch {batch}/{name}")
        assert isinstance(timed, Timed)
        assert timed.step.count == 3
        assert timed.precision == "fp32"
        assert [image.steps for image in timed.images] == [4, 2]
        for image in timed.images:
            assert image.image.count == 3
            assert image.device is not None
            assert image.host is not None
        assert timed.images_per_second == pytest.approx(1e3 * batch / timed.images[0].image.p50_ms)
        if batch == 1:
            assert timed.psnr_db is None or timed.psnr_db > 80
        else:
            assert timed.psnr_db is None


@pytest.mark.usefixtures("needs_onnxruntime")
def test_contenders_draw_one_image_and_enqueue_the_same(context: Context) -> None:
    task = Task(TINY, Precision.FP32, 2)
    expected = LoopContender(task, context.device).draw(3).pixels
    assert expected.shape == (2, 16, 16, 1)
    assert np.abs(expected[0] - expected[1]).max() > 0.1, "every image of a batch has its own noise"
    for name, make in makers(task, context)[0].items():
        contender = make()
        np.testing.assert_allclose(contender.draw(3).pixels, expected, atol=1e-3, err_msg=name)
        assert contender.step_s() > 0
        assert contender.on_device(3) is not None
        if isinstance(contender, contenders.SessionContender):
            np.testing.assert_allclose(contender._out.numpy(), expected, atol=1e-3, err_msg=name)
        contender.close()


def test_half_precision_adds_the_compiled_rivals(context: Context) -> None:
    found, absent = makers(Task(TINY, Precision.FP16, 1), context)
    assert list(found) == [
        EAGER,
        SESSION,
        "pytorch max-autotune",
        "session of max-autotune pytorch",
    ]
    assert absent[ENGINE] == "it computes in fp32 here"
    assert "other" not in absent


class LateOnnxRuntimeCuda(LateEngine):
    """Its ways on a GPU, on the CPU: what only a GPU computes is left out of the graph."""

    def __init__(self, provider: dict[str, str] | None = None) -> None:
        self.provider = provider or {}
        OPENED.append(self.provider)


OPENED: list[dict[str, str]] = []


@pytest.mark.usefixtures("needs_onnxruntime")
def test_onnx_runtimes_other_ways_draw_the_same(
    context: Context, monkeypatch: pytest.MonkeyPatch, bundle: Path
) -> None:
    OPENED.clear()
    monkeypatch.setattr(onnxruntime_contenders, "OnnxRuntimeCudaEngine", LateOnnxRuntimeCuda)
    monkeypatch.setattr(onnxruntime_contenders, "bundle_of", lambda subject, context: bundle)
    fused: list[Path] = []

    def fuse(path: Path, to: Path) -> None:
        fused.append(path)
        to.write_bytes(path.read_bytes())

    monkeypatch.setattr(onnxruntime_contenders, "with_group_norms", fuse)
    task = Task(TINY, Precision.FP32, 2)
    expected = LoopContender(task, context.device).draw(3).pixels
    assert list(onnxruntime_contenders.onnxruntime_variants(task, context)) == ["late NCHW", "late fused"]
    asked = dataclasses.replace(context, contenders=("*", "*unrolled*", "*recorded"))
    for name, make in onnxruntime_contenders.onnxruntime_variants(task, asked).items():
        contender = make()
        for _ in range(2):
            drawn = contender.draw(3)
            np.testing.assert_allclose(drawn.pixels, expected, atol=1e-3, err_msg=name)
            assert drawn.host_s is not None
            assert 0 < drawn.host_s <= drawn.seconds
        assert contender.step_s() > 0
        assert contender.on_device(3) is not None
        assert contender.info.engine == ENGINE
        contender.close()
    assert [path.name for path in fused] == ["unet.fp32.onnx"], "derived once"
    recorded = {"enable_cuda_graph": "0"}
    expected_options = [{"prefer_nhwc": "0"}, {}, recorded, recorded, {"cudnn_conv_algo_search": "HEURISTIC"}]
    assert expected_options == OPENED


def with_makers(monkeypatch: pytest.MonkeyPatch, **made: Callable[[], Contender]) -> None:
    monkeypatch.setattr(latency, "makers", lambda task, context: (made, {}))


def broken() -> Contender:
    raise EngineError("it cannot be built")


def test_a_contender_that_cannot_be_made_is_told_and_left_out(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(TINY, Precision.FP32, 1)
    with_makers(monkeypatch, broken=broken, sound=lambda: LoopContender(task, context.device))
    assert keep_group(context, task).contenders == ("sound",)
    failed = context.record.find("latency", "tiny/fp32/batch 1/broken")
    assert isinstance(failed, Failed)
    assert failed.message == "it cannot be built"
    with_makers(monkeypatch, broken=broken)
    with pytest.raises(EngineError, match="no contender"):
        keep_group(context, task)


def test_a_contender_that_fails_in_its_turn_is_out(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    task, turns = Task(TINY, Precision.FP32, 1), []

    class Failing(LoopContender):
        def step_s(self) -> float:
            turns.append(1)
            if len(turns) == 4:  # one to prepare, a turn of its own, then the second round
                raise EngineError("out of memory")
            return super().step_s()

    with_makers(
        monkeypatch, failing=lambda: Failing(task, context.device), sound=lambda: LoopContender(task, context.device)
    )
    group = keep_group(context, task)
    assert (group.contenders, group.rounds) == (("sound",), 3)
    assert isinstance(context.record.find("latency", "tiny/fp32/batch 1/failing"), Failed)
    assert len(turns) == 4


def test_all_are_closed_even_when_time_is_short(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    task, closed = Task(TINY, Precision.FP32, 1), []

    class Closing(LoopContender):
        def close(self) -> None:
            closed.append(1)
            super().close()

    with_makers(monkeypatch, a=lambda: Closing(task, context.device), b=lambda: Closing(task, context.device))
    short = Context(context.record, Deadline(0.0), context.device, context.cache, say=lambda line: None)
    with pytest.raises(OutOfTime):
        keep_group(short, task)
    assert len(closed) == 2
    # What there was time for is kept, and tried again by the next.
    assert [isinstance(context.record.find("latency", f"tiny/fp32/batch 1/{name}"), Timed) for name in "ab"] == [
        True
    ] * 2
    group = context.record.find("latency", "tiny/fp32/batch 1")
    assert isinstance(group, Group)
    assert (group.finished, group.rounds, group.contenders) == (False, 0, ("a", "b"))
    assert not context.record.settled("latency", "tiny/fp32/batch 1")


def test_figures_are_kept_after_every_round(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    task, counts = Task(TINY, Precision.FP32, 1), []

    class Watching(LoopContender):
        def step_s(self) -> float:
            found = context.record.find("latency", "tiny/fp32/batch 1/a")
            counts.append(found.step.count if isinstance(found, Timed) else 0)
            return super().step_s()

    with_makers(monkeypatch, a=lambda: Watching(task, context.device))
    keep_group(context, task)
    assert counts == [0, 0, 1, 1, 2]  # to prepare, a turn of its own, and then in turn


def test_contenders_may_be_chosen_and_others_added_later(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    task, name = Task(TINY, Precision.FP32, 1), "tiny/fp32/batch 1"
    monkeypatch.setattr(latency, "TASKS", (task,))
    monkeypatch.setattr(latency, "steps_of", lambda task: (2,))
    monkeypatch.setattr(latency, "_BUDGET_S", 0.0)
    with_makers(
        monkeypatch,
        eager=lambda: LoopContender(task, context.device),
        other=lambda: LoopContender(task, context.device),
    )

    def measured(*patterns: str) -> tuple[int, tuple[str, ...]]:
        context.record.begin(a_run())
        done = work_through([latency.LATENCY], dataclasses.replace(context, contenders=patterns)).done
        group = context.record.find("latency", name)
        assert isinstance(group, Group)
        assert group.finished
        return done, group.contenders

    assert measured("e*") == (1, ("eager",))
    assert measured("e*") == (0, ("eager",))
    assert measured("*") == (1, ("eager", "other"))
    assert measured("other", "e*") == (0, ("eager", "other"))


def test_what_ended_the_process_is_not_tried_again(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    task, label = Task(TINY, Precision.FP32, 1), "tiny/fp32/batch 1/deadly"
    context.record.begin(a_run())
    in_hand = []

    class Watching(LoopContender):
        def step_s(self) -> float:
            in_hand.append(context.record.document.in_hand)
            return super().step_s()

    with_makers(monkeypatch, deadly=lambda: Watching(task, context.device))
    keep_group(context, task, rounds=1)
    assert in_hand == [("latency", label)] * 3
    assert context.record.document.in_hand is None
    # What the process that outlives it notes of a death.
    context.record.keep("latency", label, Failed(error="ProcessDied", message="SIGSEGV"), 0)
    with_makers(monkeypatch, deadly=lambda: pytest.fail("again"), sound=lambda: LoopContender(task, context.device))
    assert keep_group(context, task, rounds=1).contenders == ("sound",)
    context.record.begin(a_run())
    with_makers(monkeypatch, deadly=lambda: LoopContender(task, context.device))
    assert keep_group(context, task, rounds=1).contenders == ("deadly",), "another run tries it again"


def test_a_device_that_answers_nothing_is_left_to_another_process(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(TINY, Precision.FP32, 1)
    monkeypatch.setattr(latency, "TASKS", (task,))
    context.record.begin(a_run())
    with_makers(monkeypatch, broken=broken, sound=lambda: pytest.fail("on a lost device"))
    with pytest.raises(DeviceLostError, match="broken"):
        work_through([latency.LATENCY], dataclasses.replace(context, healthy=lambda: False))
    assert context.record.document.in_hand is None
    assert context.record.gave_up("latency", "tiny/fp32/batch 1/broken")
    assert not context.record.settled("latency", "tiny/fp32/batch 1")


class BadlyClosing(LoopContender):
    def close(self) -> None:
        raise EngineError("the GPU failed")


def test_what_cannot_be_closed_takes_nothing_with_it(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    task, name = Task(TINY, Precision.FP32, 1), "tiny/fp32/batch 1"
    monkeypatch.setattr(latency, "TASKS", (task,))
    monkeypatch.setattr(latency, "steps_of", lambda task: (2,))
    monkeypatch.setattr(latency, "_BUDGET_S", 0.0)
    context.record.begin(a_run())
    with_makers(monkeypatch, a=lambda: BadlyClosing(task, context.device))
    outcome = work_through([latency.LATENCY], context)
    assert (outcome.done, outcome.left) == (1, [])
    group = context.record.find("latency", name)
    assert isinstance(group, Group)
    assert group.finished
    assert context.record.document.in_hand is None
    # Nor where it ends by a device that answers nothing.
    context.record.begin(a_run())
    context.record.forget(f"latency/{name}*")
    with_makers(monkeypatch, a=lambda: BadlyClosing(task, context.device), b=broken)
    with pytest.raises(DeviceLostError, match="/b"):
        work_through([latency.LATENCY], dataclasses.replace(context, healthy=lambda: False))
    assert not context.record.settled("latency", name)
    assert isinstance(context.record.find("latency", f"{name}/a"), Timed)
    assert work_through([latency.LATENCY], context).done == 1, "another process goes on"


def test_who_dies_while_closing_is_known(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    task, seen = Task(TINY, Precision.FP32, 1), list[object]()

    class Watching(LoopContender):
        def close(self) -> None:
            seen.append(context.record.document.in_hand)

    with_makers(monkeypatch, a=lambda: Watching(task, context.device))
    keep_group(context, task, rounds=1)
    assert seen == [("latency", "tiny/fp32/batch 1/closing")]
    assert context.record.document.in_hand is None


def test_one_that_always_fails_makes_nobody_else_repeat(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    task, name, made = Task(TINY, Precision.FP32, 1), "tiny/fp32/batch 1", list[str]()
    monkeypatch.setattr(latency, "TASKS", (task,))
    monkeypatch.setattr(latency, "steps_of", lambda task: (2,))
    monkeypatch.setattr(latency, "_BUDGET_S", 0.0)

    def sound() -> Contender:
        made.append("sound")
        return LoopContender(task, context.device)

    with_makers(monkeypatch, sound=sound, broken=broken)
    for _ in range(2):
        context.record.begin(a_run())
        work_through([latency.LATENCY], context)
    assert made == ["sound"]
    for forgotten in ("broken", "sound"):  # what is forgotten is tried again, with those it is compared to
        context.record.begin(a_run())
        assert context.record.forget(f"latency/{name}/{forgotten}") == 1
        assert work_through([latency.LATENCY], context).done == 1
    assert made == ["sound"] * 3


def test_a_run_that_is_cut_short_keeps_the_earlier_ones_figures(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, name = Task(TINY, Precision.FP32, 1), "tiny/fp32/batch 1"
    context.record.begin(a_run())
    with_makers(monkeypatch, a=lambda: LoopContender(task, context.device))
    keep_group(context, task)
    before = [context.record.find("latency", name), context.record.find("latency", f"{name}/a")]
    context.record.begin(a_run())
    with_makers(
        monkeypatch, a=lambda: LoopContender(task, context.device), b=lambda: LoopContender(task, context.device)
    )
    short = dataclasses.replace(context, deadline=Deadline(0.0))
    with pytest.raises(OutOfTime):
        keep_group(short, task)
    assert [context.record.find("latency", name), context.record.find("latency", f"{name}/a")] == before
    new = context.record.find("latency", f"{name}/b")
    assert isinstance(new, Timed)
    assert new.step.count == 1


def test_compiled_ones_join_when_the_others_are_measured(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    task, name, seen = Task(TINY, Precision.FP32, 1), "tiny/fp32/batch 1", list[int]()

    def compiled() -> Contender:
        found = context.record.find("latency", f"{name}/eager")
        assert isinstance(found, Timed)
        seen.append(found.step.count)
        return LoopContender(task, context.device)

    with_makers(monkeypatch, **{"x max-autotune": compiled, "eager": lambda: LoopContender(task, context.device)})
    group = keep_group(context, task)
    assert seen == [3], "before it is compiled the others have taken their turns"
    assert group.contenders == ("eager", "x max-autotune")
    assert (group.rounds, group.finished) == (3, True)


def test_the_loop_is_compiled_once(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(graph)
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda network, mode, dynamic: real(network, backend=backend, dynamic=dynamic)
    )
    contender = LoopContender(Task(TINY, Precision.FP32, 1), context.device, "max-autotune")
    contender.draw(2)
    once = len(graphs)
    contender.step_s()
    contender.draw(3)
    contender.close()
    assert len(graphs) == once > 0


def test_a_run_is_made_before_it_is_timed(context: Context) -> None:
    task = Task(TINY, Precision.FP32, 1)
    assert task.run(3) is task.run(3)
    assert task.run(3) is not task.run(2)


def test_the_targets_come_first_and_nothing_is_there_twice() -> None:
    assert [group_name(task) for task in TASKS[:3]] == [
        "reference-256/fp16/batch 1",
        "demo/fp16/batch 1",
        "reference-256/fp16/batch 16",
    ]
    assert len({group_name(task) for task in TASKS}) == len(TASKS) == 3 * 3 * 3
    assert steps_of(Task(TINY, Precision.FP32, 4)) == (15,)
    assert steps_of(Task(TINY, Precision.FP32, 1)) == steps_of(Task(TINY, Precision.FP16, 16)) == (50, 15)


def test_a_bundle_is_exported_in_every_precision_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def kept(checkpoint: Path, cache: Path, **options: object) -> Path:
        asked.append({"checkpoint": checkpoint.name, "cache": cache, **options})
        return cache

    monkeypatch.setattr(subjects, "kept_bundle", kept)
    context = Context(Record(tmp_path / "o.json"), Deadline(None), LateDevice(), tmp_path, say=print)
    assert subjects.bundle_of(subjects.DEMO, context) == tmp_path
    assert asked == [{"checkpoint": "cardiac.pt", "cache": tmp_path, "precisions": EXPORTED, "say": print}]
