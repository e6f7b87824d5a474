"""Features that other tools made, as a user hands them over: no conversion."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import yaml

from tests.journeys.run_momkd import momkd
from tests.layout_files import (
    SlideFeatures,
    write_clam,
    write_npy_folders,
    write_npy_pair,
    write_published,
    write_stamp,
    write_trident,
    write_wsidata,
)


def _slide(path: Path) -> SlideFeatures:
    """Take a slide of the cohort, with values that float16 holds."""
    with h5py.File(path) as file:
        values = file["features"][:].astype(np.float16).astype(np.float32)
        coords = file["coords"][:].astype(np.int64)
        attributes = dict(file["coords"].attrs)
    side, tile_px = int(attributes["patch_size_level0"]), int(attributes["patch_size"])
    return SlideFeatures(
        embeddings=values,
        coords=coords,
        tile_px0=side,
        tile_px=tile_px,
        mpp0=0.5 * tile_px / side,
    )


def test_every_layout_gives_the_same_probability(
    finished_run: Path, made_cohort: Path, tmp_path: Path
) -> None:
    slide = _slide(sorted((made_cohort / "features").glob("*.h5"))[0])
    folder = tmp_path / "all"
    write_trident(folder / "trident.h5", slide, mpp=None)
    write_published(folder / "published.h5", slide)
    write_clam(folder / "clam", "clam", slide)
    write_clam(folder / "pt", "pt", slide)
    (folder / "pt" / "h5_files" / "pt.h5").unlink()
    write_stamp(folder / "stamp.h5", slide)
    write_wsidata(folder / "wsidata.zarr", slide)
    write_npy_pair(folder / "npy", "npy", slide)
    # as halves: the very bytes of another file would be refused as a duplicate
    half = replace(slide, embeddings=slide.embeddings.astype(np.float16))
    write_npy_folders(folder / "torchmil", "torchmil", half)
    # the same slide scanned at half the resolution
    coarse = replace(slide, coords=slide.coords // 2, tile_px0=slide.tile_px, mpp0=0.5)
    write_trident(folder / "coarse.h5", coarse)
    names = ["trident", "published", "clam", "pt", "stamp", "wsidata", "npy", "torchmil", "coarse"]
    one_case = "".join(f"{name},patient\n" for name in names)
    (tmp_path / "cases.csv").write_text("slide_id,case_id\n" + one_case)
    answer = momkd(
        *("predict", "--model", finished_run, folder, folder / "trident.h5"),
        *("--cases", tmp_path / "cases.csv"),
        *("-o", tmp_path / "p.csv", "--mpp", slide.mpp0, "--attention", tmp_path / "attention"),
    )
    assert answer.code == 0, answer.err
    assert "named twice" in answer.err
    table = pd.read_csv(tmp_path / "p.csv")
    names = ["trident", "published", "clam", "pt", "stamp", "wsidata", "npy", "torchmil", "coarse"]
    assert sorted(set(table["slide_id"])) == sorted(names)
    cases = pd.read_csv(tmp_path / "p_cases.csv").set_index("model")
    assert (cases["n_slides"] == len(names)).all()
    for model, rows in table.groupby("model"):
        assert rows["prob_positive"].max() - rows["prob_positive"].min() <= 1e-6
        assert abs(cases.loc[model, "prob_positive"] - rows["prob_positive"].mean()) <= 1e-9
    assert set(table["out_of_range"]) == {False}
    assert table["flags"].str.contains("encoder weights unverified").any()


def test_a_packed_cohort_trains_and_is_a_source_itself(cohort: Path, tmp_path: Path) -> None:
    config = cohort / "momkd.yaml"
    packed = momkd("pack", "-c", config)
    assert packed.code == 0, packed.err
    assert "float16" in packed.out
    folder = cohort / "momkd.packed"
    n_slides = len(list(folder.glob("*.pack")))
    assert f"{n_slides} new" in packed.out
    run = tmp_path / "run"
    trained = momkd("train", "-c", config, "-o", run, "--model", "mean_logistic")
    assert trained.code == 0, trained.err
    assert json.loads((run / "run.json").read_text())["embeddings"] == "packed, float16"
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["cache_dir"] == str(folder)
    answer = momkd("predict", "--model", run, folder, "-o", tmp_path / "p.csv")
    assert answer.code == 0, answer.err
    table = pd.read_csv(tmp_path / "p.csv")
    assert len(table) == n_slides
    used = set(pd.read_csv(run / "cohort.csv")["slide_id"].dropna())
    seen = set(table.loc[table["seen_in_training"], "slide_id"])
    assert seen == used, "a packed slide is not known for its source"
