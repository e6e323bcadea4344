"""A report's files: `report.json`, `report.html`, and its plots as PNG."""

from __future__ import annotations

from pathlib import Path

from seggd_rt.errors import OutputError
from seggd_rt.files import check_regular, read_file, schema_of, write_file
from seggd_rt.reports import MAX_PICTURE_BYTES, MAX_REPORT_BYTES, Picture
from seggd_rt.runs import check_apart
from seggd_training.evaluation.options import EvaluateOptions
from seggd_training.evaluation.report.kept import is_kept
from seggd_training.evaluation.report.page import PARTS, render_page
from seggd_training.evaluation.report.plots import plots
from seggd_training.evaluation.report.record import SCHEMA, Report

_SHEETS = {
    "faithfulness": ("sheet.png", "masks, generated and real images, and what the segmenter finds in them"),
    "interpolation": ("sheet-interpolation.png", "images between a generation and the mask's own real image"),
    "memorisation": ("sheet-memorisation.png", "images nearest to a training image, that image, the difference"),
}


_SEGMENTERS = ("segmenter.pt", "segmenter-synthetic.pt", "segmenter-both.pt")
_KEPT = ("images.npz", "training-pairs.npz", "ddim-all-steps.npz")
_PAGE = ("report.json", "report.html", *(f"plot-{part}.png" for part in PARTS), *(name for name, _ in _SHEETS.values()))


def check_files(options: EvaluateOptions) -> None:
    """Check, before any work, that an evaluation writes over no input and over no other program's file.

    A folder with an evaluation's report is an evaluation's. In another, segmenters and kept images show by themselves
    that an evaluation wrote them; pages and pictures do not, but lie beside kept images where a run stopped early.

    Raises
    ------
    OptionError
        The output is an input, or lies in the bundle or in a folder of inputs.
    OutputError
        It holds another program's file, and `force` does not say that this may go; or one is no regular file.
    """
    folder, inputs = options.output, (options.data, options.segmenter, options.feature_graph, options.require_signature)
    check_apart(folder, options.bundle, *inputs)
    segmenters = _SEGMENTERS if options.segmenter is None else _SEGMENTERS[1:]
    for name in (*_PAGE, *_KEPT, *segmenters):
        check_regular(folder / name)
        check_apart(folder / name, options.bundle, *inputs)
    if options.force or _is_report(folder / "report.json"):
        return
    stopped_early = is_kept(folder / "images.npz")
    others = [name for name in _PAGE if not stopped_early and (folder / name).exists()]
    others += [name for name in _KEPT if (folder / name).exists() and not is_kept(folder / name)]
    if others:
        raise OutputError(
            f"{folder / others[0]} exists and no evaluation wrote it: delete it, choose another folder with -o, or "
            "replace it by --force"
        )


def _is_report(path: Path) -> bool:
    try:
        schema = schema_of(read_file(path, MAX_REPORT_BYTES))
    except OSError:
        return False
    return schema.partition("/")[0] == SCHEMA.partition("/")[0]


def write_report(report: Report, folder: Path) -> None:
    """Write everything that follows from a report; the page also shows the sheets that lie in the folder.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    drawn = plots(report)
    for part, png in drawn.items():
        write_file(folder / f"plot-{part}.png", png)
    pictures = [Picture(part, f"plot of {part}", png) for part, png in drawn.items()]
    for part, (name, alt) in _SHEETS.items():
        if part in drawn and (folder / name).is_file():
            pictures.append(Picture(part, alt, read_file(folder / name, MAX_PICTURE_BYTES)))
    write_file(folder / "report.html", render_page(report, tuple(pictures)))
    write_file(folder / "report.json", report.to_json())
