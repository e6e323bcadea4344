"""The model card: what it states, what it says is not stated, and that a name in a bundle is only ever text."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seggd_rt.bundle import Bundle
from seggd_rt.errors import DataError, IntegrityError, SignatureError
from seggd_rt.reports import render_card
from seggd_rt.reports.evaluation_report import read_evaluation
from tests.bundles import TINY, TINY_CHECKED, copy_bundle, edit_manifest, reseal_meaning
from tests.commands import run_command
from tests.paths import EXAMPLES

pytest.importorskip("jinja2", reason="jinja2 is not installed: pip install 'seggd-rt[card]'")

SHIPPED = EXAMPLES / "cardiac" / "evaluation" / "report.json"
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
EVIL = "<script>alert('x')</script><img src=http://example.org/x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """A page read as a browser would: its elements with their attributes, and its text row by row."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._in_cell = False
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        self._in_cell = self._in_cell or tag in ("td", "th")
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_cell:
            self.rows[-1][-1] += data

    @property
    def facts(self) -> dict[str, str]:
        return {row[0]: row[1] for row in self.rows if len(row) == 2}

    @property
    def pictures(self) -> list[bytes]:
        return [
            base64.b64decode((attributes["src"] or "").removeprefix("data:image/png;base64,"), validate=True)
            for tag, attributes in self.elements
            if tag == "img"
        ]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return copy_bundle(TINY, tmp_path)


def card(bundle: Path, report: Path | None = None) -> Page:
    return Page(render_card(Bundle.open(bundle), report))


def estimate(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.05, "count": 10}


def a_report(bundle: Path) -> dict[str, Any]:
    names = [c.name for c in Bundle.open(bundle).manifest.classes[1:]]

    def figures(first: float) -> dict[str, Any]:
        classes = [{"name": name, "dice": estimate(first + i / 10), "more": 1} for i, name in enumerate(names)]
        return {"classes": classes, "dice": estimate(first + 0.111)}

    return {
        "schema": "seggd-evaluation/2",
        "bundle": {"name": "tiny", "sha256": Bundle.open(bundle).sha256, "more": [1]},
        "data": {"name": "acdc.npz", "split": "val", "images": 188, "patients": 10},
        "generation": {
            "sampler": "ddim",
            "steps": 50,
            "seed": 0,
            "engine": {"engine": "openvino", "version": "1", "precision": "bf16", "device_name": "a CPU"},
        },
        "generated": figures(0.612),
        "real": figures(0.712),
        "realism": {"frechet": {"generated": estimate(0.345), "real": estimate(0.234)}, "pairs": 3},
        "ablation": [{"size": 1, "given": estimate(0.456), "others": None}],
        "unheard": {"of": 1},
        "notes": ["a note of the report"],
    }


def write(folder: Path, report: dict[str, Any]) -> Path:
    path = folder / "evaluation" / "report.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report))
    return path


def test_what_the_manifest_states_is_there(bundle: Path) -> None:
    stated = {
        "modality": "MR",
        "spacing_mm": [1.25, 1.5],
        "intensity_range": [0, 4095],
        "provenance.training_data": "a hundred hearts",
        "provenance.licence": "CC0-1.0",
        "provenance.intended_use": "to test a card",
        "dicom": {"segments": {"Left": "cavity"}},
    }
    edit_manifest(bundle, stated)
    reseal_meaning(bundle)
    opened, page = Bundle.open(bundle), card(bundle)
    manifest, facts = opened.manifest, page.facts
    assert facts["training data"] == "a hundred hearts"
    assert facts["licence"] == "CC0-1.0"
    assert facts["modality"] == "MR"
    assert facts["pixel spacing, rows x columns"] == "1.25 x 1.5 mm"
    assert facts["intensity range"] == "black at 0, white at 4095"
    assert facts["dicom"] == '{"segments": {"Left": "cavity"}}'
    assert facts["bundle's SHA-256"] == opened.sha256
    assert manifest.provenance.checkpoint_sha256 in facts["checkpoint"]
    assert facts["signature"] == "none"
    assert "to test a card" in page.text
    for known in manifest.classes:
        assert [str(known.id), known.name, "#{:02x}{:02x}{:02x}".format(*known.color)] in page.rows
    (graph,) = manifest.graphs
    parity = next(row for row in page.rows if row[0] == "fp32")
    assert parity[2:5] == [f"{graph.parity.rel_l2:.1e}", f"{graph.parity.rel_max:.1e}", f"{graph.parity.limit:.0e}"]
    for ref in manifest.files:
        assert [ref.path, f"{ref.size:,}", ref.sha256] in page.rows


def test_what_it_does_not_state_is_said_to_be_not_stated(bundle: Path) -> None:
    unstated = ("training_data", "licence", "intended_use", "training")
    edit_manifest(
        bundle,
        {
            **dict.fromkeys(f"provenance.{name}" for name in unstated),
            "mask.trained_with_ablation": None,
            "mask.trained_with_empty_mask": None,
        },
    )
    reseal_meaning(bundle)
    page = card(bundle)
    absent = {name for name, value in page.facts.items() if value == "not stated"}
    assert absent == {
        *("training data", "licence", "modality", "pixel spacing, rows x columns", "intensity range", "training"),
        *("trained with classes left out", "trained with empty masks"),
        *("dicom", "evaluation", "extensions"),
    }
    # Beside those: the tile of ablation, that of Dice, the intended use, the evaluation.
    marked = [attributes for tag, attributes in page.elements if tag == "span" and attributes.get("class") == "absent"]
    assert len(marked) == len(absent) + 4
    assert "Whether it was trained with classes left out is not stated" in page.text
    assert "Whether it was trained on masks without foreground is not stated" in page.text


@pytest.mark.parametrize(
    ("ablation", "said"), [(True, "any subset of the classes may be given"), (False, "trained on whole masks")]
)
def test_limits_follow_from_what_is_stated(bundle: Path, ablation: bool, said: str) -> None:
    edit_manifest(bundle, {"mask.trained_with_ablation": ablation})
    reseal_meaning(bundle)
    assert said in card(bundle).text


def test_names_stay_text(bundle: Path) -> None:
    texts = ("name", "modality", "provenance.training_data", "provenance.licence", "provenance.intended_use")
    edit_manifest(
        bundle,
        {
            **dict.fromkeys(texts, EVIL),
            "classes.1.name": "<script>",
            "classes.2.name": EVIL,
            "provenance.versions": {EVIL: EVIL},
            "provenance.training": {EVIL: EVIL},
            "extensions": {EVIL: EVIL},
        },
    )
    reseal_meaning(bundle)
    report = a_report(bundle)
    report["data"] |= {"name": EVIL, "split": EVIL}
    report["generation"]["engine"]["device_name"] = EVIL
    report["notes"] = [EVIL]
    path = write(bundle.parent, report)
    if os.name == "posix":  # other systems know no such name
        (path.parent / "plot-<b>.png").write_bytes(PNG)
    evil, plain = card(bundle, path), card(TINY)
    assert next(row for row in evil.rows if row[0] == "1")[:2] == ["1", "<script>"]
    assert evil.text.count(EVIL) >= 15
    assert {tag for tag, _ in evil.elements} <= {tag for tag, _ in plain.elements} | {
        "h3",
        "figure",
        "figcaption",
        "img",
        "code",
    }
    for _, attributes in evil.elements:
        assert not [name for name in attributes if name.startswith("on")]


def test_the_page_needs_nothing_else_and_runs_nothing(bundle: Path) -> None:
    path = write(bundle.parent, a_report(bundle))
    (path.parent / "sheet.png").write_bytes(PNG)
    page = card(bundle, path)
    assert not {"script", "link", "iframe", "object", "form", "base"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert "href" not in attributes
        assert (attributes.get("src") or "data:").startswith("data:")
    policy = [
        attributes["content"] for tag, attributes in page.elements if tag == "meta" and "http-equiv" in attributes
    ]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "url(" not in page.text and "@import" not in page.text


def test_figures_of_an_evaluation(bundle: Path) -> None:
    page = card(bundle, write(bundle.parent, a_report(bundle)))
    names = [c.name for c in Bundle.open(bundle).manifest.classes[1:]]
    assert [names[0], "0.612 [0.512, 0.662]", "0.712 [0.612, 0.762]"] in page.rows
    assert ["mean", "0.723 [0.623, 0.773]", "0.823 [0.723, 0.873]"] in page.rows
    assert ["Frechet distance, segmenter's features", "0.345 [0.245, 0.395]", "0.234 [0.134, 0.284]"] in page.rows
    assert ["1", "0.456 [0.356, 0.506]", "-"] in page.rows
    assert "188 masks of 10 patients of acdc.npz" in page.text
    assert "a note of the report" in page.text
    assert "training images?" not in page.text


def test_memorisation_where_it_was_measured(bundle: Path) -> None:
    def distances(first: float) -> dict[str, Any]:
        parts = {"ratio": estimate(first), "nearer_than_near": estimate(0.2), "nearer_than_all": estimate(0.1)}
        return {**parts, "quantiles": []}

    found = {"pixels": distances(0.9), "features": distances(0.8), "copies": 1, "real_copies": 0, "images": 1234}
    page = card(bundle, write(bundle.parent, a_report(bundle) | {"memorisation": {**found, "closest": []}}))
    assert ["median distance, as part of theirs", "0.900 [0.800, 0.950]", "0.800 [0.700, 0.850]"] in page.rows
    assert ["part nearer than all of them", "0.100 [0.000, 0.150]", "0.100 [0.000, 0.150]"] in page.rows
    assert "1234 training images" in page.text
    assert "copies: 1 generated image, and 0 held-out real images" in page.text


def test_the_segmenter_of_a_bundle() -> None:
    facts, segmenter = card(TINY_CHECKED).facts, Bundle.open(TINY_CHECKED).segmenter
    assert facts["segmenter"].startswith("segmenter.onnx, ")
    assert f"{segmenter.parity.rel_max:.1e}" in facts["against PyTorch in fp32"]
    assert ("Dice on real images" in facts, segmenter.real is None) == (
        True,
        facts["Dice on real images"] == "not stated",
    )
    for each in segmenter.intensities:
        assert facts[f"median grey of {each.name}"].startswith(f"{each.low:.3f} to {each.high:.3f}")
    assert "not in the bundle" in card(TINY).facts["segmenter"]


def test_an_estimate_of_one_patient_has_no_interval(bundle: Path) -> None:
    report = a_report(bundle)
    report["generated"]["dice"]["count"] = 1
    assert next(row for row in card(bundle, write(bundle.parent, report)).rows if row[0] == "mean")[1] == "0.723"


def test_pictures_beside_the_report_are_in_the_page(bundle: Path) -> None:
    path = write(bundle.parent, a_report(bundle))
    assert card(bundle, path).pictures == []
    contents = [PNG + bytes([number]) for number in range(3)]
    for name, content in zip(("plot-ablation.png", "plot-new.png", "sheet.png"), contents, strict=True):
        (path.parent / name).write_bytes(content)
    (path.parent / "other.png").write_bytes(b"not asked for")
    page = card(bundle, path)
    assert page.pictures == [contents[2], contents[0], contents[1]]
    assert page.text.index("May classes be left out?") < page.text.index("new")
    (path.parent / "sheet.png").write_bytes(b"<svg/>")
    with pytest.raises(DataError, match=r"sheet\.png is no PNG"):
        card(bundle, path)


def test_a_report_of_another_export_of_the_checkpoint_is_accepted(bundle: Path) -> None:
    """Exporting again changes the manifest's hash, by versions and measured errors, and not the network."""
    report = a_report(bundle)
    report["bundle"] |= {
        "sha256": "0" * 64,
        "checkpoint_sha256": Bundle.open(bundle).manifest.provenance.checkpoint_sha256,
    }
    page = card(bundle, write(bundle.parent, report))
    assert "188 masks of 10 patients of acdc.npz" in page.text
    assert "another export of the same checkpoint" in page.text and "0" * 64 in page.text
    assert "another export" not in card(bundle, write(bundle.parent, a_report(bundle))).text


def test_a_report_of_another_checkpoint_is_refused(bundle: Path) -> None:
    report = a_report(bundle)
    report["bundle"]["sha256"] = "0" * 64
    with pytest.raises(DataError, match=r"is the evaluation of another checkpoint \(tiny, checkpoint none; "):
        card(bundle, write(bundle.parent, report))
    report["bundle"]["checkpoint_sha256"] = "1" * 64
    with pytest.raises(DataError, match=r"another checkpoint \(tiny, checkpoint 111111111111; "):
        card(bundle, write(bundle.parent, report))
    with pytest.raises(DataError, match=r"is the evaluation of another checkpoint \(cardiac"):
        card(bundle, SHIPPED)


@pytest.mark.parametrize("other", [{"steps": 25}, {"sampler": "ddpm"}])
def test_a_report_of_another_sampler_or_steps_is_refused(other: dict[str, Any], bundle: Path) -> None:
    report = a_report(bundle)
    report["generation"] |= other
    with pytest.raises(DataError, match="has another sampler or number of steps than the bundle"):
        card(bundle, write(bundle.parent, report))


def test_the_shipped_report_is_of_the_shipped_checkpoint() -> None:
    checkpoint = SHIPPED.parents[1] / "cardiac.pt"
    assert read_evaluation(SHIPPED).bundle.checkpoint_sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def test_what_is_no_report_is_refused(bundle: Path) -> None:
    good = a_report(bundle)
    lacking = {key: value for key, value in good.items() if key != "generated"}
    other_classes = json.loads(json.dumps(good))
    other_classes["real"]["classes"].pop()
    for content in (
        b"",
        b"\xff\xfe",
        b"[" * 5000,
        b"{}",
        json.dumps(good | {"schema": "seggd-evaluation/1"}).encode(),
        json.dumps(good | {"schema": "seggd-evaluation/3"}).encode(),
        json.dumps(good | {"ablation": 3}).encode(),
        json.dumps(lacking).encode(),
        json.dumps(other_classes).encode(),
    ):
        path = bundle.parent / "report.json"
        path.write_bytes(content)
        with pytest.raises(DataError, match="is no report that this version reads"):
            card(bundle, path)
    with pytest.raises(DataError, match="cannot be read"):
        card(bundle, bundle.parent / "none.json")


def put(report: dict[str, Any], place: str, value: Any) -> None:
    *path, last = place.split(".")
    for key in path:
        report = report[int(key) if isinstance(report, list) else key]
    report[last] = value


OUTSIDE = {"mean": 7.5, "low": 7.4, "high": 7.6, "count": 10}
BELOW = {"mean": -0.5, "low": -0.6, "high": -0.4, "count": 10}


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("generated.dice", OUTSIDE, r"mean Dice is 7\.5, 7\.4 to 7\.6; it must lie in \[0, 1\]"),
        ("real.dice", BELOW, "mean Dice is -0.5"),
        ("generated.classes.0.dice", OUTSIDE, "Dice is 7.5"),
        ("ablation.0.given", OUTSIDE, "Dice is 7.5"),
        ("ablation.0.size", -1, ">= 0"),
        ("realism.frechet.generated", BELOW, "Frechet distance is -0.5, .*; it must be at least 0"),
        ("realism.other", {"graph": "g", "frechet": {"generated": BELOW, "real": BELOW}}, "Frechet distance is -0.5"),
        ("realism.similarity", {"generated": OUTSIDE, "real": OUTSIDE}, r"SSIM is 7\.5, .* \[-1, 1\]"),
        ("memorisation.pixels.ratio", BELOW, "ratio of distances is -0.5"),
        ("memorisation.features.nearer_than_all", OUTSIDE, "part of the images is 7.5"),
        ("memorisation.copies", -1, ">= 0"),
        ("memorisation.images", 0, ">= 1"),
        ("generated.dice.low", 0.9, r"the mean 0\.723 is not in its interval, 0\.9 to 0\.773"),
        ("generated.dice.high", 0.7, "is not in its interval"),
        ("generated.dice.count", -3, ">= 1"),
        ("data.images", -188, ">= 1"),
        ("data.patients", 0, ">= 1"),
        ("generation.steps", -50, ">= 1"),
    ],
)
def test_figures_that_cannot_be_are_refused(bundle: Path, place: str, value: Any, message: str) -> None:
    report = a_report(bundle)
    space = {"ratio": estimate(0.9), "nearer_than_near": estimate(0.2), "nearer_than_all": estimate(0.1)}
    report["memorisation"] = {"pixels": space, "features": dict(space), "copies": 1, "real_copies": 0, "images": 9}
    report["memorisation"]["closest"] = []
    card(bundle, write(bundle.parent, report))
    put(report, place, value)
    with pytest.raises(DataError, match=rf"is no report that this version reads, .*{message}"):
        card(bundle, write(bundle.parent, report))


@pytest.mark.parametrize("names", [["liver", "spleen", "heart"], ["cavity"]])
def test_figures_of_classes_that_the_bundle_does_not_have_are_refused(bundle: Path, names: list[str]) -> None:
    report = a_report(bundle)
    for figures in (report["generated"], report["real"]):
        figures["classes"] = [{"name": name, "dice": estimate(0.5)} for name in names]
    with pytest.raises(
        DataError, match=rf"figures of other classes than the bundle \({', '.join(names)}; the bundle has"
    ):
        card(bundle, write(bundle.parent, report))
    report = a_report(bundle)
    report["ablation"][0]["size"] = 99
    with pytest.raises(DataError, match="more classes given than the bundle has"):
        card(bundle, write(bundle.parent, report))


@pytest.mark.skipif(os.name != "posix", reason="links need rights on other systems")
def test_a_picture_is_no_link_that_leaves_the_folder(bundle: Path) -> None:
    path = write(bundle.parent, a_report(bundle))
    (bundle.parent / "private.png").write_bytes(PNG + b"private")
    (path.parent / "kept.png").write_bytes(PNG)
    link = path.parent / "plot-use.png"
    link.symlink_to("kept.png")
    assert card(bundle, path).pictures == [PNG]
    for target in ("../private.png", bundle.parent / "private.png"):
        link.unlink()
        link.symlink_to(target)
        with pytest.raises(DataError, match=r"plot-use\.png is a link that leaves the report's folder"):
            card(bundle, path)
    for target in ("plot-use.png", "none.png"):
        link.unlink()
        link.symlink_to(target)
        with pytest.raises(DataError, match=r"plot-use\.png cannot be read"):
            card(bundle, path)


def test_the_shipped_report_is_read() -> None:
    """What the training side writes, this side reads: each figure that both name."""
    written, read = json.loads(SHIPPED.read_bytes()), msgspec.to_builtins(read_evaluation(SHIPPED))

    def check(stated: Any, found: Any) -> None:
        if isinstance(found, dict):
            for key in found.keys() & stated.keys():
                check(stated[key], found[key])
        elif isinstance(found, list | tuple):
            for one, other in zip(stated, found, strict=True):
                check(one, other)
        else:
            assert stated == found

    check(written, read)
    assert set(read) - set(written) <= {"memorisation"}
    assert len(read["ablation"]) == 3


def test_only_a_whole_bundle_has_a_card(bundle: Path) -> None:
    graph = bundle / "unet.fp32.onnx"
    graph.write_bytes(graph.read_bytes()[::-1])
    with pytest.raises(IntegrityError):
        card(bundle)


def test_its_signature(bundle: Path) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'seggd-rt[sign]'")
    from seggd_rt.bundle import SigningKey

    key, public = SigningKey.create(bundle.parent / "K.pem")
    Bundle.open(bundle).sign(key)
    assert (
        card(bundle).facts["signature"] == f"holds, by the key with SHA-256 {key.fingerprint}; nobody required that key"
    )
    required = Page(render_card(Bundle.open(bundle, require_signature=public)))
    assert required.facts["signature"] == f"holds, by the key with SHA-256 {key.fingerprint}, which was required"
    assert f"key {key.fingerprint[:16]}" in required.text
    edit_manifest(bundle, {"name": "renamed"})
    assert card(bundle).facts["signature"].startswith("does not hold")


def test_the_command(bundle: Path, tmp_path: Path) -> None:
    report = write(tmp_path, a_report(bundle))
    done = run_command("card", bundle, "--report", report, "-o", tmp_path / "new" / "card.html")
    assert (done.code, done.out, done.err) == (0, f"{tmp_path / 'new' / 'card.html'}\n", "")
    assert (tmp_path / "new" / "card.html").read_bytes() == render_card(Bundle.open(bundle), report)
    for arguments, message in (
        (("-o", tmp_path / "card.pdf"), "must end in .html"),
        (("-o", tmp_path / "a.html", "--report", SHIPPED), "of another checkpoint"),
        (("-o", tmp_path / "a.html", "--require-signature", tmp_path / "none.pub"), "none.pub"),
    ):
        refused = run_command("card", bundle, *arguments)
        assert (refused.code, refused.out, len(refused.error_lines)) == (2, "", 1)
        assert message in refused.err
    assert list(tmp_path.glob("*.html")) == []


def test_a_damaged_signature_has_no_card(bundle: Path) -> None:
    (bundle / "bundle.sig").write_bytes(b"{}")
    with pytest.raises(SignatureError):
        card(bundle)


def test_a_card_shows_control_characters_and_turned_text_as_escapes(tmp_path: Path) -> None:
    bundle = copy_bundle(TINY, tmp_path)
    edit_manifest(bundle, {"provenance.licence": "MIT \u202egpj.\x1b[2J <b>"})
    page = render_card(Bundle.open(bundle)).decode()
    assert "MIT \\u202egpj.\\u001b[2J &lt;b&gt;" in page
    assert not {"\u202e", "\x1b"} & set(page)
