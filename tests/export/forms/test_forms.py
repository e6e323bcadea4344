"""Checkpoints in: each form gives the same network, and what is unsafe, damaged or foreign is refused in one line."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from safetensors.torch import save_file

from seggd_export import ScheduleOptions, Source, export_bundle, read_checkpoint
from seggd_export.checkpoint import Checkpoint
from seggd_export.spec import settle
from seggd_export.unet import ASSUMED, build_unet
from seggd_rt.diffusion import BetaCurve, MaskEncoding, NoiseSchedule, Prediction
from seggd_rt.errors import CheckpointError, OptionError
from tests.export.tiny_networks import DISCS, random_unet, wide_checkpoint

KNOWN = {key: DISCS[key] for key in ("norm_num_groups", "attention_head_dim")}
"""What the shapes of the DISCS network do not show."""


@pytest.fixture(scope="module")
def unet() -> UNet2DModel:
    return random_unet(DISCS)


@pytest.fixture
def reference(unet: UNet2DModel, tmp_path: Path) -> Path:
    """A folder as the reference's training leaves it: NAME with model_index.json, unet and scheduler."""
    folder = tmp_path / "ddim-discs-32-segguided"
    unet.save_pretrained(folder / "unet")
    DDIMScheduler(num_train_timesteps=1000).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "SegGuidedDDIMPipeline",
        "_diffusers_version": "0.21.4",
        "eval_dataloader": ["builtins", "generator"],
        "external_config": ["training", "TrainingConfig"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def assert_same_network(source: Source, unet: UNet2DModel) -> None:
    state = unet.state_dict()
    assert source.weights.keys() == state.keys()
    assert all(torch.equal(source.weights[name], state[name]) for name in state)
    sample = torch.randn(1, DISCS["in_channels"], 16, 16, generator=torch.Generator().manual_seed(0))
    built = build_unet(source.unet, source.weights)
    torch.testing.assert_close(built(sample, 7).sample, unet(sample, 7).sample, atol=1e-5, rtol=1e-5)


def test_native_tells_everything_and_prefers_the_average(wide_pt: Path, wide_unet: UNet2DModel) -> None:
    source = read_checkpoint(wide_pt)
    assert source.format == "seggd-checkpoint/1"
    assert source.sha256 == hashlib.sha256(wide_pt.read_bytes()).hexdigest()
    assert source.image_size == (16, 24)
    assert source.encoding is MaskEncoding.ONE_HOT
    assert source.schedule == NoiseSchedule(prediction=Prediction.V)
    ema = wide_unet.state_dict()
    assert all(torch.equal(source.weights[name], ema[name]) for name in ema)


def test_slim_native_is_float32_again(tmp_path: Path) -> None:
    wide_checkpoint().slim().save(tmp_path / "slim.pt")
    assert {tensor.dtype for tensor in read_checkpoint(tmp_path / "slim.pt").weights.values()} == {torch.float32}


def save_pt(state: dict[str, torch.Tensor], path: Path) -> Path:
    torch.save(state, path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def save_safetensors(state: dict[str, torch.Tensor], path: Path) -> Path:
    save_file(state, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


@pytest.mark.parametrize("save", [save_pt, save_safetensors])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "_orig_mod.module."])
def test_bare_state_dict(
    unet: UNet2DModel, tmp_path: Path, prefix: str, save: Callable[[dict[str, torch.Tensor], Path], Path]
) -> None:
    path = save({prefix + name: tensor for name, tensor in unet.state_dict().items()}, tmp_path / "weights")
    source = read_checkpoint(path, KNOWN)
    assert_same_network(source, unet)
    assert source.format == "state-dict"
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.assumed == {key: value for key, value in ASSUMED.items() if key not in KNOWN}


def test_attention_of_old_diffusers_is_renamed(unet: UNet2DModel, tmp_path: Path) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(name: str) -> str:
        for new, before in old.items():
            name = name.replace(f".{new}.", f".{before}.")
        return name

    state = {rename(name): tensor for name, tensor in unet.state_dict().items()}
    assert "mid_block.attentions.0.proj_attn.weight" in state
    assert_same_network(read_checkpoint(save_pt(state, tmp_path / "old"), KNOWN), unet)


def test_half_weights_are_widened(unet: UNet2DModel, tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in unet.state_dict().items()}
    source = read_checkpoint(save_pt(state, tmp_path / "half"), KNOWN)
    assert {tensor.dtype for tensor in source.weights.values()} == {torch.float32}


def test_assumptions_are_said(unet: UNet2DModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):  # noqa: N818
        """Ends the export where the warning has been given."""

    def stop(*_: object) -> None:
        raise Stop

    monkeypatch.setattr("seggd_export.export.trace", stop)
    path = save_pt(unet.state_dict(), tmp_path / "bare")
    with warnings.catch_warnings(record=True) as warned, pytest.raises(Stop):
        warnings.simplefilter("always")
        export_bundle(
            path,
            classes=["background", "disc"],
            image_size=(32, 32),
            mask_encoding=MaskEncoding.LABEL_OVER_255,
            unet_config=KNOWN,
            schedule=ScheduleOptions(beta_schedule=BetaCurve.LINEAR),
        )
    schedule, network = (str(warning.message) for warning in warned)
    assert "does not tell how it was trained: epsilon prediction, betas from 0.0001 to 0.02 are assumed" in schedule
    assert re.search(r"do not show act_fn=silu, .*norm_eps=1e-05", network)
    assert [file.name for file in tmp_path.iterdir()] == ["bare.pt"]


@pytest.mark.parametrize("inner", ["", "unet"])
def test_reference_folder(reference: Path, unet: UNet2DModel, inner: str) -> None:
    source = read_checkpoint(reference / inner)
    assert_same_network(source, unet)
    assert source.path == reference
    assert source.format == "diffusers-pipeline"
    assert source.encoding is MaskEncoding.LABEL_OVER_255
    assert source.image_size == (32, 32)
    assert source.schedule == NoiseSchedule()
    weights = reference / "unet" / "diffusion_pytorch_model.safetensors"
    assert source.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()


@pytest.mark.parametrize("inner", ["", "unet"])
def test_reference_folder_with_nothing_but_the_network(reference: Path, unet: UNet2DModel, inner: str) -> None:
    (reference / "model_index.json").unlink()
    shutil.rmtree(reference / "scheduler")
    source = read_checkpoint(reference / inner)
    assert_same_network(source, unet)
    assert source.format == "diffusers-unet"
    assert (source.encoding, source.schedule) == (MaskEncoding.LABEL_OVER_255, None)
    spec = settle(source, classes=["background", "disc"])
    assert spec.schedule == NoiseSchedule()
    assert spec.guessed == (
        "epsilon prediction", "linear betas", "betas from 0.0001 to 0.02", "masks as label-over-255"
    )  # fmt: skip


def test_network_folder_with_pickled_weights(reference: Path, unet: UNet2DModel) -> None:
    (reference / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(unet.state_dict(), reference / "unet" / "diffusion_pytorch_model.bin")
    assert_same_network(read_checkpoint(reference), unet)


def test_pipeline_folder_tells_its_schedule_and_not_its_encoding(reference: Path) -> None:
    (reference / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline"}))
    DDPMScheduler(prediction_type="v_prediction", beta_schedule="squaredcos_cap_v2").save_pretrained(
        reference / "scheduler"
    )
    for given in (reference, reference / "unet"):
        source = read_checkpoint(given)
        assert source.schedule == NoiseSchedule(prediction=Prediction.V, beta_curve="cosine")  # type: ignore[arg-type]
        assert source.encoding is None
        with pytest.raises(OptionError, match=r"give --mask-encoding label-over-255 or one-hot"):
            settle(source, classes=["background", "disc"])


class Danger:
    """A pickle of it runs a command when it is loaded."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.witness}",)


@pytest.mark.parametrize("name", ["evil.pt", "unet/diffusion_pytorch_model.bin"])
def test_pickle_with_code_is_refused_and_not_run(reference: Path, tmp_path: Path, name: str) -> None:
    witness = tmp_path / "ran"
    (reference / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"conv_in.weight": torch.zeros(1), "x": Danger(witness)}, reference / name)
    with pytest.raises(CheckpointError, match=r"(posix|nt)\.system"):
        read_checkpoint(reference / name if name == "evil.pt" else reference)
    assert not witness.exists()


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors", "native.pt"])
def test_truncated_file_is_one_line(unet: UNet2DModel, tmp_path: Path, name: str, keep: float) -> None:
    path = tmp_path / name
    if name == "native.pt":
        wide_checkpoint().save(path)
    else:
        (save_pt if path.suffix == ".pt" else save_safetensors)(unet.state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(CheckpointError, match=r"damaged") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def edit(path: Path, **changes: Any) -> None:
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "is a UNet2DConditionModel; only"),
        ("unet/config.json", {"num_class_embeds": 3}, r"num_class_embeds is not supported \(3\): use None"),
        ("unet/config.json", {"class_embed_type": "timestep"}, r"class_embed_type is not supported \('timestep'\)"),
        (
            "unet/config.json",
            {"time_embedding_type": "fourier"},
            r"time_embedding_type is not supported \('fourier'\): use 'positional'",
        ),
        ("unet/config.json", {"from_the_future": 1}, r"has an unknown key \('from_the_future'\)"),
        ("unet/config.json", {"block_out_channels": [16, 32, 64]}, "do not fit the network's configuration"),
        ("unet/config.json", {"add_attention": False}, "'mid_block.attentions.0.group_norm.bias' is too many"),
        ("unet/config.json", {"norm_num_groups": 5}, "makes no UNet2DModel"),
        ("unet/config.json", {"norm_num_groups": 0}, "`int` >= 1 - at `\\$.norm_num_groups`"),
        ("unet/config.json", {"block_out_channels": "wide"}, "Expected `array`, got `str`"),
        ("unet/config.json", {"sample_size": "big"}, "sample_size 'big'; it must be N or"),
        (
            "unet/config.json",
            {"down_block_types": ["SkipDownBlock2D"] * 3},
            "down block 'SkipDownBlock2D' is not supported",
        ),
        ("unet/config.json", {"in_channels": 1, "out_channels": 1}, "at least one mask channel more"),
        ("model_index.json", {"vqvae": ["diffusers", "VQModel"]}, "a pipeline with a 'vqvae'"),
        ("scheduler/scheduler_config.json", {"thresholding": True}, "thresholding True, which is not supported"),
    ],
)
def test_folder_that_cannot_be_run_is_refused_by_name(
    reference: Path, file: str, changes: dict[str, Any], message: str
) -> None:
    edit(reference / file, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        source = read_checkpoint(reference)
        settle(source, classes=["background", "ring", "disc"])
        build_unet(source.unet, source.weights)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["unet/config.json", "scheduler/scheduler_config.json"])
def test_missing_part_is_named(reference: Path, missing: str) -> None:
    (reference / missing).unlink()
    with pytest.raises(CheckpointError, match=f"{missing} cannot be read"):
        read_checkpoint(reference)


def test_missing_weights_are_named(reference: Path) -> None:
    (reference / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"neither diffusion_pytorch_model\.safetensors nor"):
        read_checkpoint(reference)


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a": 1, "a": 2}'])
def test_broken_json_is_one_line(reference: Path, text: bytes) -> None:
    (reference / "model_index.json").write_bytes(text)
    with pytest.raises(CheckpointError, match=r"model_index\.json (is not JSON|must hold a JSON object)"):
        read_checkpoint(reference)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {}, "optimizer": {}}, "'model' is no tensor. Save the network's state_dict"),
        ({}, "holds a dict; it must be a state dict"),
        ([torch.zeros(1)], "holds a list"),
        ({"fc.weight": torch.zeros(2, 2)}, "there is no 'conv_in.weight'"),
        ({"attentions": torch.zeros(2, 2)}, "there is no 'conv_in.weight'"),
    ],
)
def test_file_of_something_else_is_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "a.pt")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pt does not exist"):
        read_checkpoint(tmp_path / "gone.pt")
    with pytest.raises(CheckpointError, match=r"is no checkpoint folder: there is no model_index\.json, unet/config"):
        read_checkpoint(tmp_path)


def source_of(**changes: Any) -> Source:
    unet = {"in_channels": 2, "out_channels": 1, "block_out_channels": [8, 8, 8]}
    known = {"path": Path("a"), "format": "state-dict", "sha256": "0" * 64, "unet": unet, "weights": {}}
    return Source(**{**known, **changes})


GIVEN: dict[str, Any] = {
    "classes": ["background", "disc"],
    "image_size": (16, 24),
    "encoding": MaskEncoding.LABEL_OVER_255,
}


def test_what_a_bare_checkpoint_lacks_is_asked_for_by_name() -> None:
    for missing, option in (("classes", "--classes"), ("image_size", "--image-size"), ("encoding", "--mask-encoding")):
        with pytest.raises(OptionError, match=option):
            settle(source_of(), **{**GIVEN, missing: None})
    spec = settle(source_of(), **GIVEN)
    assert (spec.height, spec.width, spec.image_channels, spec.mask_channels) == (16, 24, 1, 1)


def test_the_caller_tells_the_schedule_of_a_bare_checkpoint() -> None:
    said = ScheduleOptions(
        prediction=Prediction.V, beta_schedule=BetaCurve.SCALED_LINEAR, beta_start=8.5e-4, beta_end=0.012
    )
    spec = settle(source_of(), **GIVEN, schedule=said)
    assert spec.schedule == NoiseSchedule(
        prediction=Prediction.V, beta_curve=BetaCurve.SCALED_LINEAR, beta_start=8.5e-4, beta_end=0.012
    )
    assert spec.guessed == ()
    with pytest.raises(OptionError, match=r"--beta-start, --beta-end: beta_start 0\.5 and beta_end 0.02"):
        settle(source_of(), **GIVEN, schedule=ScheduleOptions(beta_start=0.5))


def test_the_caller_tells_the_intensity_range_of_a_bare_checkpoint() -> None:
    assert settle(source_of(), **GIVEN).intensity_range is None
    assert settle(source_of(), **GIVEN, intensity_range=(-160, 240)).intensity_range == (-160, 240)


def test_what_a_checkpoint_tells_is_no_guess(wide_pt: Path, reference: Path) -> None:
    assert settle(read_checkpoint(wide_pt)).guessed == ()
    assert settle(read_checkpoint(reference), classes=["background", "disc"]).guessed == ()


def test_one_hot_is_the_only_encoding_of_many_channels() -> None:
    unet = {"in_channels": 5, "out_channels": 3, "block_out_channels": [8]}
    spec = settle(source_of(unet=unet), classes=["background", "ring", "disc"], image_size=(16, 24))
    assert (spec.encoding, spec.mask_channels) == (MaskEncoding.ONE_HOT, 2)


@pytest.mark.parametrize(
    ("known", "given", "message"),
    [
        ({}, {"image_size": (16, 22)}, "needs multiples of 4"),
        ({}, {"image_size": (0, 4)}, "needs multiples of 4"),
        ({}, {"classes": ["background"]}, "--classes: class ids"),
        ({}, {"classes": ["background", "disc", "Disc"]}, "differ by more than case"),
        ({}, {"classes": ["background", ""]}, "must be printable"),
        ({}, {"encoding": MaskEncoding.ONE_HOT, "classes": ["bg", "a", "b"]}, "one-hot of 3 classes makes 2"),
        ({"image_size": (32, 32)}, {}, "draws 32x32: leave --image-size out"),
    ],
)
def test_what_does_not_fit_is_refused(known: dict[str, Any], given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        settle(source_of(**known), **{**GIVEN, **given})


def test_size_of_a_diffusers_configuration_is_a_hint() -> None:
    source = source_of(image_size=(32, 32), image_size_is_hint=True)
    assert (settle(source, **GIVEN).height, settle(source, **{**GIVEN, "image_size": None}).height) == (16, 32)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"classes": ["background", "a", "b"]}, "has the classes background,ring,disc: leave --classes out"),
        ({"image_size": (32, 32)}, "draws 16x24"),
        ({"encoding": MaskEncoding.LABEL_OVER_255}, "has masks in one-hot: leave --mask-encoding out"),
        (
            {"schedule": ScheduleOptions(prediction=Prediction.EPSILON)},
            r"states its noise schedule \(v prediction, linear betas from 0.0001 to 0.02\): leave --prediction",
        ),
    ],
)
def test_our_checkpoint_is_not_contradicted(wide_pt: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        settle(read_checkpoint(wide_pt), **given)


def test_our_checkpoint_needs_no_configuration(wide_pt: Path) -> None:
    with pytest.raises(OptionError, match="leave --unet-config out"):
        read_checkpoint(wide_pt, {"norm_num_groups": 4})


@pytest.mark.parametrize("content", [b"", bytes(100), (10**12).to_bytes(8, "little") + b"{}", b"\xff" * 50])
def test_damaged_safetensors_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.safetensors is damaged") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="is damaged"):
        Checkpoint.load(path)  # as `seggd-rt slim` reads it


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_pipes_and_devices_are_no_checkpoints(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="it is a pipe or a device"):
        read_checkpoint(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="it is a pipe or a device"):
        read_checkpoint(path)
