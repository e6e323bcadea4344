"""The model card: what a bundle states and what was measured of it, as one page for people who are to trust it.

Everything on it is the manifest's, the report's or follows from them. What is not stated is said to be not stated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

import seggd_rt
from seggd_rt.bundle import Bundle, Manifest, Standing, sha256_of
from seggd_rt.diffusion import MaskEncoding
from seggd_rt.errors import DataError
from seggd_rt.reports.evaluation_report import (
    Estimate,
    EvaluationReport,
    MemorisationFigures,
    RealismFigures,
    pictures_beside,
    read_evaluation,
)
from seggd_rt.reports.page import Picture, environment
from seggd_rt.wording import counted, some_of

Facts = tuple[tuple[str, str | None], ...]
"""Names and values; None for what is not stated."""

Tile = tuple[str, str | None, str]
"""A name, its value, None for what is not stated, and a few words to it."""

_GENERATOR = b'<meta name="generator" content="seggd-rt card">'
_HEAD = 1024
"""Bytes at a card's beginning that hold its generator's name, and no text of others."""
_PARTS = {
    "faithfulness": "Do images follow their masks?",
    "realism": "Do they look real?",
    "ablation": "May classes be left out?",
    "memorisation": "Are they copies of training images?",
    "interpolation": "Can the similarity to a real image be dialled?",
    "use": "What are synthetic pairs good for?",
    "cost": "What do fewer steps cost?",
}
_STANDINGS = {
    Standing.NONE: ("unsigned", "no bundle.sig"),
    Standing.HOLDS: ("signed", "key {}"),
    Standing.BROKEN: ("broken", "changed after signing"),
    Standing.UNCHECKED: ("not checked", "key {}"),
}


@dataclass(frozen=True)
class Table:
    """A table of text, and what a reader must know of it."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remark: str = ""
    bold_last: bool = False


@dataclass(frozen=True)
class Section:
    """A part of an evaluation: its figures, where a card shows them, and its pictures."""

    title: str
    table: Table | None
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Evaluation:
    """An evaluation of the bundle's checkpoint.

    Attributes
    ----------
    report, sha256
        The report, and the SHA-256 of its file.
    sections
        Its parts.
    other_export
        Whether another bundle of the same checkpoint was evaluated.
    """

    report: EvaluationReport
    sha256: str
    sections: tuple[Section, ...]
    other_export: bool


def render_card(bundle: Bundle, report: Path | None = None) -> bytes:
    """Verify a bundle's files and return its card, UTF-8.

    Parameters
    ----------
    bundle
        Which.
    report
        `report.json` of its evaluation, or its folder; the plots and sheets there are shown too.

    Raises
    ------
    IntegrityError
        The bundle is not whole.
    SignatureError
        Its signature cannot be read.
    DataError
        The report cannot be read, states figures that cannot be, or is of another checkpoint, sampler, number of steps
        or other classes; or a picture beside it cannot be read.
    MissingExtraError
        Jinja is not installed.
    """
    template = environment("seggd_rt.reports", extra="card", feature="the model card").get_template("card.html.j2")
    bundle.verify()
    evaluation = None if report is None else _evaluation(bundle, report)
    manifest = bundle.manifest
    page = template.render(
        manifest=manifest,
        foreground=", ".join(c.name for c in manifest.classes[1:]),
        glance=_glance(bundle, evaluation),
        limits=_limits(manifest),
        data=_data(manifest),
        masks=_masks(manifest),
        drawing=_drawing(manifest),
        graphs=_graphs(manifest),
        segmenter=_segmenter(manifest),
        evaluation=evaluation,
        provenance=_provenance(manifest),
        integrity=_integrity(bundle),
        files=_files(manifest),
        version=seggd_rt.__version__,
    )
    return page.encode()


def is_card(page: bytes) -> bool:
    """Say whether a file is a card that this module rendered."""
    return _GENERATOR in page[:_HEAD]


def _evaluation(bundle: Bundle, path: Path) -> Evaluation:
    path = path / "report.json" if path.is_dir() else path
    report = read_evaluation(path)
    _require_same(path, report, bundle)
    _require_classes(path, report, bundle.manifest)
    tables = {
        "faithfulness": _dice(report),
        "realism": None if report.realism is None else _realism(report.realism),
        "ablation": _ablation(report) if report.ablation else None,
        "memorisation": None if report.memorisation is None else _memorisation(report.memorisation),
    }
    pictures = pictures_beside(path)
    titles = _PARTS | {picture.part: picture.part for picture in pictures if picture.part not in _PARTS}
    sections = (
        Section(title, tables.get(part), tuple(picture for picture in pictures if picture.part == part))
        for part, title in titles.items()
    )
    return Evaluation(
        report,
        sha256_of(path),
        tuple(s for s in sections if s.table is not None or s.pictures),
        other_export=report.bundle.sha256 != bundle.sha256,
    )


def _require_same(path: Path, report: EvaluationReport, bundle: Bundle) -> None:
    """Refuse a report that is not of this bundle's network, or not of its own sampler and steps.

    The checkpoint says which network it is. Each export gives another manifest, which holds versions and errors.
    """
    evaluated, checkpoint = report.bundle, bundle.manifest.provenance.checkpoint_sha256
    if evaluated.sha256 != bundle.sha256 and evaluated.checkpoint_sha256 != checkpoint:
        found = "none" if evaluated.checkpoint_sha256 is None else evaluated.checkpoint_sha256[:12]
        raise DataError(
            f"{path} is the evaluation of another checkpoint ({evaluated.name}, checkpoint {found}; {bundle.path} has "
            f"{checkpoint[:12]}): run seggd-rt evaluate on this bundle"
        )
    generation, defaults = report.generation, bundle.manifest.defaults
    if (generation.sampler, generation.steps) != (defaults.sampler, defaults.steps):
        raise DataError(
            f"{path} has another sampler or number of steps than the bundle ({generation.sampler} "
            f"{generation.steps}, not {defaults.sampler} {defaults.steps}): run seggd-rt evaluate without --sampler "
            "and --steps"
        )


def _require_classes(path: Path, report: EvaluationReport, manifest: Manifest) -> None:
    """Refuse figures of classes that the bundle does not have."""
    found, known = ([each.name for each in some] for some in (report.generated.classes, manifest.classes[1:]))
    if found != known:
        raise DataError(
            f"{path} has figures of other classes than the bundle ({some_of(found)}; the bundle has {some_of(known)}): "
            "run seggd-rt evaluate on this bundle"
        )
    if any(row.size > len(known) for row in report.ablation):
        raise DataError(
            f"{path} has figures of more classes given than the bundle has ({max(row.size for row in report.ablation)} "
            f"of {len(known)}): run seggd-rt evaluate on this bundle"
        )


def _glance(bundle: Bundle, evaluation: Evaluation | None) -> tuple[Tile, ...]:
    manifest, state = bundle.manifest, bundle.signature_state
    image = manifest.image
    value, note = _STANDINGS[state.standing]
    return (
        ("image", f"{image.height} x {image.width}", f"pixels, {counted(image.channels, 'channel')}"),
        ("classes", str(len(manifest.classes) - 1), "beside the background"),
        ("trained with ablation", _known(manifest.mask.trained_with_ablation), "classes left out at random"),
        ("parameters", _millions(manifest.provenance.parameters), "of the network"),
        _dice_tile(None if evaluation is None else evaluation.report),
        ("signature", value, note.format((state.key_sha256 or "")[:16])),
    )


def _dice_tile(report: EvaluationReport | None) -> Tile:
    if report is None:
        return ("mean Dice", None, "")
    return ("mean Dice", f"{report.generated.dice.mean:.3f}", f"real images {report.real.dice.mean:.3f}")


def _limits(manifest: Manifest) -> tuple[str, ...]:
    """Say what follows from what is stated, and what is not."""
    mask, image = manifest.mask, manifest.image
    ablation = {
        True: "It was trained with classes left out at random: any subset of the classes may be given. The others may "
        "be drawn nonetheless, where the anatomy has them.",
        False: "It was trained on whole masks: with classes left out, images are beyond what it was trained for.",
        None: "Whether it was trained with classes left out is not stated: images with classes left out are at the "
        "user's own judgement.",
    }[mask.trained_with_ablation]
    empty = {
        True: "It was trained with masks without any foreground too.",
        False: "It was not trained with every class left out: what it draws for a mask without foreground is beyond "
        "its training.",
        None: "Whether it was trained on masks without foreground is not stated.",
    }[mask.trained_with_empty_mask]
    return (
        "Images are synthetic and say nothing about any patient: not for diagnosis.",
        f"It draws single 2D images of {image.height} x {image.width} pixels; masks of another size are resized.",
        ablation,
        empty,
        "Other populations, scanners and protocols than those of the training data: not stated.",
    )


def _data(manifest: Manifest) -> Facts:
    provenance, spacing, levels = manifest.provenance, manifest.spacing_mm, manifest.intensity_range
    return (
        ("training data", provenance.training_data),
        ("licence", provenance.licence),
        ("modality", manifest.modality),
        ("pixel spacing, rows x columns", None if spacing is None else f"{spacing[0]:g} x {spacing[1]:g} mm"),
        ("intensity range", None if levels is None else f"black at {levels[0]:g}, white at {levels[1]:g}"),
    )


def _masks(manifest: Manifest) -> Facts:
    encodings = {
        MaskEncoding.ONE_HOT: "one channel for every foreground class, 1 where a pixel has it",
        MaskEncoding.LABEL_OVER_255: "one channel of class id / 255",
    }
    encoding = manifest.mask.encoding
    return (
        ("encoding", f"{encoding}: {encodings[encoding]}"),
        ("channels of the mask", str(manifest.mask_channels)),
        ("trained with classes left out", _known(manifest.mask.trained_with_ablation)),
        ("trained with empty masks", _known(manifest.mask.trained_with_empty_mask)),
    )


def _drawing(manifest: Manifest) -> Facts:
    image, schedule, defaults = manifest.image, manifest.schedule, manifest.defaults
    clip = "not clipped" if schedule.clip_x0 is None else f"clipped to [-{schedule.clip_x0:g}, {schedule.clip_x0:g}]"
    loop = manifest.sampler_graph
    return (
        ("image", f"{counted(image.channels, 'channel')} of {image.height} x {image.width} pixels (height x width)"),
        ("defaults", f"{defaults.sampler}, {counted(defaults.steps, 'step')}"),
        ("network predicts", f"{schedule.prediction}; the estimate of the image is {clip}"),
        (
            "noise schedule",
            f"{schedule.train_steps} training steps, {schedule.beta_curve} betas from {schedule.beta_start:g} to "
            f"{schedule.beta_end:g}, {schedule.spacing} spacing"
            + (", rescaled to zero terminal SNR" if schedule.zero_terminal_snr else ""),
        ),
        (
            "loop as one graph",
            "not in the bundle" if loop is None else f"{loop.files[0].path}: {loop.sampler}, {loop.steps} steps",
        ),
    )


def _segmenter(manifest: Manifest) -> Facts:
    """Say how good the segmenter is that images may be checked by."""
    found = manifest.segmenter
    if found is None:
        return (("segmenter", "not in the bundle: images cannot be checked by it"),)
    parity, real = found.parity, found.real
    low, high = found.percentiles
    of_whom = "" if real is None or real.patients is None else f" of {counted(real.patients, 'patient')}"
    return (
        ("segmenter", f"{found.files[0].path}, {sum(file.size for file in found.files) / 1e6:.1f} MB"),
        (
            "against PyTorch in fp32",
            f"error {parity.rel_max:.1e}, limit {parity.limit:.0e}; {parity.labels_changed:.2%} of the pixels of "
            f"another class, limit {parity.labels_limit:.2%}",
        ),
        (
            "Dice on real images",
            None
            if real is None
            else f"{real.per_patient:.3f} by patient, {real.per_image:.3f} by image; 95 % of the images reach "
            f"{real.per_image_low:.3f}: {counted(real.images, 'image')}{of_whom}, {real.data}",
        ),
        *(
            (f"median grey of {each.name}", f"{each.low:.3f} to {each.high:.3f}, percentiles {low:g} to {high:g}")
            for each in found.intensities
        ),
    )


def _graphs(manifest: Manifest) -> Table:
    rows = []
    for graph in manifest.graphs:
        parity = graph.parity
        rows.append(
            (
                graph.precision.value,
                f"{sum(file.size for file in graph.files) / 1e6:.1f}",
                f"{parity.rel_l2:.1e}",
                f"{parity.rel_max:.1e}",
                f"{parity.limit:.0e}",
                "equal" if parity.image_psnr_db is None else f"{parity.image_psnr_db:.1f}",
                str(graph.opset),
            )
        )
    return Table(
        "Each graph against PyTorch in fp32, as its export measured",
        ("precision", "MB", "error |d|/|o|", "error max|d|/max|o|", "limit", "image PSNR, dB", "opset"),
        tuple(rows),
        "The errors are the largest over single steps along a recorded PyTorch run. Every engine checks itself against "
        "that run before its first image.",
    )


def _dice(report: EvaluationReport) -> Table:
    pairs = zip(report.generated.classes, report.real.classes, strict=True)
    return Table(
        "Dice against the masks [95 % interval]",
        ("class", "generated images", "real images"),
        (
            *((drawn.name, _figure(drawn.dice), _figure(real.dice)) for drawn, real in pairs),
            ("mean", str(report.generated.dice), str(report.real.dice)),
        ),
        "A segmenter that was trained on real images alone reads both. What it misses on real images is not the "
        "model's doing.",
        bold_last=True,
    )


def _realism(realism: RealismFigures) -> Table:
    measures = [("Frechet distance, segmenter's features", realism.frechet)]
    if realism.other is not None:
        measures.append((f"Frechet distance, features of {realism.other.graph}", realism.other.frechet))
    if realism.similarity is not None:
        measures.append(("SSIM of different patients", realism.similarity))
    return Table(
        "How real they look [95 % interval]",
        ("measure", "generated images", "real images"),
        tuple((name, str(pair.generated), str(pair.real)) for name, pair in measures),
        "A distance of 0 is that of the measured real images to themselves; the lower the SSIM, the more diverse.",
    )


def _ablation(report: EvaluationReport) -> Table:
    return Table(
        "Dice of images drawn from some of the classes [95 % interval]",
        ("classes given", "of those given", "of the others, inferred"),
        tuple((str(row.size), _figure(row.given), _figure(row.others)) for row in report.ablation),
    )


def _memorisation(found: MemorisationFigures) -> Table:
    spaces = (found.pixels, found.features)
    return Table(
        f"Distance to the nearest of {counted(found.images, 'training image')} [95 % interval]",
        ("generated images, beside held-out real ones", "in pixels", "in features"),
        (
            ("median distance, as part of theirs", *(_figure(space.ratio) for space in spaces)),
            ("part nearer than their nearest 5 %", *(_figure(space.nearer_than_near) for space in spaces)),
            ("part nearer than all of them", *(_figure(space.nearer_than_all) for space in spaces)),
        ),
        f"Near enough to be taken for copies: {counted(found.copies, 'generated image')}, and "
        f"{counted(found.real_copies, 'held-out real image')}, which cannot be copies. Images that repeat "
        "training data are much nearer than real ones of other patients.",
    )


def _provenance(manifest: Manifest) -> Facts:
    provenance = manifest.provenance
    training = provenance.training or {}
    reserved = msgspec.to_builtins(manifest)
    return (
        ("checkpoint", f"{provenance.checkpoint_format}, SHA-256 {provenance.checkpoint_sha256}"),
        ("parameters", f"{provenance.parameters:,}"),
        ("exported with", ", ".join(f"{name} {version}" for name, version in provenance.versions.items()) or None),
        *((f"training: {key.replace('_', ' ')}", None if v is None else str(v)) for key, v in training.items()),
        *((("training", None),) if not training else ()),
        *((key, _json(reserved[key])) for key in ("dicom", "evaluation", "extensions")),
    )


def _integrity(bundle: Bundle) -> Facts:
    return (
        ("bundle's SHA-256", bundle.sha256),
        ("signature", str(bundle.signature_state)),
        ("schema", bundle.manifest.schema),
    )


def _files(manifest: Manifest) -> Table:
    return Table(
        "Files, each hashed when this page was made",
        ("file", "bytes", "SHA-256"),
        tuple((ref.path, f"{ref.size:,}", ref.sha256) for ref in manifest.files),
    )


def _figure(estimate: Estimate | None) -> str:
    return "-" if estimate is None else str(estimate)


def _known(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e4 else f"{count:,}"


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
