"""PyTorch behind the contract of a network on a GPU: it draws what PyTorch's own loop draws."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from benchmarks.torch_loop import TorchLoop
from benchmarks.torch_network import DTYPES, TorchNetwork, tensor_at
from seggd_rt.diffusion import (
    MaskEncoding,
    NoiseSchedule,
    Precision,
    Prediction,
    Sampler,
    encode,
    encode_table,
    normal,
    sampler_rows,
)
from seggd_rt.engine import Buffer, NetworkShape, Run
from seggd_rt.errors import EngineError
from tests.benchmarks.gpu.late import LateTorchNetwork, tiny_unet
from tests.engines.cuda.emulated import EmulatedStream

TABLE = encode_table(MaskEncoding.ONE_HOT, 4)
SCHEDULE = NoiseSchedule(prediction=Prediction.V)


def make_run(batch: int, steps: int = 4) -> Run:
    maps = np.stack([np.random.default_rng(i).integers(0, 4, (16, 24)).astype(np.uint8) for i in range(batch)])
    return Run(
        table=sampler_rows(Sampler.DDIM, SCHEDULE, steps),
        label_maps=maps,
        encode_tables=np.stack([TABLE] * batch)[None],
        seeds=tuple(range(batch)),
        noise=np.stack([normal(i, (1, 16, 24)) for i in range(batch)]),
    )


def by_loop(run: Run, **options: object) -> np.ndarray:  # type: ignore[type-arg]
    assert isinstance(run.label_maps, np.ndarray)
    assert isinstance(run.noise, np.ndarray)
    given: dict[str, object] = {"device": "cpu", "dtype": torch.float32, **options}
    loop = TorchLoop(tiny_unet(), encode(run.label_maps, TABLE), **given)  # type: ignore[arg-type]
    return loop.draw(loop.place(run.noise), run.table).numpy()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("precision", "limit"), [(Precision.FP32, 1e-5), (Precision.BF16, 2e-2)])
def test_a_session_around_it_draws_the_loops_image(batch: int, precision: Precision, limit: float) -> None:
    network = LateTorchNetwork(tiny_unet(), device="cpu", dtype=DTYPES[precision])
    run, out = make_run(batch), np.full((batch, 16, 24, 1), 77, np.float32)
    session = network.session(batch)
    session.run(run, out)
    expected = by_loop(run)
    assert out.std() > 0.05
    assert np.abs(out - expected).max() < limit
    assert network.info.precision is precision
    if precision is not Precision.FP32:
        assert np.abs(out - expected).max() > 1e-5, "it computes in fp32"
    session.close()


def test_layouts_and_precisions_of_the_loop_agree() -> None:
    run = make_run(2)
    expected = by_loop(run)
    np.testing.assert_allclose(by_loop(run, channels_last=False), expected, rtol=0, atol=1e-5)
    assert 1e-5 < np.abs(by_loop(run, dtype=torch.bfloat16) - expected).max() < 2e-2


def test_the_loop_is_the_update_row_of_every_prediction() -> None:
    from seggd_engines.host import HostSession

    class HostTorch(TorchNetwork):
        def bind(self, sample: Buffer, timestep: Buffer, out: Buffer, stream: int = 0):  # type: ignore[no-untyped-def]
            return super().bind(sample, timestep, out, stream)

    for prediction in Prediction:
        run = make_run(1)
        table = sampler_rows(Sampler.DDIM, NoiseSchedule(prediction=prediction), 5)
        run = Run(table, run.label_maps, run.encode_tables, run.seeds, run.noise)
        out = np.empty((1, 16, 24, 1), np.float32)
        HostSession(HostTorch(tiny_unet(), device="cpu"), 1).run(run, out)  # type: ignore[arg-type]
        np.testing.assert_allclose(by_loop(run), out, rtol=0, atol=1e-4)


def test_buffers_are_wrapped_not_copied() -> None:
    memory = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = tensor_at(Buffer.of(memory), torch.device("cpu"))
    tensor[1, 2] = 50
    memory[0, 0] = 40
    assert memory[1, 2] == 50
    assert tensor[0, 0] == 40


def test_it_says_what_it_is() -> None:
    network = TorchNetwork(tiny_unet(), device="cpu", dtype=torch.bfloat16)
    assert network.shape == NetworkShape(1, 3, 16, 24)
    assert (network.info.engine, network.info.version) == ("pytorch", torch.__version__)
    assert network.capturable
    torch.backends.cudnn.allow_tf32 = True
    TorchNetwork(tiny_unet(), device="cpu")
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


def test_graphs_within_graphs_are_refused() -> None:
    with pytest.raises(EngineError, match="no-cudagraphs"):
        TorchNetwork(tiny_unet(), device="cpu", compile="max-autotune")


def test_the_network_is_called_late_and_once_a_step() -> None:
    network, stream = LateTorchNetwork(tiny_unet(), device="cpu"), EmulatedStream()
    calls = []
    network._unet.register_forward_hook(lambda *_: calls.append(1))
    buffers = [np.zeros(shape, np.float32) for shape in ((2, 4, 16, 24), (2,), (2, 1, 16, 24))]
    call = network.bind(*map(Buffer.of, buffers), stream.handle)
    graph = stream.capture(lambda: [call() for _ in range(3)])  # type: ignore[arg-type, return-value]
    assert not calls
    graph.launch()
    stream.synchronize()
    assert len(calls) == 3
    assert np.abs(buffers[2]).max() > 0


def test_a_copy_of_the_unet_stays_as_it_was() -> None:
    unet = tiny_unet()
    TorchNetwork(copy.deepcopy(unet), device="cpu", dtype=torch.bfloat16)
    assert next(unet.parameters()).dtype is torch.float32
