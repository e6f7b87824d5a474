"""Measure how kept tiles cover the tissue of real sections.

Four breast sections of a spatial study (her2st): the experimenters marked by hand which spots lie
under tissue. A spot's centre should fall into a kept tile.

    python benchmarks/her2st_coverage.py [DATA] [--tile-um 112]

DATA (default ../shared/data/her2st) holds ``<s>.jpg``, ``<s>_selection.tsv`` and ``slides.csv``.
Prints a row a section; exit code 1 if one of them has less than 98 %.
"""

import argparse
import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from momkd.slides.opening import open_slide
from momkd.slides.reader import SlideRules
from momkd.slides.survey import ReadRequest, survey
from momkd.slides.tiling import TilingOptions

WANTED = 0.98


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How the tiles of one section lie over its spots."""

    slide_id: str
    n_spots: int
    covered: float
    n_tiles: int
    tissue_mm2: float
    tissue_share: float
    empty_share: float


def measure(data: Path, tile_um: float) -> list[Coverage]:
    """Measure every section listed in ``slides.csv``."""
    tiling = TilingOptions.from_sides(None, tile_um, None, 0.1)
    with (data / "slides.csv").open(newline="") as stream:
        listed = list(csv.DictReader(stream))
    return [_measure_one(data / row["slide"], float(row["mpp"]), tiling) for row in listed]


def _measure_one(path: Path, mpp: float, tiling: TilingOptions) -> Coverage:
    request = ReadRequest(path=path, rules=SlideRules(mpp=mpp), tiling=tiling)
    with open_slide(path, request.rules) as slide:
        facts = survey(slide, request, on_refusal=lambda _: None)
    spots = pd.read_csv(path.with_name(f"{path.stem}_selection.tsv"), sep="\t")
    spots = spots[spots["selected"] == 1]
    centres = spots[["pixel_x", "pixel_y"]].to_numpy()
    side, corners = facts.grid.tile_px0, facts.grid.coords_px0
    # corners are whole pixels and the pitch is not: neighbours may lie a pixel apart
    after = centres[:, None] - corners[None]
    inside = ((after >= -0.5) & (after < side + 0.5)).all(axis=2)
    return Coverage(
        slide_id=path.stem,
        n_spots=len(spots),
        covered=float(inside.any(axis=1).mean()),
        n_tiles=len(facts.grid),
        tissue_mm2=facts.tissue.area_mm2,
        tissue_share=float(facts.tissue.mask.mean()),
        # tiles far from any spot would be tiles on glass; spots stand 200 um apart
        empty_share=float((np.abs(after + side / -2).max(axis=2).min(axis=0) * mpp > 250).mean()),
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "her2st"
    parser.add_argument("data", nargs="?", type=Path, default=beside)
    parser.add_argument("--tile-um", type=float, default=112.0)
    given = parser.parse_args()
    if not given.data.is_dir():
        print(f"{given.data}: no such folder", file=sys.stderr)
        return 3
    found = measure(given.data, given.tile_um)
    print("section  spots  covered  tiles  tissue mm2  share of slide  tiles far from any spot")
    for c in found:
        print(
            f"{c.slide_id:7}  {c.n_spots:5}  {c.covered:7.2%}  {c.n_tiles:5}  {c.tissue_mm2:10.2f}"
            f"  {c.tissue_share:14.1%}  {c.empty_share:23.1%}"
        )
    return int(min(c.covered for c in found) < WANTED)


if __name__ == "__main__":
    sys.exit(main())
