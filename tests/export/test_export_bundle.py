"""From checkpoint to bundle: what is in it, that it is proven, and that it is whole or absent."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from diffusers import UNet2DModel

import seggd_rt
from seggd_export import ExportWarning, Progress, export_bundle
from seggd_export.export import default_output
from seggd_export.parity import example_label_map
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import PARITY_LIMIT, Precision, Prediction, encode, encode_table, normal
from seggd_rt.errors import ExportError, OptionError, OutputError
from seggd_rt.files import remove_partial_files
from tests.export.tiny_networks import CLASSES

UseTrace = Callable[[ir.Model], None]


def test_manifest_tells_what_the_checkpoint_tells(wide_bundle: Path, wide_pt: Path, wide_unet: UNet2DModel) -> None:
    manifest = Bundle.open(wide_bundle).manifest
    assert manifest.name == "wide"
    assert (manifest.image.channels, manifest.image.height, manifest.image.width) == (3, 16, 24)
    assert [c.name for c in manifest.classes] == list(CLASSES)
    assert (manifest.mask.encoding, manifest.mask_channels) == ("one-hot", 2)
    assert (manifest.mask.trained_with_ablation, manifest.mask.trained_with_empty_mask) == (True, False)
    assert manifest.schedule.prediction is Prediction.V
    assert manifest.intensity_range == (-1000, 1000)
    provenance = manifest.provenance
    assert provenance.checkpoint_sha256 == hashlib.sha256(wide_pt.read_bytes()).hexdigest()
    assert provenance.checkpoint_format == "seggd-checkpoint/1"
    assert provenance.parameters == sum(p.numel() for p in wide_unet.parameters())
    assert (provenance.training_data, provenance.licence) == ("made-up discs", "CC0-1.0")
    assert set(provenance.versions) == {"seggd-rt", "torch", "diffusers", "onnx", "onnxscript", "onnxruntime"}
    assert provenance.training is not None
    assert (provenance.training["step"], provenance.training["seed"]) == (7, 1)
    assert not provenance.training.keys() & {"licence", "training_data"}, "said once, above"


def test_every_graph_is_proven(wide_bundle: Path) -> None:
    bundle = Bundle.open(wide_bundle)
    assert [graph.precision for graph in bundle.manifest.graphs] == list(Precision)
    rel_l2 = []
    for graph in bundle.manifest.graphs:
        bundle.graph_file(graph)
        assert graph.parity.states == 10
        assert graph.parity.limit == PARITY_LIMIT[graph.precision]
        assert 0 < graph.parity.rel_l2 < graph.parity.limit
        assert 0 < graph.parity.rel_max < graph.parity.limit
        rel_l2.append(graph.parity.rel_l2)
    # Each in its own precision: 24, 11 and 8 bits.
    assert rel_l2[0] < 1e-2 * rel_l2[1] < 1e-2 * rel_l2[2]


def test_golden_run_is_pytorchs(wide_bundle: Path, wide_unet: UNet2DModel) -> None:
    import torch

    bundle = Bundle.open(wide_bundle)
    golden = bundle.golden
    assert golden.timesteps.tolist() == [950, 450, 50]
    np.testing.assert_array_equal(golden.noise, normal(0, (3, 16, 24)))
    np.testing.assert_array_equal(golden.states[0], golden.noise)
    assert np.unique(golden.label_map).tolist() == [0, 1, 2]
    mask = encode(golden.label_map, encode_table(bundle.manifest.mask.encoding, 3))
    samples = torch.from_numpy(np.concatenate([golden.states, np.broadcast_to(mask, (3, *mask.shape))], 1))
    outputs = wide_unet(samples, torch.from_numpy(golden.timesteps)).sample
    np.testing.assert_allclose(golden.outputs, outputs.numpy(), atol=1e-5 * float(outputs.abs().max()))
    assert golden.image.min() >= 0
    assert golden.image.max() <= 1


def test_generator_draws_from_it(wide_bundle: Path) -> None:
    golden = Bundle.open(wide_bundle).golden
    with seggd_rt.load(wide_bundle, engine="onnxruntime", precision="fp32", threads=1) as generator:
        image = generator(golden.label_map, noise=golden.noise, steps=20)
    np.testing.assert_allclose(np.moveaxis(image, -1, 0), golden.image, atol=1e-5)


def test_same_checkpoint_gives_the_same_bytes(wide_bundle: Path, wide_pt: Path, tmp_path: Path) -> None:
    """In another process, under another hash seed and another folder."""
    code = (
        "import sys\n"
        "from seggd_export import export_bundle\n"
        "from seggd_rt.diffusion.precision import Precision\n"
        "export_bundle(sys.argv[1], sys.argv[2], precisions=tuple(Precision), loop=10)"
    )
    copy = tmp_path / "elsewhere" / "wide.seggd"
    environment = {**os.environ, "PYTHONHASHSEED": "123", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, str(wide_pt), str(copy)], check=True, env=environment, cwd=tmp_path)
    assert {path.name for path in copy.iterdir()} == {path.name for path in wide_bundle.iterdir()}
    for path in wide_bundle.iterdir():
        assert (copy / path.name).read_bytes() == path.read_bytes(), path.name


def test_large_weights_lie_beside_the_graph(trace_once: UseTrace, wide_pt: Path, tmp_path: Path) -> None:
    path = export_bundle(
        wide_pt, tmp_path / "big.seggd", precisions=(Precision.FP32, Precision.BF16), inline_bytes=1000
    )
    bundle = Bundle.open(path)
    for graph in bundle.manifest.graphs:
        names = [ref.path for ref in graph.files]
        assert names == [f"unet.{graph.precision}.onnx", f"unet.{graph.precision}.onnx.data"]
        assert graph.files[1].size > 80_000
        bundle.graph_file(graph)
    golden = bundle.golden
    with seggd_rt.load(path, engine="onnxruntime", precision="fp32", threads=1) as generator:
        image = generator(golden.label_map, noise=golden.noise, steps=20)
    np.testing.assert_allclose(np.moveaxis(image, -1, 0), golden.image, atol=1e-5)


@pytest.mark.parametrize("precision", list(Precision))
def test_perturbed_weight_fails_the_export(
    trace_once: UseTrace, traced: ir.Model, wide_pt: Path, tmp_path: Path, precision: Precision
) -> None:
    wrong = traced.clone()
    weight = wrong.graph.initializers["conv_out.weight"]
    assert weight.const_value is not None
    weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1 + 5 * PARITY_LIMIT[precision]))
    trace_once(wrong)
    figures = rf"the {precision} graph does not agree with PyTorch: .* over {PARITY_LIMIT[precision]:.0e}"
    with pytest.raises(ExportError, match=figures):
        export_bundle(wide_pt, tmp_path / "wrong.seggd", precisions=(precision,))
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_are_not_finite_fail_the_export(
    trace_once: UseTrace, traced: ir.Model, wide_pt: Path, tmp_path: Path
) -> None:
    wrong = traced.clone()
    wrong.graph.initializers["conv_out.bias"].const_value = ir.tensor(np.full(3, np.nan, np.float32))
    trace_once(wrong)
    with pytest.raises(ExportError, match=r"\|d\|/\|o\| is inf"):
        export_bundle(wide_pt, tmp_path / "wrong.seggd", precisions=(Precision.FP32,))


def test_low_psnr_is_warned_about_and_does_not_fail(
    trace_once: UseTrace, wide_pt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seggd_export.export.IMAGE_PSNR_DB", 500.0)
    with pytest.warns(ExportWarning, match=r"the fp16 graph's image has a PSNR of .* under 500"):
        path = export_bundle(wide_pt, tmp_path / "noisy.seggd", precisions=(Precision.FP16,))
    assert Bundle.open(path).manifest.graphs[0].parity.image_psnr_db is not None


def test_interrupt_leaves_nothing(trace_once: UseTrace, wide_pt: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.doing.startswith("proving") and progress.done == 3:
            assert any(path.name == ".half.seggd.part" for path in tmp_path.iterdir())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_bundle(wide_pt, tmp_path / "half.seggd", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_export_is_cleaned_up_by_the_next(trace_once: UseTrace, wide_pt: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.seggd"
    (tmp_path / ".a.seggd.part").mkdir()  # as a killed export leaves it
    (tmp_path / ".a.seggd.part" / "unet.fp32.onnx").write_bytes(b"half a graph")
    export_bundle(wide_pt, target, precisions=(Precision.FP32,))
    assert [path.name for path in tmp_path.iterdir()] == ["a.seggd"]
    target.rename(tmp_path / ".a.seggd.old.part")  # killed between the two renames of its replacement
    with pytest.raises(OutputError, match=r"a\.seggd exists: .*--force"):
        export_bundle(wide_pt, target, precisions=(Precision.FP32,))
    Bundle.open(target).verify()
    assert [path.name for path in tmp_path.iterdir()] == ["a.seggd"]


def test_an_end_by_force_removes_what_an_export_wrote(trace_once: UseTrace, wide_pt: Path, tmp_path: Path) -> None:
    def end(progress: Progress) -> None:
        if progress.doing.startswith("proving"):
            remove_partial_files()
            assert list(tmp_path.iterdir()) == []
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_bundle(wide_pt, tmp_path / "a.seggd", progress=end)


def test_progress_counts_to_its_total(trace_once: UseTrace, wide_pt: Path, tmp_path: Path) -> None:
    seen: dict[str, list[Progress]] = {}
    export_bundle(
        wide_pt,
        tmp_path / "a.seggd",
        precisions=(Precision.FP32,),
        progress=lambda progress: seen.setdefault(progress.doing, []).append(progress),
    )
    assert list(seen) == [
        "reading the checkpoint",
        "tracing the network",
        "running PyTorch in fp32",
        "proving the fp32 graph",
    ]
    assert [p.done for p in seen["running PyTorch in fp32"]] == list(range(21))
    assert seen["proving the fp32 graph"][-1] == Progress("proving the fp32 graph", 30, 30)


def test_bundle_is_replaced_only_by_force(trace_once: UseTrace, wide_pt: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.seggd"
    export_bundle(wide_pt, target, precisions=(Precision.FP32,))
    before = (target / "bundle.json").read_bytes()
    with pytest.raises(OutputError, match=r"a\.seggd exists: .*--force"):
        export_bundle(wide_pt, target, precisions=(Precision.FP16,))
    assert (target / "bundle.json").read_bytes() == before
    export_bundle(wide_pt, target, precisions=(Precision.FP16,), licence="MIT", intended_use="research", force=True)
    manifest = Bundle.open(target).manifest
    assert [graph.precision for graph in manifest.graphs] == [Precision.FP16]
    assert (manifest.provenance.licence, manifest.provenance.intended_use) == ("MIT", "research")
    assert [path.name for path in tmp_path.iterdir()] == ["a.seggd"]


def test_what_is_no_bundle_is_never_replaced(wide_pt: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    with pytest.raises(OutputError, match="thesis exists and is no bundle"):
        export_bundle(wide_pt, tmp_path / "thesis", force=True)
    assert (tmp_path / "thesis" / "chapter1.tex").exists()


def test_a_bundle_does_not_replace_a_link(wide_pt: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.seggd"
    for there in (False, True):
        if there:
            (tmp_path / "real").mkdir()
            (tmp_path / "real" / "bundle.json").touch()
        else:
            target.symlink_to("real")
        with pytest.raises(OutputError, match=r"a\.seggd cannot be written \(it is a link\)"):
            export_bundle(wide_pt, target, force=True)
    assert target.is_symlink()


def test_folder_that_cannot_be_written(wide_pt: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for target in (tmp_path / "file" / "a.seggd", Path("/proc/a.seggd")):
        with pytest.raises(
            OutputError, match=r"a\.seggd cannot be written \([A-Z][a-z ]+\): free or choose another"
        ) as caught:
            export_bundle(wide_pt, target)
        assert ".part" not in str(caught.value)


@pytest.mark.parametrize("precisions", [(), (Precision.FP32, Precision.FP32)])
def test_precisions_are_each_once(wide_pt: Path, tmp_path: Path, precisions: tuple[Precision, ...]) -> None:
    with pytest.raises(OptionError, match="at least one, each once"):
        export_bundle(wide_pt, tmp_path / "a.seggd", precisions=precisions)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("heart.pt", "heart.seggd"), ("ddim-mri-256", "ddim-mri-256.seggd"), ("ddim-mri-256/unet", "ddim-mri-256.seggd")],
)
def test_default_output_lies_beside(tmp_path: Path, given: str, expected: str) -> None:
    (tmp_path / "ddim-mri-256" / "unet").mkdir(parents=True)
    assert default_output(tmp_path / given) == tmp_path / expected


@pytest.mark.parametrize(("height", "width", "classes"), [(16, 24, 3), (64, 64, 256), (3, 5, 2), (8, 2, 9)])
def test_example_label_map_has_every_class(height: int, width: int, classes: int) -> None:
    label_map = example_label_map(height, width, classes)
    assert label_map.shape == (height, width)
    assert np.unique(label_map).tolist() == list(range(classes))
    assert label_map[0, 0] == 0


def test_graph_is_valid_onnx_of_its_opset(wide_bundle: Path) -> None:
    for graph in Bundle.open(wide_bundle).manifest.graphs:
        model = onnx.load(wide_bundle / graph.files[0].path)
        onnx.checker.check_model(model, full_check=True)
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", graph.opset)]
        assert graph.opset >= 20
