"""One trace, one exported bundle, one trained network: each is made once for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from diffusers import UNet2DModel

from seggd_export import export_bundle
from seggd_export.graphs import Network, trace
from seggd_rt.diffusion import Precision
from tests.export.tiny_networks import WIDE, disc_checkpoint, random_unet, train_on_discs, wide_checkpoint


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def wide_unet() -> UNet2DModel:
    return random_unet(WIDE)


@pytest.fixture(scope="session")
def network(wide_unet: UNet2DModel) -> Network:
    return Network(wide_unet, 1000)


@pytest.fixture(scope="session")
def traced(network: Network) -> ir.Model:
    """The WIDE network's float32 graph: clone it before you change it."""
    return trace(network, 16, 24)


@pytest.fixture
def trace_once(traced: ir.Model, monkeypatch: pytest.MonkeyPatch) -> Callable[[ir.Model], None]:
    """Let exports of the WIDE network skip the tracing, which takes the time; call it to hand them another graph."""

    def use(model: ir.Model) -> None:
        monkeypatch.setattr("seggd_export.export.trace", lambda network, height, width: model.clone())

    use(traced)
    return use


@pytest.fixture(scope="session")
def wide_pt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "wide.pt"
    wide_checkpoint().save(path)
    return path


@pytest.fixture(scope="session")
def wide_bundle(traced: ir.Model, wide_pt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our checkpoint as a bundle of every precision and a loop of ten steps. Copy it before you change it.

    It is made from the one trace; `test_same_checkpoint_gives_the_same_bytes` makes it again without.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seggd_export.export.trace", lambda network, height, width: traced.clone())
        target = tmp_path_factory.mktemp("bundle") / "wide.seggd"
        return export_bundle(wide_pt, target, precisions=tuple(Precision), loop=10)


@pytest.fixture(scope="session")
def disc_unet() -> UNet2DModel:
    return train_on_discs()


@pytest.fixture(scope="session")
def disc_bundle(disc_unet: UNet2DModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained network as a bundle of fp32 and a loop of ten steps. Copy it before you change it."""
    folder = tmp_path_factory.mktemp("discs")
    disc_checkpoint(disc_unet).save(folder / "discs.pt")
    return export_bundle(folder / "discs.pt", precisions=(Precision.FP32,), loop=10)
