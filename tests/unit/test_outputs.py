"""Outputs whatever slides are called: no link is followed out, no name hides another (R04, R05)."""

import csv
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from momkd.data.feature_search import find_feature_files
from momkd.errors import DataError, MachineError, Problem
from momkd.file_names import file_names, find_named
from momkd.reporting.figures import svg_of
from momkd.reporting.heatmap import draw_layer
from momkd.reporting.tile_layers import attention_layer
from momkd.storage import require_inside
from momkd.types import TileGrid
from momkd.workflows.audit import write_problems
from momkd.workflows.evaluate import evaluate
from momkd.workflows.extract import find_slides
from momkd.workflows.heatmap import heatmap
from momkd.workflows.report import report
from momkd.workflows.stored_scores import StoredScores, write_scores
from tests.page_reader import PageReader, faults_of
from tests.run_folders import write_run

FORMULA = "=cmd|' /C calc'!A0"


def scores_of(slide_id: str, n_slots: int = 0) -> StoredScores:
    grid = TileGrid(
        slide_id=slide_id, coords_px0=np.array([[0, 0], [256, 0], [0, 256]]), tile_px0=256.0
    )
    cosines = np.linspace(-1, 1, 3 * 2 * n_slots).reshape(3, 2, n_slots) if n_slots else None
    return StoredScores(
        slide_id=slide_id,
        model="momkd",
        attention=np.array([0.5, 0.3, 0.2]),
        grid=grid,
        cosines=cosines,
    )


def test_a_link_out_of_the_output_is_refused(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores" / "deep" / "a.h5", scores_of("a"))
    out, secret = tmp_path / "out", tmp_path / "secret"
    out.mkdir()
    secret.mkdir()
    (out / "deep").symlink_to(secret)
    with pytest.raises(MachineError, match=r"R04.*leads out"):
        heatmap([tmp_path / "scores"], out)
    assert not any(secret.iterdir())
    (out / "deep").unlink()
    (out / "elsewhere").mkdir()
    (out / "deep").symlink_to(out / "elsewhere")
    assert heatmap([tmp_path / "scores"], out)[0].exists(), "a link inside is a folder"
    require_inside(out, out)
    with pytest.raises(MachineError, match="R04"):
        require_inside(out, out / ".." / "x")


def test_pictures_behind_a_link_do_not_come_into_a_report(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ["abmil"], n=30, seeds=1)
    evaluate(run)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (40, 30)).save(elsewhere / "s.png")
    (run / "heatmaps").symlink_to(elsewhere)
    (run / "atlas").symlink_to(_atlas(elsewhere / "atlas"))
    html = report(run).path.read_text(encoding="utf-8")
    assert all(a["alt"].startswith("Listed: ") for a in PageReader(html).all("img"))
    assert "Memory atlas" not in html


def test_names_that_differ_in_case_alone_have_files_of_their_own() -> None:
    composed, apart = "é", unicodedata.normalize("NFD", "é")
    ids = ["Slide", "slide", "other", composed, apart, "SLIDE", "x" * 300, "X" * 300]
    names = file_names(ids, ".h5")
    folded = {unicodedata.normalize("NFC", n).casefold() for n in names.values()}
    assert len(folded) == len(ids)
    assert names["other"] == "other.h5"
    assert all(n.endswith(".h5") and len(n.encode()) <= 255 for n in names.values())
    assert file_names(reversed(ids), ".h5") == names


def test_a_name_that_is_no_text_is_refused_in_one_line(tmp_path: Path) -> None:
    for ending in ("h5", "tif"):
        (tmp_path / ending).mkdir()
        (tmp_path / ending / f"bad\udcff.{ending}").write_bytes(b"")
    (problem,) = find_feature_files([tmp_path / "h5"]).problems
    assert (problem.code, problem.what) == ("F28", "its name is not UTF-8")
    assert problem.where.encode().endswith(rb"bad\udcff.h5")
    with pytest.raises(DataError, match=r"\[F28\].*not UTF-8; rename it"):
        find_slides([tmp_path / "tif"])


def test_scores_are_found_under_either_name(tmp_path: Path) -> None:
    for folder, ids in (("one", ["Slide"]), ("two", ["Slide", "slide"])):
        names = file_names(ids, ".h5")
        for slide_id in ids:
            write_scores(tmp_path / folder / names[slide_id], scores_of(slide_id))
        for slide_id in ids:
            found = find_named(tmp_path / folder, slide_id, ".h5")
            assert found == tmp_path / folder / names[slide_id]
    for no_name in ("", ".", "..", "../two/Slide", "/Slide", "a\0b", "absent", "x" * 300):
        assert find_named(tmp_path / "one", no_name, ".h5") is None


def test_problems_are_no_formulas(tmp_path: Path) -> None:
    fault = Problem(code="F01", where=f"{FORMULA}.h5", what="@x", remedy="-y", row=3, value="+1")
    write_problems(tmp_path / "problems.csv", [fault])
    with (tmp_path / "problems.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["where"] == f"'{FORMULA}.h5"
    assert (row["what"], row["remedy"], row["value"]) == ("'@x", "'-y", "'+1")
    assert (row["row"], row["column"]) == ("3", "")


def test_an_atlas_in_the_run_is_shown_and_its_names_are_text(tmp_path: Path) -> None:
    word = "<script>alert(1)</script>"
    run = write_run(tmp_path / "run", ["abmil"], n=30, seeds=1, word=word)
    evaluate(run)
    _atlas(run / "atlas", (f"no {word}", word))
    html = report(run).path.read_text(encoding="utf-8")
    assert faults_of(html) == []
    page = PageReader(html)
    assert "Memory atlas" in page.words
    assert f"{word} 1" in page.words
    assert "=GENE" in page.words
    assert "'=GENE" not in page.words, "what was quoted for spreadsheets is text again"
    assert "0.500 (0.100 to 0.800)" in page.words
    assert [a["alt"] for a in page.all("img") if not a["alt"].startswith("Listed: ")] == [
        f"Map of 3 tiles: cosine to slot {name} 1, {low:.2f} to {high:.2f}"
        for name, low, high in ((f"no {word}", -1, 0.45), (word, -0.64, 0.82))
    ]
    assert "=slide" not in html, "slides are not named"
    (run / "atlas" / "slots.csv").write_text("a,b\n1,2\n")
    assert "Memory atlas" not in report(run).path.read_text(encoding="utf-8")


def _atlas(folder: Path, classes: tuple[str, str] = ("no HER2", "HER2")) -> Path:
    """Write the tables of an atlas of two slots of each class, as ``momkd memory`` does."""
    write_scores(folder / "scores" / "=slide.h5", scores_of("=slide", n_slots=2))
    slots, tops, genes = [], [], []
    for name in classes:
        slots += [
            [name, 1, 0.6, 0.5, 0.7, 0.4, "no", 2, 0.3, "no", 1, 0.2, "no", 5, 4],
            [name, 2, 0.4, 0.5, 0.3, 0.6, "yes", 1, 0.3, "no", 2, 0.2, "no", 5, 4],
        ]
        tops.append([name, 1, 1, "case", "'=slide", 0, 0, 256, 0.9])
        genes.append([name, 1, "'=GENE", 0.5, 0.1, 0.8, "yes", 4, 2, 0.5, 0.1, 0.8, "yes", 2])
    _table(
        folder / "slots.csv",
        "class_name,slot,share_of_tiles_in_class,share_of_votes,share_of_evidence,"
        "share_of_attention,dead,nearest_own_slot,cosine_own,duplicate,nearest_other_slot,"
        "cosine_other,twin,n_slides,n_cases",
        slots,
    )
    header = "class_name,slot,rank,case_id,slide_id,x_px0,y_px0,side_px0,cosine"
    _table(folder / "top_tiles.csv", header, tops)
    _table(
        folder / "slot_genes.csv",
        "class_name,slot,gene,rho,low,high,excludes_0,n_cases,n_tests,rho_within_class,"
        "low_within_class,high_within_class,excludes_0_within_class,n_tests_within_class",
        genes,
    )
    return folder


def _table(path: Path, header: str, rows: list[list[object]]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header.split(","))
        writer.writerows(rows)


@pytest.mark.parametrize("name", [FORMULA.replace("/", ""), "<b>", "é" * 120, "a\nb"])
def test_pictures_and_polygons_of_any_name_hold_it_as_text(tmp_path: Path, name: str) -> None:
    write_scores(tmp_path / "scores" / file_names([name], ".h5")[name], scores_of(name))
    (picture,) = heatmap([tmp_path / "scores"], tmp_path / "out")
    svg = picture.with_suffix(".svg").read_text(encoding="utf-8")
    assert "<b>" not in svg
    assert "<script" not in svg
    shapes = json.loads(picture.with_suffix(".geojson").read_text(encoding="utf-8"))
    assert len(shapes["features"]) == 3


def test_r09_the_picture_of_a_large_slide_does_not_grow_by_tile() -> None:
    y, x = np.divmod(np.arange(20_000), 200)
    coords = np.stack([x, y], axis=1) * 512
    grid = TileGrid(slide_id="s", coords_px0=coords, tile_px0=512.0, tile_px=256, mpp=0.5)
    shares = np.random.default_rng(0).random(20_000)
    svg = svg_of(draw_layer(grid, attention_layer(shares / shares.sum()), title="s"))
    assert len(svg) < 500_000
    assert svg.count("<image") == 2, "the tiles and the colour bar"
    assert svg.count("<path") < 100
    assert "attention (multiples of an even share)</text>" in svg, "words stay words"
