"""From a checkpoint to a bundle that has proven itself."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import diffusers
import msgspec
import onnx
import onnx_ir as ir
import onnxruntime
import onnxscript
import torch
from safetensors.numpy import save

import seggd_rt
from seggd_export.forms import Source, read_checkpoint
from seggd_export.graphs import OPSETS, MakeSegmenter, Network, sampler_graph, to_half, trace, write_segmenter
from seggd_export.parity import IMAGE_LIMIT, golden, prove_sampler
from seggd_export.parity import network_parity as parity
from seggd_export.spec import ScheduleOptions, Spec, settle
from seggd_export.unet import build_unet
from seggd_rt.bundle import (
    MANIFEST,
    SAMPLER_EXTENSION,
    SCHEMA,
    Check,
    Defaults,
    Dicom,
    Graph,
    ImageSpec,
    Manifest,
    MaskSpec,
    Meaning,
    Parity,
    Provenance,
    SamplerGraph,
    SegmenterGraph,
    file_ref,
)
from seggd_rt.diffusion import IMAGE_PSNR_DB, MaskEncoding, Precision, RowTable, Sampler, encode_table, sampler_rows
from seggd_rt.errors import ExportError, OptionError, OutputError
from seggd_rt.files import NewFolder, unwritable
from seggd_rt.runs import check_apart
from seggd_rt.wording import either

CHECK_FILE = "check.safetensors"
SAMPLER_FILE = "sampler.onnx"
SEGMENTER_FILE = "segmenter.onnx"
DEFAULT_PRECISIONS = (Precision.FP32, Precision.FP16)
DEFAULT_STEPS = 50
INLINE_BYTES = (1 << 31) - (1 << 24)
"""Largest weights kept in the ONNX file itself: protobuf ends at 2 GiB, and the graph needs some of it."""

_MODALITY = re.compile("[A-Z0-9_]{1,16}")
_PACKAGES: Mapping[str, ModuleType] = {
    "seggd-rt": seggd_rt,
    "torch": torch,
    "diffusers": diffusers,
    "onnx": onnx,
    "onnxscript": onnxscript,
    "onnxruntime": onnxruntime,
}


class ExportWarning(UserWarning):
    """Something about an export that its user should know, and that does not stop it."""


@dataclass(frozen=True)
class Progress:
    """Where an export stands: what it does now, and how much of that is done."""

    doing: str
    done: int = 0
    total: int | None = None


def export_bundle(
    checkpoint: str | Path,
    output: str | Path | None = None,
    *,
    classes: Sequence[str] | None = None,
    precisions: Sequence[Precision] = DEFAULT_PRECISIONS,
    image_size: tuple[int, int] | None = None,
    mask_encoding: MaskEncoding | None = None,
    unet_config: Mapping[str, Any] | None = None,
    schedule: ScheduleOptions | None = None,
    loop: int | None = None,
    segmenter: MakeSegmenter | None = None,
    training_data: str | None = None,
    licence: str | None = None,
    intended_use: str | None = None,
    modality: str | None = None,
    intensity_range: tuple[float, float] | None = None,
    segments: Mapping[str, str] | None = None,
    force: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    inline_bytes: int = INLINE_BYTES,
) -> Path:
    """Export a checkpoint as a bundle, and prove every graph against PyTorch.

    The same checkpoint, with the same packages on the same machine, gives the same bytes.

    Parameters
    ----------
    checkpoint
        Our `.pt`, a bare state dict, a network's folder (the reference's NAME/unet), or a pipeline's folder.
    output
        The bundle's folder; by default beside the checkpoint, with the suffix `.seggd`.
    classes
        Names of every label from 0, background first; needed where the checkpoint does not know them.
    precisions
        Which graphs to make.
    image_size
        (height, width); needed where the checkpoint does not tell.
    mask_encoding
        Needed where the checkpoint does not tell.
    unet_config
        Parts of the network's configuration, by diffusers' names, that a bare state dict cannot show.
    schedule
        What is known of the noise schedule, where the checkpoint does not tell.
    loop
        Also write `sampler.onnx`, the whole DDIM loop of so many steps as one fp32 graph; needs fp32 in `precisions`.
    segmenter
        Makes the segmenter to write as `segmenter.onnx`, by which images may be checked.
    training_data, licence, intended_use
        For the manifest; the checkpoint's own by default.
    modality
        What made the images it was trained on, as DICOM's term: CT or MR, say.
    intensity_range
        The values that were black and white in the images it was trained on, as Hounsfield units of CT, where the
        checkpoint does not tell.
    segments
        Class, or `background`, of each segment by its name in DICOM segmentations, where the names differ.
    force
        Replace a bundle that is there.
    progress
        Called at every step.
    inline_bytes
        Weights larger than this lie in a file beside the ONNX file.

    Returns
    -------
    Path
        The bundle's folder.

    Raises
    ------
    CheckpointError
        The checkpoint is damaged, unsafe, unknown, or of a network that seggd-rt cannot run.
    OptionError
        An option is missing, contradicts the checkpoint, or is outside its range.
    ExportError
        The export failed, or a graph, the loop or the segmenter missed its parity limit.
    OutputError
        The bundle cannot be written, or there is one already.
    """
    checkpoint = Path(checkpoint)
    target = Path(output) if output is not None else default_output(checkpoint)
    if not precisions or len(set(precisions)) != len(precisions):
        raise OptionError(f"precisions are {list(map(str, precisions))}; there must be at least one, each once")
    if loop is not None and Precision.FP32 not in precisions:
        raise OptionError("the loop draws in fp32 and is compared with the fp32 graph: make that one too (--precision)")
    if modality is not None and not _MODALITY.fullmatch(modality):
        raise OptionError(f"the modality is '{modality}'; it must be a term of DICOM, as CT or MR")
    check_apart(target, None, checkpoint)
    _check_target(target, force)
    progress(Progress("reading the checkpoint"))
    source = read_checkpoint(checkpoint, unet_config)
    spec = settle(
        source,
        classes=classes,
        image_size=image_size,
        encoding=mask_encoding,
        schedule=schedule,
        intensity_range=intensity_range,
    )
    dicom = None if segments is None else _dicom(segments, spec)
    if spec.guessed:
        warnings.warn(
            f"{checkpoint} does not tell how it was trained: {', '.join(spec.guessed)} "
            f"{either(len(spec.guessed), 'is', 'are')} assumed, as in the SegGuidedDiff reference. If images look "
            "wrong, give what is true by --prediction, --beta-schedule, --beta-start, --beta-end or --mask-encoding",
            ExportWarning,
            stacklevel=2,
        )
    unet = build_unet(source.unet, source.weights)
    if source.assumed:
        listed = ", ".join(f"{key}={value}" for key, value in source.assumed.items())
        warnings.warn(
            f"the weights do not show {listed}: these are diffusers' defaults. If images look wrong, "
            "give the true ones by --unet-config",
            ExportWarning,
            stacklevel=2,
        )
    with _written_whole(target, force) as folder:
        writer = _Writer(source, spec, unet, folder, progress, inline_bytes)
        manifest = writer.write(
            tuple(precisions),
            loop,
            segmenter,
            name=target.stem,
            modality=modality,
            dicom=dicom,
            training_data=training_data or source.training_data,
            licence=licence or source.licence,
            intended_use=intended_use,
        )
        (folder / MANIFEST).write_bytes(manifest.to_json())
    for graph in manifest.graphs:
        psnr = graph.parity.image_psnr_db
        if psnr is not None and psnr < IMAGE_PSNR_DB:
            warnings.warn(
                f"the {graph.precision} graph's image has a PSNR of {psnr:.1f} dB against PyTorch's, under "
                f"{IMAGE_PSNR_DB:.0f}: its single steps agree, but this network amplifies rounding, as untrained do",
                ExportWarning,
                stacklevel=2,
            )
    return target


def default_output(checkpoint: Path) -> Path:
    """Return where a checkpoint's bundle goes: beside it. NAME/unet is taken for NAME."""
    resolved = checkpoint.resolve()
    named = resolved.parent if resolved.name == "unet" and resolved.is_dir() else resolved
    stem = named.name if named.is_dir() else named.stem
    beside = named.parent if named != resolved else checkpoint.parent
    return beside / f"{stem}.seggd"


class _Writer:
    """Fills a bundle's folder."""

    def __init__(
        self,
        source: Source,
        spec: Spec,
        unet: diffusers.UNet2DModel,
        folder: Path,
        progress: Callable[[Progress], None],
        inline_bytes: int,
    ) -> None:
        self.source, self.spec, self.unet, self.folder = source, spec, unet, folder
        self.progress, self.inline_bytes = progress, inline_bytes
        self.steps = min(golden.STEPS, spec.schedule.train_steps)
        self.table = sampler_rows(Sampler.DDIM, spec.schedule, self.steps)
        self.label_map = golden.example_label_map(spec.height, spec.width, len(spec.classes))
        self.mask = golden.encoded(self.label_map, encode_table(spec.encoding, len(spec.classes)))

    def write(
        self,
        precisions: Sequence[Precision],
        loop: int | None,
        segmenter: MakeSegmenter | None,
        *,
        name: str,
        modality: str | None,
        dicom: Dicom | None,
        **provenance: str | None,
    ) -> Manifest:
        """Write segmenter, graphs, golden run and loop, and return the manifest."""
        table = None if loop is None else sampler_rows(Sampler.DDIM, self.spec.schedule, loop)
        meaning = self._meaning()
        # First, as what was given for it may not fit.
        segmenter_graph = None if segmenter is None else self._write_segmenter(segmenter, meaning)
        self.progress(Progress("tracing the network"))
        network = Network(self.unet, self.spec.schedule.train_steps)
        traced = trace(network, self.spec.height, self.spec.width)
        run = golden.record(
            self.unet,
            self.mask,
            self.table,
            self.spec.image_channels,
            self._counter("running PyTorch in fp32", self.steps),
        )
        graphs = []
        for precision in precisions:
            is_traced = precision is Precision.FP32
            model = traced if is_traced else to_half(traced, precision, network.float32_modules())
            files = self._save(model, precision)
            proven = self._prove(files[0], precision, run)
            refs = tuple(file_ref(file) for file in files)
            graphs.append(Graph(precision=precision, files=refs, opset=OPSETS[precision], parity=proven))
        (self.folder / CHECK_FILE).write_bytes(save(asdict(run.golden(self.label_map)), meaning.metadata()))
        extensions = None
        if table is not None:
            fp32 = next(graph for graph in graphs if graph.precision is Precision.FP32)
            extensions = {SAMPLER_EXTENSION: msgspec.to_builtins(self._write_loop(fp32, meaning, table))}
        return self._manifest(name, modality, dicom, meaning, tuple(graphs), segmenter_graph, extensions, provenance)

    def _write_segmenter(self, make: MakeSegmenter, meaning: Meaning) -> SegmenterGraph:
        self.progress(Progress("reading the segmenter and its data"))
        shipped = make(meaning)
        self.progress(Progress(f"writing and proving {SEGMENTER_FILE}"))
        graph = write_segmenter(shipped, meaning, self.folder / SEGMENTER_FILE)
        _check_graph(self.folder / SEGMENTER_FILE)
        return graph

    def _save(self, model: ir.Model, precision: Precision) -> list[Path]:
        """Write a graph, its weights beside it where they are too many, and return the files."""
        path = self.folder / f"unet.{precision}.onnx"
        size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
        data = self.folder / f"{path.name}.data"
        ir.save(model, path, external_data=data.name if size > self.inline_bytes else None)
        _check_graph(path)
        return [path, data] if data.exists() else [path]

    def _prove(self, graph: Path, precision: Precision, run: golden.Run) -> Parity:
        count = self._counter(f"proving the {precision} graph", parity.evaluations(self.steps))
        return parity.prove(graph, precision, run, self.mask, self.table, count)

    def _write_loop(self, network: Graph, meaning: Meaning, table: RowTable) -> SamplerGraph:
        """Write the loop around the fp32 graph, whose external data it shares, and prove it."""
        network_path, path = self.folder / network.files[0].path, self.folder / SAMPLER_FILE
        ir.save(sampler_graph(ir.load(network_path), meaning, table), path)
        _check_graph(path)
        count = self._counter(f"proving {SAMPLER_FILE}", len(table))
        error = prove_sampler(path, network_path, meaning, table, self.label_map, count)
        return SamplerGraph(
            files=(file_ref(path), *network.files[1:]),
            opset=network.opset,
            sampler=Sampler.DDIM,
            steps=len(table),
            max_error=error,
            limit=IMAGE_LIMIT,
        )

    def _counter(self, doing: str, total: int) -> Callable[[], None]:
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            self.progress(Progress(doing, done, total))

        self.progress(Progress(doing, 0, total))
        return count

    def _meaning(self) -> Meaning:
        source, spec = self.source, self.spec
        return Meaning(
            image=ImageSpec(channels=spec.image_channels, height=spec.height, width=spec.width),
            classes=spec.classes,
            mask=MaskSpec(
                encoding=spec.encoding,
                trained_with_ablation=source.trained_with_ablation,
                trained_with_empty_mask=source.trained_with_empty_mask,
            ),
            schedule=spec.schedule,
            defaults=Defaults(sampler=Sampler.DDIM, steps=min(DEFAULT_STEPS, spec.schedule.train_steps)),
            check_steps=self.steps,
            intensity_range=spec.intensity_range,
        )

    def _manifest(
        self,
        name: str,
        modality: str | None,
        dicom: Dicom | None,
        meaning: Meaning,
        graphs: tuple[Graph, ...],
        segmenter: SegmenterGraph | None,
        extensions: dict[str, Any] | None,
        provenance: Mapping[str, str | None],
    ) -> Manifest:
        source = self.source
        return Manifest(
            schema=SCHEMA,
            name=name,
            image=meaning.image,
            classes=meaning.classes,
            mask=meaning.mask,
            schedule=meaning.schedule,
            graphs=graphs,
            check=Check(file=file_ref(self.folder / CHECK_FILE), steps=meaning.check_steps),
            defaults=meaning.defaults,
            modality=modality,
            intensity_range=meaning.intensity_range,
            provenance=Provenance(
                checkpoint_sha256=source.sha256,
                checkpoint_format=source.format,
                versions={name: str(module.__version__) for name, module in _PACKAGES.items()},
                parameters=sum(math.prod(tensor.shape) for tensor in source.weights.values()),
                training=None if source.training is None else dict(source.training),
                **provenance,
            ),
            segmenter=segmenter,
            dicom=dicom,
            extensions=extensions,
        )


def _dicom(segments: Mapping[str, str], spec: Spec) -> Dicom:
    dicom = Dicom(segments=dict(segments))
    if (stray := dicom.stray(spec.classes)) is not None:
        listed = ", ".join(c.name for c in spec.classes)
        raise OptionError(f"--map has '{'='.join(stray)}', which is no class: there are {listed}")
    return dicom


def _check_graph(path: Path) -> None:
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path.name} is not valid ONNX: {' '.join(str(error).split())}") from error


def _check_target(target: Path, force: bool) -> None:
    """Refuse to replace what is there, unless it is a bundle and may be."""
    if target.is_symlink():
        raise OutputError(f"{target} cannot be written (it is a link): choose another name with -o")
    if not target.exists():
        return
    if not (target / MANIFEST).is_file():
        raise OutputError(f"{target} exists and is no bundle: choose another name by -o")
    if not force:
        raise OutputError(f"{target} exists: choose another name by -o, or replace it by --force")


@contextmanager
def _written_whole(target: Path, force: bool) -> Iterator[Path]:
    """Lend a folder beside `target` that becomes it if the block succeeds, and disappears if it does not.

    The next export removes the folder of a killed one. Exports to one target wait for each other.
    """

    def may_replace() -> None:
        _check_target(target, force)

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent):  # a lock would wait for a folder that never takes files, as /proc
            pass
        with NewFolder(target, lambda file: True, may_replace=may_replace) as new:
            folder = new.make()
            may_replace()  # another export may have ended meanwhile, or a killed one's bundle be back
            yield folder
    except OutputError:
        raise
    except OSError as error:
        raise unwritable(target, error) from error
