"""Real sections from pixels to a heatmap, through the command line: plumbing, not accuracy.

    python benchmarks/her2st.py --data ../shared/data/her2st --work her2st-run

Blocks of three sections are slides and cases of their own: their pixels train ABMIL, and MoMKD with
the summed counts of their spots as RNA, to tell blocks high in ERBB2 from the others. The section
left out is predicted from its JPEG, and tile scores are compared with ERBB2 at its spots. The page
docs/results/her2st.md holds figures and commands, no picture. What is done is not done again.
"""

import argparse
import csv
import gzip
import itertools
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.stats import spearmanr

from momkd.data.features import read_bag
from momkd.predictor import load_predictor
from momkd.types import Bag, TileGrid
from momkd.workflows.run_folder import describe_machine

SECTIONS = ("B4", "C2", "C3", "C4")
MODELS = ("abmil", "momkd")
GENE = "ERBB2"
MPP, TILE_UM, PITCH_UM = 0.69, 112.0, 200.0
_BLOCKS_A_SIDE = 4
_FEWEST_SPOTS = 5
_PER_TEN_THOUSAND = 1e4
# six genes stand twice in the count tables, the second time as NAME.1
_QUICK = "--set fit.epochs=40 --set folds.val_fraction=0.25 --set data.duplicate_genes=mean"
_SHIFTS = range(-6, 7)
_FAR_PITCHES = 4.0


@dataclass(frozen=True)
class Spots:
    """Spots of a section: places in px of its picture, and counts (spots x genes)."""

    xy: np.ndarray
    counts: pd.DataFrame

    @property
    def target(self) -> np.ndarray:
        """ln(1 + ERBB2 in 10,000 counts of the spot)."""
        share = self.counts[GENE] / self.counts.sum(axis=1)
        return np.log1p(share.to_numpy() * _PER_TEN_THOUSAND)


def read_spots(data: Path, section: str) -> Spots:
    """Read the spots that lie on tissue and have counts."""
    places = pd.read_csv(data / f"{section}_selection.tsv", sep="\t")
    places = places[places["selected"] == 1]
    places.index = [f"{x}x{y}" for x, y in zip(places["x"], places["y"], strict=True)]
    counts = pd.read_csv(data / f"{section}.tsv.gz", sep="\t", index_col=0)
    both = places.index.intersection(counts.index)
    counts = counts.loc[both]
    some = counts.sum(axis=1) > 0
    xy = places.loc[both, ["pixel_x", "pixel_y"]].to_numpy()
    return Spots(xy=xy[some.to_numpy()], counts=counts[some])


def cut_blocks(data: Path, work: Path) -> pd.DataFrame:
    """Cut every section into blocks, write each as a JPEG, and give their summed counts.

    Returns
    -------
    pandas.DataFrame
        Index: block; columns: ``section``, then genes (counts).
    """
    rows: dict[str, pd.Series[Any]] = {}
    Image.MAX_IMAGE_PIXELS = None
    for section in SECTIONS:
        spots = read_spots(data, section)
        half = PITCH_UM / MPP / 2
        lines = [
            np.linspace(v.min() - half, v.max() + half, _BLOCKS_A_SIDE + 1) for v in spots.xy.T
        ]
        place = [np.digitize(v, cuts) - 1 for v, cuts in zip(spots.xy.T, lines, strict=True)]
        folder = work / "blocks" / section
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.open(data / f"{section}.jpg")
        for i, j in itertools.product(range(_BLOCKS_A_SIDE), repeat=2):
            inside = (place[0] == i) & (place[1] == j)
            if inside.sum() < _FEWEST_SPOTS:
                continue
            name = f"{section}-{i}{j}"
            rows[name] = spots.counts[inside].sum()
            box = tuple(
                round(float(v)) for v in (*_corner(lines, i, j), *_corner(lines, i + 1, j + 1))
            )
            if not (folder / f"{name}.jpg").exists():
                picture.crop(box).save(folder / f"{name}.jpg", quality=95)
    table = pd.DataFrame(rows).T.fillna(0)
    table.insert(0, "section", [name.split("-")[0] for name in table.index])
    return table


def _corner(lines: Sequence[np.ndarray], i: int, j: int) -> tuple[float, float]:
    return float(lines[0][i]), float(lines[1][j])


def write_tables(blocks: pd.DataFrame, held_out: str, folder: Path) -> dict[str, int]:
    """Write the clinical and the RNA table of the blocks of all sections but one."""
    folder.mkdir(parents=True, exist_ok=True)
    part = blocks[blocks["section"] != held_out]
    counts = part.drop(columns="section").astype(float)
    per_million = counts.div(counts.sum(axis=1), axis=0) * 1e6
    expression = np.log2(per_million + 1)
    erbb2 = expression[GENE]
    # against its own section's median: otherwise the label would tell the patients apart
    high = erbb2 > erbb2.groupby(part["section"]).transform("median")
    with (folder / "clinical.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case_id", "slide_id", "block"])
        writer.writerows([b, b, "high" if high[b] else "low"] for b in part.index)
    with gzip.open(folder / "rna.csv.gz", "wt", encoding="utf-8", newline="") as stream:
        expression.round(4).to_csv(stream, index_label="case_id")
    return {s: int(high[part["section"] == s].sum()) for s in SECTIONS if s != held_out}


def commands(held_out: str, data: str, work: str) -> list[str]:
    """Give the commands of one held-out section, as typed."""
    others = [s for s in SECTIONS if s != held_out]
    out = f"{work}/{held_out}"
    given = " ".join(f"--features {work}/features/{s}" for s in others)
    lines = [
        f"momkd extract {work}/blocks/{s} -o {work}/features/{s} --mpp {MPP} --tile-um {TILE_UM:g} "
        "--batch-size 4"
        for s in others
    ]
    lines.append(
        f"momkd init {given} --clinical {out}/clinical.csv --rna {out}/rna.csv.gz --target block "
        f"--positive high --negative low -o {out}/momkd.yaml --force"
    )
    for model in MODELS:
        lines.append(f"momkd train -c {out}/momkd.yaml --model {model} {_QUICK} -o {out}/{model}")
        lines.append(
            f"momkd predict {data}/{held_out}.jpg --mpp {MPP} --model {out}/{model} "
            f"--features {work}/whole --attention {out}/attention-{model} -o {out}/{model}.csv"
        )
    return lines


def run(lines: Iterable[str]) -> None:
    """Run commands whose output is not there yet, stopping at the first that fails."""
    for line in lines:
        words = shlex.split(line)
        made = Path(words[words.index("-o") + 1])
        if (made / "predictor").exists() or (made.suffix == ".csv" and made.exists()):
            continue
        print(f"$ {line}", flush=True)
        subprocess.run([sys.executable, "-m", "momkd.cli", *words[1:]], check=True)


def tile_scores(work: Path, held_out: str, model: str) -> tuple[TileGrid, dict[str, np.ndarray]]:
    """Give scores of every tile of the held-out section.

    ``attention`` is what ``momkd predict --attention`` stored. ``evidence, tile alone`` is the
    probability of ERBB2-high when the tile is the whole bag; ``evidence, 3 x 3`` when the bag is
    the tile and its eight nearest.
    """
    bag = read_bag(work / "whole" / f"{held_out}.h5")
    predictor = load_predictor(work / held_out / model / "predictor")
    with h5py.File(work / held_out / f"attention-{model}" / "predictor" / f"{held_out}.h5") as file:
        assert np.array_equal(file["coords_px0"][:], bag.grid.coords_px0)
        scores = {"attention": file["attention"][:].astype(np.float64)}
    near = bag.neighbours.numpy()
    for name, members in (
        ("evidence, tile alone", [[i] for i in range(len(bag))]),
        ("evidence, 3 x 3", [[i, *near[i][near[i] >= 0].tolist()] for i in range(len(bag))]),
    ):
        scores[name] = np.array([_probability(predictor, part_of(bag, rows)) for rows in members])
    return bag.grid, scores


def _probability(predictor: Any, bag: Bag) -> float:
    # logits, not probabilities: the calibration saturates and ranks would tie
    logits = predictor.logits(bag).astype(np.float64)
    return float(logits[1] - logits[0])


def part_of(bag: Bag, rows: Sequence[int]) -> Bag:
    """Give some tiles of a bag as a bag; all of them are neighbours of one another."""
    n, k = len(rows), bag.neighbours.shape[1]
    near = np.full((n, k), -1, dtype=np.int32)
    for i in range(n):
        others = [j for j in range(n) if j != i][:k]
        near[i, : len(others)] = others
    grid = replace(bag.grid, coords_px0=bag.grid.coords_px0[list(rows)])
    return replace(
        bag,
        embeddings=bag.embeddings[list(rows)],
        grid=grid,
        neighbours=torch.from_numpy(near),
        digest=None,
    )


def tiles_under(grid: TileGrid, xy: np.ndarray) -> np.ndarray:
    """Give the tile that each place lies in; -1 where none does."""
    place = {
        tuple(c): i
        for i, c in enumerate(np.rint(grid.coords_px0 / grid.tile_px0).astype(int).tolist())
    }
    return np.array([place.get((int(x), int(y)), -1) for x, y in xy // grid.tile_px0])


def correlation(grid: TileGrid, score: np.ndarray, spots: Spots, shift_px: np.ndarray) -> float:
    """Give Spearman's rho between tile score and the spots' target, spots moved by a shift."""
    tile = tiles_under(grid, spots.xy + shift_px)
    on = tile >= 0
    return (
        float(spearmanr(score[tile[on]], spots.target[on]).statistic) if on.sum() > 20 else np.nan
    )


def compare(grid: TileGrid, score: np.ndarray, spots: Spots) -> dict[str, Any]:
    """Give the correlation where the spots lie, and where they do not."""
    pitch_px = PITCH_UM / MPP
    at = {
        (i, j): correlation(grid, score, spots, np.array([i, j]) * pitch_px)
        for i, j in itertools.product(_SHIFTS, repeat=2)
    }
    here = at[0, 0]
    far = np.array([r for (i, j), r in at.items() if np.hypot(i, j) >= _FAR_PITCHES])
    far = far[np.isfinite(far)]
    beside = np.array([at[i, j] for i, j in ((1, 0), (-1, 0), (0, 1), (0, -1))])
    return {
        "rho": here,
        "shifted by 1 spot": float(np.nanmean(beside)),
        f"shifted by {_FAR_PITCHES:g} or more": float(far.mean()),
        "share of these below rho": float((far < here).mean()),
    }


def measure(data: Path, work: Path, held_out: Sequence[str]) -> tuple[list[str], list[str]]:
    """Run everything and give the page's tables and the commands."""
    blocks = cut_blocks(data, work)
    parts, lines = [], []
    for section in held_out:
        high = write_tables(blocks, section, work / section)
        lines += (new := commands(section, str(data), str(work)))
        run(new)
        spots = read_spots(data, section)
        rows = []
        for model in MODELS:
            grid, scores = tile_scores(work, section, model)
            rows += [
                {"model": model, "tile score": name} | compare(grid, score, spots)
                for name, score in scores.items()
            ]
        on = (tiles_under(grid, spots.xy) >= 0).mean()
        n = blocks.groupby("section").size()
        taught = ", ".join(f"{s} {n[s]} blocks ({high[s]} high)" for s in high)
        parts.append(
            f"## {section} held out\n\nTaught on {taught}. {section}: {len(grid)} tiles, "
            f"{len(spots.xy)} spots, {on:.1%} of them on a kept tile.\n\n{markdown(rows)}"
        )
    return parts, list(dict.fromkeys(lines))


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Set rows as a Markdown table."""
    head = list(rows[0])
    cells = [[v if isinstance(v, str) else f"{v:.3f}" for v in row.values()] for row in rows]
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


_INTRODUCTION = """# Real sections: from pixels to a heatmap

Plumbing, not accuracy: four sections of two patients (her2st), all of them HER2-positive. Blocks of
three sections, each a slide and a case of its own, teach ABMIL, and MoMKD with the summed counts of
a block's spots as its RNA (log2 of counts per million, plus 1), to tell blocks whose ERBB2 lies
above the median of their own section from the rest. (The patients differ in ERBB2: with a common
median the label would tell them apart.) The RNA holds ERBB2 itself. The section left out is
predicted from its JPEG by `momkd predict`. Then tile scores are compared with ERBB2 at its spots
(ln of 1 + counts in 10,000): Spearman's rho over spots, each with the tile it lies in. C2 and C3
are neighbours of C4 in one patient; B4 held out is a patient of whom no block was shown.

- `attention`: as `momkd predict --attention` stores it. It says where the model looks, not which
  way: a model that looks at low tiles gives a negative rho.
- `evidence, tile alone`: the logit of ERBB2-high when this tile is the whole bag.
- `evidence, 3 x 3`: the same when the bag is the tile and its eight nearest.

If pictures, tiles and spots did not lie on one another, moving the spots would not matter. It is
tried: by one spot (200 um) along each axis, and by four spots and more, up to six along each axis,
in all directions (spots that leave the kept tiles are not counted).

"""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/her2st"))
    parser.add_argument("--work", type=Path, default=Path("her2st-run"))
    parser.add_argument("--held-out", default="C4,B4")
    parser.add_argument("-o", type=Path, default=Path("docs/results/her2st.md"))
    given = parser.parse_args()
    parts, lines = measure(given.data, given.work, given.held_out.split(","))
    facts = describe_machine()
    about = (
        f"momkd {facts['momkd']}, torch {facts['torch']}, {facts['system']}, 2 cores, "
        f"{facts['date']}. `python benchmarks/her2st.py` runs:\n"
    )
    block = "```\n" + "\n".join(lines) + "\n```\n"
    given.o.parent.mkdir(parents=True, exist_ok=True)
    given.o.write_text(_INTRODUCTION + "\n".join(parts) + f"\n{about}\n{block}", encoding="utf-8")
    print(f"wrote {given.o}")


if __name__ == "__main__":
    main()
