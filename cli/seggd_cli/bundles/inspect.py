"""`seggd-rt inspect`: show what a bundle states of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from seggd_cli.options import BundleFolder, RequireSignature
from seggd_rt import terminal
from seggd_rt.wording import counted, printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from seggd_rt.bundle import Bundle, Manifest, SegmenterGraph


def inspect(
    bundle: BundleFolder,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON, and the bundle's hash.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash every file; without it only their sizes are checked.")
    ] = False,
    require_signature: RequireSignature = None,
) -> None:
    """Show a bundle's manifest: image, classes, graphs with their parity, provenance and signature."""
    from seggd_rt.bundle import Bundle

    opened = Bundle.open(bundle, require_signature=require_signature)
    verify = verify or require_signature is not None  # a signature is of what is hashed
    if verify:
        opened.verify()
    else:
        opened.check_sizes()
    if as_json:
        import msgspec

        about = {
            "sha256": opened.sha256,
            "signature": msgspec.to_builtins(opened.signature_state),
            "manifest": msgspec.to_builtins(opened.manifest),
        }
        terminal.result_lines(msgspec.json.format(msgspec.json.encode(about), indent=2).decode())
        return
    console = terminal.console()
    for table in (
        _summary(opened),
        _classes(opened.manifest),
        graphs_table(opened.manifest),
        *([] if (segmenter := opened.manifest.segmenter) is None else [segmenter_table(segmenter)]),
        _provenance(opened.manifest),
    ):
        console.print(table)
    size = sum(ref.size for ref in opened.manifest.files) / 1e6
    checked = "every SHA-256 is the manifest's" if verify else "sizes are the manifest's; --verify also hashes them"
    terminal.say(f"{counted(len(opened.manifest.files), 'file')}, {size:.1f} MB: {checked}")


def graphs_table(manifest: Manifest) -> Table:
    """Return the bundle's graphs, with how each compares with PyTorch in fp32, and below them the loop's."""
    from rich.table import Table

    table = Table(
        "Graph", "Opset", "MB", "|d|/|o|", "max|d|/max|o|", "Limit", "Image PSNR", title="Graphs against PyTorch fp32"
    )
    for graph in manifest.graphs:
        parity = graph.parity
        psnr = "equal" if parity.image_psnr_db is None else f"{parity.image_psnr_db:.1f} dB"
        table.add_row(
            graph.precision,
            str(graph.opset),
            f"{sum(file.size for file in graph.files) / 1e6:.1f}",
            f"{parity.rel_l2:.1e}",
            f"{parity.rel_max:.1e}",
            f"{parity.limit:.0e}",
            psnr,
        )
    loop = manifest.sampler_graph
    if loop is not None:
        size = sum(file.size for file in loop.files) / 1e6
        error = f"{loop.max_error:.1e} from" if loop.max_error else "equal to"
        table.caption = (
            f"{printable(loop.files[0].path)}: {loop.sampler}, {counted(loop.steps, 'step')}, {size:.1f} MB\n"
            f"its image: {error} the runtime's (limit {loop.limit:.0e})"
        )
    return table


def segmenter_table(segmenter: SegmenterGraph) -> Table:
    """Return the segmenter that images may be checked by: how good it is, and what grey levels it expects."""
    parity, real = segmenter.parity, segmenter.real
    low, high = segmenter.percentiles
    of_whom = "" if real is None or real.patients is None else f" of {counted(real.patients, 'patient')}"
    rows: dict[str, str | None] = {
        "File": f"{segmenter.files[0].path}, {sum(file.size for file in segmenter.files) / 1e6:.1f} MB, opset "
        f"{segmenter.opset}",
        "Classes": ", ".join(segmenter.classes),
        "Against PyTorch fp32": f"|d|/|o| {parity.rel_l2:.1e}, max|d|/max|o| {parity.rel_max:.1e} (limit "
        f"{parity.limit:.0e}), {parity.labels_changed:.2%} of the pixels of another class (limit "
        f"{parity.labels_limit:.2%})",
        "Dice on real images": "unknown"
        if real is None
        else f"{real.per_patient:.3f} by patient, {real.per_image:.3f} by image, 95 % of the images reach "
        f"{real.per_image_low:.3f}: {counted(real.images, 'image')}{of_whom}, {real.data}",
        **{
            f"Median grey of {each.name}": f"{each.low:.3f} to {each.high:.3f} (percentiles {low:g} to {high:g} of "
            "training images)"
            for each in segmenter.intensities
        },
    }
    return _facts("Segmenter, for checks of images", rows)


def _summary(bundle: Bundle) -> Table:
    manifest = bundle.manifest
    image, mask, schedule = manifest.image, manifest.mask, manifest.schedule
    clip = "no clip" if schedule.clip_x0 is None else f"clip {schedule.clip_x0:g}"
    rows = {
        "Path": str(bundle.path),
        "SHA-256": bundle.sha256,
        "Signature": str(bundle.signature_state),
        "Image": f"{image.channels} x {image.height} x {image.width} (channels x height x width)",
        "Intensity range": None
        if manifest.intensity_range is None
        else "black at {:g}, white at {:g}".format(*manifest.intensity_range),
        "Mask": f"{mask.encoding}, {counted(manifest.mask_channels, 'channel')}",
        "Trained with classes left out": _known(mask.trained_with_ablation),
        "Trained with empty masks": _known(mask.trained_with_empty_mask),
        "Noise schedule": f"{schedule.train_steps} steps, {schedule.beta_curve}, {schedule.prediction} prediction, "
        f"{schedule.spacing} spacing, {clip}",
        "Defaults": f"{manifest.defaults.sampler}, {manifest.defaults.steps} steps",
        "Modality": manifest.modality,
        "Segments in DICOM": None
        if manifest.dicom is None
        else ", ".join(f"{segment} is {name}" for segment, name in manifest.dicom.segments.items()),
        "Spacing": None if manifest.spacing_mm is None else "{:g} x {:g} mm".format(*manifest.spacing_mm),
    }
    return _facts(manifest.name, rows)


def _classes(manifest: Manifest) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("Id", "Name", "Colour", title="Classes")
    for known in manifest.classes:
        red, green, blue = known.color
        colour = Text("    ", style=f"on rgb({red},{green},{blue})").append(
            f" #{red:02x}{green:02x}{blue:02x}", style="default on default"
        )
        table.add_row(str(known.id), Text(known.name), colour)
    return table


def _provenance(manifest: Manifest) -> Table:
    provenance = manifest.provenance
    rows = {
        "Checkpoint": f"{provenance.checkpoint_format}, SHA-256 {provenance.checkpoint_sha256}",
        "Parameters": f"{provenance.parameters:,}",
        "Training data": provenance.training_data,
        "Licence": provenance.licence,
        "Intended use": provenance.intended_use,
        "Exported with": ", ".join(f"{name} {version}" for name, version in provenance.versions.items()),
        **{
            f"Training: {key}": None if value is None else str(value)
            for key, value in (provenance.training or {}).items()
        },
    }
    return _facts("Provenance", rows)


def _facts(title: str, rows: Mapping[str, str | None]) -> Table:
    """Return a table of what is known. Text from a bundle is neither markup nor a way to steer the terminal."""
    from rich.table import Table

    table = Table(title=_plain(title), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value is not None:
            table.add_row(_plain(name), _plain(value))
    return table


def _plain(text: str) -> Text:
    from rich.text import Text

    return Text(printable(text))


def _known(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "unknown"}[value]
