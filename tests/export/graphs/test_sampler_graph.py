"""`export --loop`: one ONNX graph draws what the runtime draws, holds the network once, and is proven or refused.

Whole images are compared at 1e-5, on a trained network (discs) and on an untrained one of v prediction (wide). Neither
amplifies rounding, so the limit holds also where two builds of ONNX Runtime differ in the last bit. Untrained networks
of other predictions do amplify it: there the export's own proof is asked, whose two sides run the same kernels.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray

import seggd_rt
from seggd_export import export_bundle
from seggd_export.graphs import sampler_graph
from seggd_rt.bundle import Bundle, Meaning
from seggd_rt.diffusion import NoiseSchedule, Precision, Prediction, RowTable, Sampler, normal, sampler_rows
from seggd_rt.errors import BundleError, ExportError, IntegrityError, OptionError
from tests.export.tiny_networks import disc_label_maps, wide_checkpoint

UseTrace = Callable[[ir.Model], None]
STEPS = 10
TOLERANCE = 1e-5


def session_of(bundle: Path) -> onnxruntime.InferenceSession:
    """`sampler.onnx` as anybody opens it: by its path alone."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # refused inputs are part of these tests
    path = Bundle.open(bundle).sampler_file()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def drawn(
    bundle: Path, label_maps: NDArray[np.uint8], noise: NDArray[np.float32], keep: list[bool]
) -> NDArray[np.float32]:
    inputs = {"label_map": label_maps, "keep": np.array(keep), "noise": noise}
    (image,) = session_of(bundle).run(None, inputs)
    return image


def inputs_of(bundle: Path, batch: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Label maps of the bundle's size, each another, and noise, each of another seed."""
    image = Bundle.open(bundle).manifest.image
    maps = disc_label_maps(batch, max(image.height, image.width), np.random.default_rng(batch))
    shape = (image.channels, image.height, image.width)
    return maps[:, : image.height, : image.width], np.stack([normal(seed, shape) for seed in range(batch)])


@pytest.fixture(params=["wide", "discs"])
def bundle(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue({"wide": "wide_bundle", "discs": "disc_bundle"}[request.param])


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("keep", [["ring", "disc"], ["ring"], ["disc"]], ids=" ".join)
def test_it_draws_the_generators_images(bundle: Path, batch: int, keep: list[str]) -> None:
    maps, noise = inputs_of(bundle, batch)
    with seggd_rt.load(bundle, engine="onnxruntime", precision="fp32", threads=1) as generator:
        expected = generator(maps, noise=noise, steps=STEPS, keep=keep).reshape(batch, *noise.shape[2:], -1)
    image = drawn(bundle, maps, noise, [True, "ring" in keep, "disc" in keep])
    assert image.dtype == np.float32
    assert image.shape == noise.shape
    assert expected.std() > 0.05, "the network drew nothing"
    np.testing.assert_allclose(image, np.moveaxis(expected, -1, 1), rtol=0, atol=TOLERANCE)


def test_leaving_a_class_out_changes_the_image(bundle: Path) -> None:
    """What the test above compares is not twice the same."""
    maps, noise = inputs_of(bundle, 1)
    images = [drawn(bundle, maps, noise, [True, ring, disc]) for ring, disc in ((True, True), (True, False))]
    assert np.abs(images[0] - images[1]).max() > 100 * TOLERANCE


def test_the_backgrounds_entry_changes_nothing(wide_bundle: Path) -> None:
    maps, noise = inputs_of(wide_bundle, 1)
    with_it, without = (drawn(wide_bundle, maps, noise, [kept, True, True]) for kept in (True, False))
    np.testing.assert_array_equal(with_it, without)


def test_an_image_does_not_depend_on_its_batch(bundle: Path) -> None:
    maps, noise = inputs_of(bundle, 3)
    together = drawn(bundle, maps, noise, [True] * 3)
    alone = [drawn(bundle, maps[i : i + 1], noise[i : i + 1], [True] * 3)[0] for i in range(3)]
    np.testing.assert_allclose(together, np.stack(alone), rtol=0, atol=TOLERANCE)


def test_signature(wide_bundle: Path) -> None:
    session = session_of(wide_bundle)
    assert [(node.name, node.type, node.shape) for node in session.get_inputs() + session.get_outputs()] == [
        ("label_map", "tensor(uint8)", ["batch", 16, 24]),
        ("keep", "tensor(bool)", [3]),
        ("noise", "tensor(float)", ["batch", 3, 16, 24]),
        ("image", "tensor(float)", ["batch", 3, 16, 24]),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_map": np.full((1, 16, 24), 3, np.uint8)}, "out of data bounds"),
        ({"label_map": np.zeros((2, 16, 24), np.uint8)}, "must match"),
        ({"label_map": np.zeros((1, 16, 16), np.uint8)}, "invalid dimensions"),
        ({"keep": np.ones(4, np.bool_)}, "invalid dimensions"),
    ],
    ids=["label", "batch", "size", "classes"],
)
def test_wrong_inputs_are_errors_not_images(wide_bundle: Path, change: dict[str, object], message: str) -> None:
    maps, noise = inputs_of(wide_bundle, 1)
    with pytest.raises(Exception, match=message):
        session_of(wide_bundle).run(None, {"label_map": maps, "keep": np.ones(3, np.bool_), "noise": noise, **change})


def test_what_is_not_finite_stays_so(wide_bundle: Path) -> None:
    """An image that the runtime would refuse is not clipped into a black one."""
    maps, noise = inputs_of(wide_bundle, 1)
    noise[0, 0, 3, 3] = np.nan
    assert np.isnan(drawn(wide_bundle, maps, noise, [True] * 3)).any()


def test_the_network_is_there_once(wide_bundle: Path) -> None:
    unet = onnx.load(wide_bundle / "unet.fp32.onnx").graph
    sampler = onnx.load(wide_bundle / "sampler.onnx").graph
    (loop,) = (node for node in sampler.node if node.op_type == "Loop")
    body = loop.attribute[0].g
    assert [node.name for node in body.node if node.name in {n.name for n in unet.node}] == [n.name for n in unet.node]
    assert {weight.name for weight in body.initializer} == {weight.name for weight in unet.initializer}
    own = (wide_bundle / "sampler.onnx").stat().st_size - (wide_bundle / "unet.fp32.onnx").stat().st_size
    assert 0 < own < 10_000


def test_the_manifest_lists_it(wide_bundle: Path) -> None:
    bundle = Bundle.open(wide_bundle)
    loop = bundle.manifest.sampler_graph
    assert loop is not None
    assert bundle.sampler_file() == wide_bundle / "sampler.onnx"
    assert loop.files[0] in bundle.manifest.files
    assert (loop.sampler, loop.steps, loop.opset) == (Sampler.DDIM, STEPS, 20)
    assert loop.max_error <= loop.limit == TOLERANCE
    bundle.verify()


def test_a_damaged_one_is_refused(wide_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(wide_bundle, tmp_path / "copy.seggd"))
    content = bytearray((copy / "sampler.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "sampler.onnx").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"sampler\.onnx was changed after export"):
        Bundle.open(copy).sampler_file()
    with pytest.raises(IntegrityError, match=r"sampler\.onnx was changed after export"):
        Bundle.open(copy).verify()
    (copy / "sampler.onnx").unlink()
    with pytest.raises(IntegrityError, match=r"sampler\.onnx is missing"):
        Bundle.open(copy).check_sizes()


def test_large_weights_are_shared_with_the_fp32_graph(trace_once: UseTrace, wide_pt: Path, tmp_path: Path) -> None:
    path = export_bundle(wide_pt, tmp_path / "big.seggd", precisions=(Precision.FP32,), loop=STEPS, inline_bytes=1000)
    bundle = Bundle.open(path)
    loop = bundle.manifest.sampler_graph
    assert loop is not None
    assert [ref.path for ref in loop.files] == ["sampler.onnx", "unet.fp32.onnx.data"]
    assert loop.files[0].size < bundle.manifest.graphs[0].files[0].size + 10_000, "no weight is in it"
    names = [ref.path for ref in bundle.manifest.files]
    assert sorted(names) == ["check.safetensors", "sampler.onnx", "unet.fp32.onnx", "unet.fp32.onnx.data"]
    maps, noise = inputs_of(path, 1)
    with seggd_rt.load(path, engine="onnxruntime", precision="fp32", threads=1) as generator:
        expected = generator(maps, noise=noise, steps=STEPS)
    np.testing.assert_allclose(
        drawn(path, maps, noise, [True] * 3), np.moveaxis(expected, -1, 1), rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("prediction", [Prediction.EPSILON, Prediction.SAMPLE])
def test_networks_that_amplify_rounding_prove_themselves_too(
    trace_once: UseTrace, tmp_path: Path, prediction: Prediction
) -> None:
    wide_checkpoint(prediction).save(tmp_path / "untrained.pt")
    path = export_bundle(tmp_path / "untrained.pt", precisions=(Precision.FP32,), loop=20)
    loop = Bundle.open(path).manifest.sampler_graph
    assert loop is not None
    assert loop.max_error <= TOLERANCE


def _scale_a_row(model: ir.Model) -> None:
    _change(model, "sampler/rows", lambda rows: rows * np.where(np.arange(len(rows)) == 3, 1.01, 1)[:, None])


def _move_the_timesteps(model: ir.Model) -> None:
    _change(model, "sampler/timesteps", lambda timesteps: timesteps + 9)


def _swap_two_classes(model: ir.Model) -> None:
    _change(model, "sampler/encode_table", lambda table: table[[0, 2, 1]])


def _ignore_keep(model: ir.Model) -> None:
    (node,) = (node for node in model.graph if node.name == "sampler/mask/table")
    node.replace_input_with(1, model.graph.initializers["sampler/1"])


def _change(model: ir.Model, name: str, change: Callable[[NDArray[np.float32]], NDArray[np.generic]]) -> None:
    constant = model.graph.initializers[name]
    assert constant.const_value is not None
    constant.const_value = ir.tensor(change(constant.const_value.numpy()).astype(np.float32), name=name)


@pytest.mark.parametrize("spoil", [_scale_a_row, _move_the_timesteps, _swap_two_classes, _ignore_keep])
def test_a_loop_that_draws_otherwise_fails_the_export(
    trace_once: UseTrace,
    wide_pt: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[ir.Model], None],
) -> None:
    def spoiled(unet: ir.Model, meaning: Meaning, table: RowTable) -> ir.Model:
        model = sampler_graph(unet, meaning, table)
        spoil(model)
        return model

    monkeypatch.setattr("seggd_export.export.sampler_graph", spoiled)
    with pytest.raises(ExportError, match=r"sampler\.onnx does not draw the runtime's image: .* over 1e-05"):
        export_bundle(wide_pt, tmp_path / "wrong.seggd", precisions=(Precision.FP32,), loop=STEPS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_lie_in_the_schedule(trace_once: UseTrace, wide_pt: Path, tmp_path: Path, steps: int) -> None:
    with pytest.raises(OptionError, match=rf"steps is {steps}; it must lie in \[1, 1000\]"):
        export_bundle(wide_pt, tmp_path / "a.seggd", precisions=(Precision.FP32,), loop=steps)
    assert list(tmp_path.iterdir()) == []


def test_it_needs_the_fp32_graph(wide_pt: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="the loop draws in fp32"):
        export_bundle(wide_pt, tmp_path / "a.seggd", precisions=(Precision.FP16,), loop=STEPS)


def test_a_bundle_without_one_says_how_to_get_it(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="--loop STEPS"):
        Bundle.open(tiny_bundle).sampler_file()


@pytest.mark.parametrize(
    "table",
    [
        sampler_rows(Sampler.DDIM, NoiseSchedule(), STEPS, eta=1.0),
        sampler_rows(Sampler.DPM_SOLVER, NoiseSchedule(), STEPS),
    ],
    ids=["noise", "last x0"],
)
def test_rows_it_cannot_follow_are_refused(traced: ir.Model, wide_bundle: Path, table: RowTable) -> None:
    with pytest.raises(ValueError, match="DDIM's rows at eta 0"):
        sampler_graph(traced.clone(), Bundle.open(wide_bundle).manifest.meaning, table)
