"""`docs/results.md` says what the reports in the checkout say."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("monai", reason="monai is not installed: pip install 'seggd-rt[eval]'")

from benchmarks.evaluation import DEMO, PAGE, RESULTS, SCRIPT, main, read_report, write_page
from benchmarks.marked_page import marks, replace_measured
from seggd_rt.errors import DataError


def test_the_page_is_what_the_reports_say(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    shutil.copy(PAGE, page)
    write_page(page, DEMO, RESULTS)
    # The pictures lie elsewhere, seen from here.
    written = page.read_text("utf-8").splitlines()
    kept = PAGE.read_text("utf-8").splitlines()
    assert [line for line in written if not line.startswith("![")] == [
        line for line in kept if not line.startswith("![")
    ]
    for line in kept:
        if line.startswith("!["):
            assert (PAGE.parent / line.partition("](")[2].rstrip(")")).is_file(), line


def test_changed_figures_change_the_page(tmp_path: Path) -> None:
    report = read_report(DEMO / "report.json")
    worse = msgspec.structs.replace(report.generated.dice, mean=0.123)
    changed = msgspec.structs.replace(report, generated=msgspec.structs.replace(report.generated, dice=worse))
    (tmp_path / "report.json").write_bytes(changed.to_json())
    page = tmp_path / "results.md"
    page.write_text("by hand\n\n{}\nold\n{}\n\nalso by hand\n".format(*marks(SCRIPT)))
    write_page(page, tmp_path, tmp_path)
    text = page.read_text()
    assert text.startswith("by hand\n") and text.endswith("also by hand\n") and "old" not in text.split()
    assert "0.123" in text and "Encodings" not in text


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=r"report\.json cannot be read"):
        write_page(PAGE, tmp_path, tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(DataError, match="is no report"):
        write_page(PAGE, tmp_path, tmp_path)
    (tmp_path / "bare.md").write_text("no marks")
    with pytest.raises(DataError, match="lacks the marks"):
        replace_measured(tmp_path / "bare.md", SCRIPT, "")
    assert main(["--page", str(tmp_path / "bare.md")]) == 2
    assert "lacks the marks" in capsys.readouterr().err
