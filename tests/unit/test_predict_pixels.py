"""Slides given to prediction are told from feature files, cut as the card says, or left out."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from momkd.errors import ModelError
from momkd.reporting.heatmap import draw_over_slide
from momkd.serving.card import Card
from momkd.types import TileGrid
from momkd.workflows import extract as extraction
from momkd.workflows.predict import tell_predictions
from momkd.workflows.predict_pixels import embed_slides, part_inputs


def card(**changed: Any) -> Card:
    """Give a card of which only the view is known."""
    return Card.model_construct(**{"encoder": "e", "tile_px": 64, "mpp": 0.5} | changed)


def test_slides_are_told_from_feature_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slides, features = tmp_path / "slides", tmp_path / "features"
    for path in (slides / "a.svs", features / "b.h5", features / "thumbnails" / "b.jpg"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    one, other = tmp_path / "c.TIF", tmp_path / "d.h5"
    pixels, others = part_inputs([slides, features, one, other, one])
    assert pixels == [slides, one]
    assert others == [features, other]
    assert "1 inputs are named twice" in capsys.readouterr().err
    store = tmp_path / "s.zarr"
    (store / "images").mkdir(parents=True)
    (store / "images" / "overview.png").touch()
    assert part_inputs([store]) == ([], [store])
    (tmp_path / "empty").mkdir()
    assert part_inputs([tmp_path / "empty"]) == ([], [tmp_path / "empty"])


@pytest.mark.parametrize(
    ("cards", "word"),
    [
        ([card(mpp=None)], "do not all state"),
        ([card(), card(encoder="f")], "name different ones"),
    ],
)
def test_cards_that_do_not_say_how_to_cut_are_refused(
    tmp_path: Path, cards: list[Card], word: str
) -> None:
    with pytest.raises(ModelError, match=word) as refusal:
        embed_slides([Path("a.svs")], tmp_path, cards, rules=None, weights=None, device="cpu")
    assert refusal.value.problems[0].code == "P17"


def test_a_slide_scanned_coarser_than_the_view_is_flagged_or_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned = {"fine": 0.25, "same": 0.52, "coarse": 0.8, "too-coarse": 1.1}

    def extract(pixels: Any, folder: Path, **how: Any) -> extraction.Extraction:
        assert (how["encoder"], how["tiling"].tile_px, how["tiling"].mpp) == ("e", 64, 0.5)
        files = {}
        for name, mpp in scanned.items():
            files[name] = folder / f"{name}.h5"
            with h5py.File(files[name], "w") as file:
                file.create_dataset("coords", data=np.zeros((1, 2))).attrs["mpp_level0"] = mpp
        return extraction.Extraction(files=files, n_made=len(files), problems=())

    monkeypatch.setattr(extraction, "extract", extract)
    made = embed_slides(
        [tmp_path / "slides"], tmp_path, [card(), card()], rules=None, weights=None, device="cpu"
    )
    assert [p.stem for p in made.files] == ["fine", "same", "coarse"]
    assert made.flags == {"coarse": "scanned at 0.8 um per px: views enlarged"}
    (problem,) = made.problems
    assert problem.line() == (
        "[P03] slide too-coarse: scanned at 1.1 um/px, the predictor looks at 0.5 um/px; "
        "scan it finer; or pass --mpp if the file states a wrong resolution"
    )


def test_predictions_are_told_in_words() -> None:
    row = {"case_id": "c", "slide_id": "s", "model": "momkd", "n_members": 5}
    row |= {"prob_low": 0.4, "prob_high": 0.6, "low": 0.5, "high": 0.7}
    row |= {"y_pred": 1, "threshold": 0.42}
    alone = row | {"n_members": 1, "y_pred": 0, "threshold": 0.9}
    lines = tell_predictions(pd.DataFrame([row, alone]))
    assert lines == [
        "s  momkd: high 0.600 (0.500 to 0.700 over 5 models), at or above the threshold 0.420",
        "s  momkd: high 0.600, below the threshold 0.900",
    ]
    assert tell_predictions(pd.DataFrame([row] * 12))[-1] == "... and 2 more rows"


def test_the_niche_is_outlined_on_the_slide_at_its_place() -> None:
    corners = np.array([[x, y] for y in (0, 64, 128) for x in (0, 64, 128)])
    grid = TileGrid(slide_id="s", coords_px0=corners, tile_px0=64.0, width_px0=192, height_px0=192)
    picture = np.full((96, 96, 3), 200, np.uint8)
    niche = np.zeros(9, dtype=bool)
    niche[8] = True
    figure = draw_over_slide(grid, np.full(9, 1 / 9), picture, title="t", outline=niche)
    (outline,) = figure.axes[0].collections
    box = outline.get_paths()[0].get_extents()
    np.testing.assert_allclose([box.x0, box.y0], 128, atol=20)
    plain = draw_over_slide(grid, np.full(9, 1 / 9), picture, title="t")
    assert not plain.axes[0].collections
