"""Make the tiny bundles the tests run on, without PyTorch: `python tests/golden/make_tiny.py`.

Their network is a few hundred hand-made weights around the exact answer for pixels drawn from N(mu(mask), S^2):

    mu  = conv(tanh(conv([x | mask])))                 3x3 convolutions; every class has a grey level of its own
    eps = sqrt(1 - a) (x - sqrt(a) mu) / (a S^2 + 1 - a)
    v   = sqrt(a (1 - a)) (1 - S^2) (x - sqrt(a) mu) / (a S^2 + 1 - a) - sqrt(1 - a) mu

with a = alpha_bar(t) of the linear schedule, its sum of log(1 - beta) taken as a polynomial in t. So images follow
their masks, differ by seed, and do not amplify rounding. The golden run is computed with NumPy in float64, apart from
any engine. One bundle also has a segmenter: a pixel is of the class whose grey level is nearest to that of it and its
neighbours. It needs `onnx` (to write the graphs) and `onnxruntime` (to state their parity); the tests need neither onnx
nor this file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from seggd_rt.bundle import (
    MANIFEST,
    Check,
    ClassIntensity,
    Defaults,
    Graph,
    ImageSpec,
    Manifest,
    MaskSpec,
    Meaning,
    Parity,
    Provenance,
    SegmenterGraph,
    SegmenterParity,
    file_ref,
)
from seggd_rt.diffusion import (
    PARITY_LIMIT,
    MaskEncoding,
    NoiseSchedule,
    Precision,
    Prediction,
    Sampler,
    advance,
    encode,
    encode_table,
    mask_channels,
    name_classes,
    normal,
    psnr_db,
    relative_errors,
    sampler_rows,
)

HERE = Path(__file__).parent
NAMES = ("background", "cavity", "myocardium", "right ventricle")
LEVELS = (-0.7, 0.6, -0.1, 0.3)
"""Grey level of each class in [-1, 1]."""
STD = 0.15
"""S: how far pixels of one class spread."""
FEATURES = 8
CHECK_STEPS = 20
OPSET = 20
IR_VERSION = 10
BLUR = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25])
"""What the segmenter takes of a pixel's neighbours."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Variant:
    """One bundle."""

    name: str
    channels: int
    height: int
    width: int
    encoding: MaskEncoding
    prediction: Prediction
    segmenter: bool = False

    @property
    def schedule(self) -> NoiseSchedule:
        """Linear betas, 1000 steps."""
        return NoiseSchedule(prediction=self.prediction)


VARIANTS = (
    Variant("tiny", 1, 24, 32, MaskEncoding.ONE_HOT, Prediction.EPSILON),
    Variant("tiny-rgb", 3, 16, 20, MaskEncoding.LABEL_OVER_255, Prediction.V),
    Variant("tiny-checked", 1, 24, 32, MaskEncoding.ONE_HOT, Prediction.EPSILON, segmenter=True),
)


def weights(variant: Variant) -> dict[str, NDArray[np.float32]]:
    """Return the convolutions: feature k says where class k + 1 is, the last ones are texture."""
    draw = np.random.default_rng(20240207)
    classes = len(NAMES)
    inputs = variant.channels + mask_channels(variant.encoding, classes)
    w_in = draw.normal(0, 0.05, (FEATURES, inputs, 3, 3))
    b_in = draw.normal(0, 0.05, FEATURES)
    w_out = draw.normal(0, 0.03, (variant.channels, FEATURES, 3, 3))
    b_out = np.full(variant.channels, LEVELS[0])
    for k in range(classes - 1):
        if variant.encoding is MaskEncoding.ONE_HOT:
            w_in[k, variant.channels + k, 1, 1] += 3  # tanh(3) is nearly 1, tanh(0) is 0
            w_out[:, k, 1, 1] += LEVELS[k + 1] - LEVELS[0]
        else:
            w_in[k, variant.channels, 1, 1] += 255 * 6  # tanh(6 (label - k - 1/2)) steps from -1 to 1 at label k + 1
            b_in[k] -= 6 * (k + 0.5)
            # Channels of one pixel differ, so that swapped channels show.
            step = (LEVELS[k + 1] - LEVELS[k]) / 2 * (1 - 0.2 * np.arange(variant.channels))
            w_out[:, k, 1, 1] += step
            b_out += step
    arrays = {"conv_in.weight": w_in, "conv_in.bias": b_in, "conv_out.weight": w_out, "conv_out.bias": b_out}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def log_alpha_bar(schedule: NoiseSchedule) -> tuple[float, float]:
    """Return p, q with -log(alpha_bar(t)) nearly p (t + 1) + q (t + 1)^2."""
    slope = (schedule.beta_end - schedule.beta_start) / schedule.train_steps / 2
    return schedule.beta_start, slope


def conv3x3(x: Array, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> Array:
    """Convolve (C, H, W) with (O, C, 3, 3), zeros outside."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.einsum("chwij,ocij->ohw", windows, weight.astype(np.float64)) + bias[:, None, None]


def evaluate(variant: Variant, arrays: dict[str, NDArray[np.float32]], x: Array, mask: Array, t: int) -> Array:
    """Return the network's output for one image, in float64."""
    p, q = log_alpha_bar(variant.schedule)
    hidden = np.tanh(conv3x3(np.concatenate([x, mask]), arrays["conv_in.weight"], arrays["conv_in.bias"]))
    mu = conv3x3(hidden, arrays["conv_out.weight"], arrays["conv_out.bias"])
    a = np.exp(-(p * (t + 1) + q * (t + 1) ** 2))
    rest = (x - np.sqrt(a) * mu) / (a * STD**2 + 1 - a)
    if variant.prediction is Prediction.EPSILON:
        return np.sqrt(1 - a) * rest
    return np.sqrt(a * (1 - a)) * (1 - STD**2) * rest - np.sqrt(1 - a) * mu


def onnx_model(variant: Variant, arrays: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """Return the same network as an ONNX graph. 1 - e^-u is (1 + e^-u) tanh(u / 2), which loses no digits."""
    p, q = log_alpha_bar(variant.schedule)
    numbers = {"p": p, "q": q, "one": 1.0, "half": 0.5, "variance": STD**2}
    if variant.prediction is Prediction.V:
        numbers["rest"] = 1 - STD**2
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    initializers += [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in numbers.items()]
    integers = {"shape": [-1, 1, 1, 1], "start": [0], "end": [variant.channels], "axis": [1]}
    initializers += [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in integers.items()]

    nodes: list[onnx.NodeProto] = []

    def node(operator: str, inputs: str, output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(operator, inputs.split(), [output], name=output, **attributes))
        return output

    node("Conv", "sample conv_in.weight conv_in.bias", "conv_in", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    node("Tanh", "conv_in", "hidden")
    node("Conv", "hidden conv_out.weight conv_out.bias", "mu", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    node("Slice", "sample start end axis", "x")
    node("Reshape", "timestep shape", "time")
    node("Add", "time one", "t1")
    node("Mul", "t1 q", "t1_q")
    node("Add", "t1_q p", "slope")
    node("Mul", "t1 slope", "u")
    node("Neg", "u", "minus_u")
    node("Exp", "minus_u", "a")
    node("Mul", "u half", "half_u")
    node("Tanh", "half_u", "tanh_u")
    node("Add", "a one", "a_one")
    node("Mul", "a_one tanh_u", "noise_variance")
    node("Mul", "a variance", "a_variance")
    node("Add", "a_variance noise_variance", "total_variance")
    node("Sqrt", "a", "root_a")
    node("Sqrt", "noise_variance", "root_noise")
    node("Mul", "root_a mu", "mean")
    node("Sub", "x mean", "difference")
    node("Div", "difference total_variance", "residual")
    if variant.prediction is Prediction.EPSILON:
        node("Mul", "root_noise residual", "out")
    else:
        node("Mul", "root_a root_noise", "roots")
        node("Mul", "roots rest", "v_scale")
        node("Mul", "v_scale residual", "v_residual")
        node("Mul", "root_noise mu", "v_mu")
        node("Sub", "v_residual v_mu", "out")

    size = (variant.height, variant.width)
    inputs = arrays["conv_in.weight"].shape[1]
    graph = helper.make_graph(
        nodes,
        variant.name,
        [
            helper.make_tensor_value_info("sample", TensorProto.FLOAT, ["batch", inputs, *size]),
            helper.make_tensor_value_info("timestep", TensorProto.FLOAT, ["batch"]),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", variant.channels, *size])],
        initializers,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="make_tiny.py"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def golden_label_map(height: int, width: int) -> NDArray[np.uint8]:
    """Return a heart in short axis, off centre: cavity in a ring of myocardium, right ventricle beside it."""
    y, x = np.mgrid[:height, :width]
    y, x = (y + 0.5) / height - 0.45, (x + 0.5) / width - 0.6
    label_map = np.zeros((height, width), np.uint8)
    label_map[(y + 0.05) ** 2 / 0.09 + (x + 0.28) ** 2 / 0.03 < 1] = 3
    label_map[y**2 / 0.1 + x**2 / 0.08 < 1] = 2
    label_map[y**2 / 0.035 + x**2 / 0.025 < 1] = 1
    return label_map


def golden_run(variant: Variant, arrays: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.generic]]:
    """Return a DDIM run of NumPy's network and update rows: every state, and what a bundle keeps of it."""
    label_map = golden_label_map(variant.height, variant.width)
    mask = encode(label_map, encode_table(variant.encoding, len(NAMES))).astype(np.float64)
    noise = normal(0, (variant.channels, variant.height, variant.width))
    table = sampler_rows(Sampler.DDIM, variant.schedule, CHECK_STEPS)
    x, x0 = noise.copy(), np.zeros_like(noise)
    states, outputs = [], []
    for timestep, row in zip(table.timesteps, table.rows, strict=True):
        output = evaluate(variant, arrays, x.astype(np.float64), mask, int(timestep)).astype(np.float32)
        states.append(x.copy())
        outputs.append(output)
        advance(x, output, x0, row)
    return {
        "label_map": label_map,
        "noise": noise,
        "states": np.stack(states),
        "outputs": np.stack(outputs),
        "timesteps": table.timesteps,
        "image": np.clip(x / 2 + 0.5, 0, 1),
    }


def measured_parity(variant: Variant, path: Path, golden: dict[str, NDArray[np.generic]]) -> Parity:
    """Compare ONNX Runtime with the golden run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    mask = encode(golden["label_map"].astype(np.uint8), encode_table(variant.encoding, len(NAMES)))

    def call(x: NDArray[np.float32], timestep: int) -> NDArray[np.float32]:
        sample = np.concatenate([x, mask])[None]
        return session.run(["out"], {"sample": sample, "timestep": np.array([timestep], np.float32)})[0][0]

    states = golden["states"].astype(np.float32)
    errors = [
        relative_errors(call(x, int(t)), o.astype(np.float32))
        for x, t, o in zip(states, golden["timesteps"], golden["outputs"], strict=True)
    ]
    table = sampler_rows(Sampler.DDIM, variant.schedule, CHECK_STEPS)
    x, x0 = states[0].copy(), np.zeros_like(states[0])
    for timestep, row in zip(table.timesteps, table.rows, strict=True):
        advance(x, call(x, int(timestep)), x0, row)
    psnr = psnr_db(np.clip(x / 2 + 0.5, 0, 1), golden["image"].astype(np.float32))
    return Parity(
        states=len(errors),
        rel_l2=max(l2 for l2, _ in errors),
        rel_max=max(largest for _, largest in errors),
        limit=PARITY_LIMIT[Precision.FP32],
        image_psnr_db=psnr if np.isfinite(psnr) else None,
    )


def segmenter_model(variant: Variant, levels: NDArray[np.float32]) -> onnx.ModelProto:
    """Return what gives a pixel the class whose grey level is nearest to the weighted mean of 3x3 pixels."""
    initializers = [
        numpy_helper.from_array(BLUR.astype(np.float32)[None, None], "blur"),
        numpy_helper.from_array(levels.reshape(1, -1, 1, 1), "levels"),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "blur"], ["smooth"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Sub", ["smooth", "levels"], ["difference"]),
        helper.make_node("Mul", ["difference", "difference"], ["square"]),
        helper.make_node("Neg", ["square"], ["scores"]),
    ]
    size = (variant.height, variant.width)
    graph = helper.make_graph(
        nodes,
        "segmenter",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, *size])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", len(NAMES), *size])],
        initializers,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="make_tiny.py"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def write_segmenter(variant: Variant, path: Path, image: NDArray[np.generic]) -> SegmenterGraph:
    """Write the segmenter, and compare ONNX Runtime with NumPy on the golden image, (1, H, W)."""
    label_map = golden_label_map(variant.height, variant.width)
    levels = np.array([np.median(image[0][label_map == k]) for k in range(len(NAMES))], np.float32)
    path.write_bytes(segmenter_model(variant, levels).SerializeToString(deterministic=True))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"image": image[None].astype(np.float32)})
    smooth = conv3x3(image.astype(np.float64), BLUR[None, None], np.zeros(1))
    expected = -((smooth - levels.astype(np.float64)[:, None, None]) ** 2)
    rel_l2, rel_max = relative_errors(scores[0], expected.astype(np.float32))
    return SegmenterGraph(
        files=(file_ref(path),),
        opset=OPSET,
        classes=NAMES,
        parity=SegmenterParity(
            images=1,
            rel_l2=rel_l2,
            rel_max=rel_max,
            limit=PARITY_LIMIT[Precision.FP32],
            labels_changed=float((scores[0].argmax(0) != expected.argmax(0)).mean()),
            labels_limit=1e-4,
        ),
        percentiles=(0.0, 100.0),
        intensities=tuple(
            ClassIntensity(name=name, low=round(level - STD / 4, 3), high=round(level + STD / 4, 3))
            for name, level in zip(NAMES[1:], levels[1:].tolist(), strict=True)
        ),
    )


def make(variant: Variant) -> Path:
    """Write one bundle."""
    folder = HERE / f"{variant.name}.seggd"
    folder.mkdir(exist_ok=True)
    arrays = weights(variant)
    golden = golden_run(variant, arrays)
    graph_path, check_path = folder / "unet.fp32.onnx", folder / "check.safetensors"
    graph_path.write_bytes(onnx_model(variant, arrays).SerializeToString(deterministic=True))
    kept = [0, CHECK_STEPS // 2, CHECK_STEPS - 1]
    three = {name: golden[name][kept] for name in ("states", "outputs", "timesteps")}
    meaning = Meaning(
        image=ImageSpec(channels=variant.channels, height=variant.height, width=variant.width),
        classes=name_classes(NAMES),
        mask=MaskSpec(encoding=variant.encoding, trained_with_ablation=True, trained_with_empty_mask=False),
        schedule=variant.schedule,
        defaults=Defaults(sampler=Sampler.DDIM, steps=50),
        check_steps=CHECK_STEPS,
    )
    save_file({**golden, **three}, check_path, meaning.metadata())
    manifest = Manifest(
        schema="seggd-bundle/1",
        name=variant.name,
        image=meaning.image,
        classes=meaning.classes,
        mask=meaning.mask,
        schedule=meaning.schedule,
        graphs=(
            Graph(
                precision=Precision.FP32,
                files=(file_ref(graph_path),),
                opset=OPSET,
                parity=measured_parity(variant, graph_path, golden),
            ),
        ),
        check=Check(file=file_ref(check_path), steps=meaning.check_steps),
        segmenter=write_segmenter(variant, folder / "segmenter.onnx", golden["image"]) if variant.segmenter else None,
        defaults=meaning.defaults,
        provenance=Provenance(
            checkpoint_sha256=hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest(),
            checkpoint_format="hand-made",
            versions={"numpy": np.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
            parameters=sum(array.size for array in arrays.values()),
            training_data="none: the weights are made by hand",
            licence="Apache-2.0",
        ),
    )
    (folder / MANIFEST).write_bytes(manifest.to_json())
    return folder


if __name__ == "__main__":
    for variant in VARIANTS:
        print(make(variant))
