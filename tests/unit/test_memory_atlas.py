"""An atlas of a hand-made memory: known tiles, known shares, hostile names as text only."""

import csv
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from momkd.data.features import read_bag
from momkd.errors import ConfigError, DataError, ModelError
from momkd.models.table import build_model
from momkd.nn.alignment import class_evidence
from momkd.predictor import Predictor, save_predictor
from momkd.serving.card import Card
from momkd.simulated.pyramid import encode_pyramid
from momkd.slides import reading_process
from momkd.types import Dims
from momkd.workflows.atlas.figure import draw_figure4, write_figure4
from momkd.workflows.atlas.trained_memory import find_memory
from momkd.workflows.memory import memory
from momkd.workflows.stored_scores import read_scores
from tests.inline_readers import InlineReaders
from tests.page_reader import PageReader, faults_of
from tests.painted_slides import PAINTING, SIDE, darkness, paint

DIM, NICHE = 6, [(2, 3), (3, 3)]
OPTIONS = {"dim": 8, "dim_shared": 4, "n_slots": 2}
HOSTILE = [
    "=HYPERLINK(1)",
    "<img src=x onerror=alert(1)>",
    "x\\..\\..\\evil",
    "a'\"b\n\u202ec",
    "é日本" * 30,
]


def make_card(**changed: object) -> Card:
    facts = {
        "model": "momkd",
        "options": OPTIONS,
        "dims": {"dim_in": DIM},
        "task": "HER2",
        "class_names": ("negative", "positive"),
        "encoder": "toy",
        "tile_px": PAINTING.tile_px,
        "mpp": PAINTING.mpp,
        "thresholds": {"max_f1": 0.5},
        "threshold_rule": "max_f1",
    }
    return Card(**(facts | changed))


def write_features(folder: Path, name: str, seed: int) -> Path:
    """Write a slide whose first embedding says how dark a painted tile is."""
    painted = paint(NICHE, "s")
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(SIDE * SIDE, DIM)).astype(np.float32)
    embeddings[:, 0] = 40 * darkness(painted)
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.h5"
    with h5py.File(path, "w") as file:
        file["features"] = embeddings
        file["features"].attrs["encoder"] = "toy"
        coords = file.create_dataset("coords", data=painted.grid.coords_px0)
        side = SIDE * PAINTING.tile_px
        coords.attrs.update(patch_size=PAINTING.tile_px, patch_size_level0=PAINTING.tile_px)
        coords.attrs.update(level0_width=side, level0_height=side, mpp=PAINTING.mpp, overlap=0)
        coords.attrs.update(mpp_level0=PAINTING.mpp)
    return path


def write_predictor(folder: Path, **changed: object) -> Path:
    torch.manual_seed(2)
    card = make_card(**changed)
    model = build_model(card.model, Dims(dim_in=DIM), options=card.options)
    save_predictor(Predictor(model, card), folder)
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A predictor, feature files of three slides, and the pixels of two of them."""
    folder = tmp_path_factory.mktemp("study")
    write_predictor(folder / "predictor")
    (folder / "slides").mkdir()
    content = encode_pyramid(paint(NICHE).picture, PAINTING.mpp)
    for seed, name in enumerate(("A", "B", "C")):
        write_features(folder / "features", name, seed)
        if name != "C":
            (folder / "slides" / f"{name}.tif").write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_process, "ViewReaders", InlineReaders)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_atlas_shows_what_the_model_computes(study: Path, tmp_path: Path) -> None:
    made = memory(
        study / "predictor", tmp_path, features=[study / "features"], slides=[study / "slides"]
    )
    model = find_memory(study / "predictor").model
    slots, uses, every = model.memory.unit(), [], []
    for name in ("A", "B", "C"):
        bag = read_bag(study / "features" / f"{name}.h5")
        _, points = model.read_slots(bag)
        cosines = torch.einsum("nd,ckd->nck", points, slots).detach().numpy()
        stored = read_scores(tmp_path / "scores" / f"{name}.h5")
        np.testing.assert_allclose(stored.cosines, cosines, atol=1e-3)
        evidence = class_evidence(points, slots).detach().numpy()
        np.testing.assert_allclose(stored.evidence, evidence, atol=1e-6)
        said = made.memory.predictor.predict(bag)
        np.testing.assert_allclose(stored.attention, said.attention, atol=1e-6)
        assert stored.probability == pytest.approx(float(said.probabilities[1]))
        nearest = cosines.argmax(axis=2)
        uses.append([[(nearest[:, c] == k).mean() for k in (0, 1)] for c in (0, 1)])
        every += [(name, *xy, c) for xy, c in zip(bag.grid.coords_px0, cosines, strict=True)]
    np.testing.assert_allclose(made.atlas.use.use, np.mean(uses, axis=0))
    table = {(r["class_name"], int(r["slot"])): r for r in rows_of(tmp_path / "slots.csv")}
    assert len(table) == 4
    for (label, slot), tiles in made.atlas.top.items():
        own = [e for e in every if e[3][label].argmax() == slot]
        own.sort(key=lambda e, at=(label, slot): -e[3][at])
        assert tiles[0].cosine == pytest.approx(own[0][3][label, slot], abs=1e-6)
        assert (tiles[0].slide_id, tiles[0].x_px0, tiles[0].y_px0) == own[0][:3]
        share = float(table[("negative", "positive")[label], slot + 1]["share_of_tiles_in_class"])
        assert share == pytest.approx(made.atlas.use.use[label, slot], rel=1e-5)
        taken = [t.slide_id for t in tiles]
        assert len(tiles) <= 6
        assert max(map(taken.count, taken)) <= 2
    html = made.path.read_text(encoding="utf-8")
    assert faults_of(html) == []
    page = PageReader(html)
    words = " ".join(page.words.split())
    for needle in (
        "a predictor holds no RNA: give the run that trained it to see genes",
        "a predictor keeps no history",
        "3 slides of 3 cases, 108 tiles",
        "cosine of 0.99 or more",
        "0.1 of an even share (0.0500)",
        "2 slides as pictures",
        "Nothing here may be used to decide about a patient",
    ):
        assert needle in words, needle
    assert "slide 1" in words
    assert len(page.all("img")) == len(made.atlas.top) + 1
    assert not (tmp_path / "slot_genes.csv").exists()
    assert "genes: a predictor holds no RNA" in "\n".join(made.lines())


def test_crops_are_the_tiles_that_are_named(study: Path, tmp_path: Path) -> None:
    made = draw_figure4(
        study / "predictor",
        tmp_path,
        features=[study / "features" / "A.h5"],
        slides=[study / "slides" / "A.tif"],
        n_slots=1,
        n_tiles=4,
    )
    assert len({(r["class"], r["slot"]) for r in made.records}) == 2
    assert "1 slides of 1 cases" in made.caption
    side, picture = PAINTING.tile_px, paint(NICHE).picture.astype(int)
    crops = [a for a in made.figure.axes if a.images and a.get_title().startswith("slide 1")]
    assert len(crops) == len(made.records)
    for axes, record in zip(crops, made.records, strict=True):
        shown = Image.fromarray(axes.images[0].get_array()).resize((side, side))
        x, y = int(record["x_px0"]), int(record["y_px0"])
        true = picture[y : y + side, x : x + side]
        assert np.abs(np.asarray(shown).astype(int) - true).mean() < 12
        assert f"cos {record['cosine']:.2f}" in axes.get_title()


def test_figure_4_is_written_in_three_forms(study: Path, tmp_path: Path) -> None:
    one = [study / "features" / "A.h5"]
    made = draw_figure4(study / "predictor", tmp_path, features=one, n_slots=1, n_tiles=2)
    paths = write_figure4(made, tmp_path)
    assert [p.name for p in paths] == [f"figure4.{e}" for e in ("pdf", "svg", "png", "txt")]
    assert paths[0].read_bytes().startswith(b"%PDF")
    assert "of the evidence" in paths[1].read_text()
    with Image.open(paths[2]) as picture:
        assert picture.width > 600
    assert "the predictor that was named" in paths[3].read_text()
    with pytest.raises(ConfigError, match=r"\[G07\]"):
        draw_figure4(study / "predictor", tmp_path, features=[study / "features"], n_slots=0)


def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    word = "<script>alert(1)</script>$x_{"
    names = ("=1+1", word)
    write_predictor(tmp_path / "predictor", class_names=names, task=f"{word} {{{{7*7}}}}")
    for seed, name in enumerate(HOSTILE):
        write_features(tmp_path / "features", name, seed)
    before = set(tmp_path.parent.rglob("*"))
    made = memory(
        tmp_path / "predictor", tmp_path / "out", features=[tmp_path / "features"], names=True
    )
    html = made.path.read_text(encoding="utf-8")
    assert faults_of(html) == []
    page = PageReader(html)
    assert len(page.scripts) == 1
    assert not [t for t, a in page.tags if "onerror" in a or a.get("src") == "x"]
    assert "<script>alert(1)</script>" in page.words
    assert "{{7*7}}" in page.words
    assert not set(html) & set("\u202e")
    new = set(tmp_path.parent.rglob("*")) - before
    assert all(p.is_relative_to(tmp_path / "out") for p in new)
    scored = {p.name for p in (tmp_path / "out" / "scores").iterdir()}
    assert scored == {f"{name}.h5" for name in HOSTILE}
    for table in ("slots.csv", "top_tiles.csv", "map.csv"):
        for row in rows_of(tmp_path / "out" / table):
            words = [v for k, v in row.items() if k in ("class_name", "slide_id", "name")]
            assert not [v for v in words if v.lstrip()[:1] in ("=", "+", "-", "@")], row
    told = {row["slide_id"] for row in rows_of(tmp_path / "out" / "top_tiles.csv")}
    assert told <= {f"'{HOSTILE[0]}", *HOSTILE[1:]}
    assert len(told) >= 3


def test_pixels_of_another_slide_are_told_and_not_shown(study: Path, tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    other = np.asarray(Image.fromarray(paint(NICHE).picture).resize((400, 300)))
    (tmp_path / "slides" / "A.tif").write_bytes(encode_pyramid(other, PAINTING.mpp))
    (tmp_path / "slides" / "B.tif").write_bytes(b"II*\0 nothing")
    made = memory(
        study / "predictor",
        tmp_path / "out",
        features=[study / "features"],
        slides=[tmp_path / "slides"],
        n_top=3,
    )
    words = PageReader(made.path.read_text(encoding="utf-8")).words
    assert "is 400 x 300 px; tiles were scored on a slide of 288 x 288" in words
    assert "No pixels: S16" in words
    assert words.count("No pixels: S") == 2
    assert "none at hand: tiles are drawn where they lie" in words


def test_what_has_no_memory_is_refused(study: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    card = make_card(model="abmil", options={})
    save_predictor(Predictor(build_model("abmil", Dims(dim_in=DIM)), card), tmp_path / "abmil")
    with pytest.raises(ModelError, match=r"\[P15\].*abmil, which has no memory"):
        memory(tmp_path / "abmil", tmp_path / "o", features=[study / "features"])
    with pytest.raises(DataError, match=r"\[P13\]"):
        memory(tmp_path / "nothing", tmp_path / "o")
    with pytest.raises(ConfigError, match=r"\[G07\] --features"):
        memory(study / "predictor", tmp_path / "o")
    with pytest.raises(ConfigError, match=r"\[G07\] --training"):
        memory(study / "predictor", tmp_path / "o", training="momkd/seed-0/fold-0")
    with pytest.raises(ConfigError, match=r"\[G07\] --top"):
        memory(study / "predictor", tmp_path / "o", n_top=0)
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"jobs": ["../study"]}))
    with pytest.raises(DataError, match=r"\[P13\].*outside the run"):
        memory(run, tmp_path / "o")
    (run / "run.json").write_text(json.dumps({"jobs": ["momkd/seed-0/fold-0"]}))
    with pytest.raises(ModelError, match=r"\[P10\]"):
        memory(run, tmp_path / "o")
    (run / "run.json").write_text(json.dumps({"jobs": ["abmil/seed-0/fold-0"]}))
    with pytest.raises(ModelError, match=r"\[P15\]"):
        memory(run, tmp_path / "o")
    assert not os.path.lexists(tmp_path / "o")


def test_what_training_alone_uses_is_all_that_serving_leaves() -> None:
    model = build_model("momkd", Dims(dim_in=DIM, n_genes=5), options=OPTIONS)
    served, taught = (
        {name for name, _ in state} for state in (model.serving_state(), model.training_state())
    )
    assert served | taught == set(model.state_dict())
    assert not served & taught
    # programmes are what the preset plus has in the place of RNA networks
    assert {n.split(".")[0] for n in taught} == set(model.training_only) - {"programmes"}
