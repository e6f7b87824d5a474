"""A run goes out as a Hub folder and as an ONNX file, and predicts there as it did."""

from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from momkd.data.features import examine_files, read_bag
from tests.journeys.run_momkd import momkd, refused


@pytest.mark.slow
def test_a_run_is_exported_and_predicts_as_before(
    finished_run: Path, made_cohort: Path, tmp_path: Path
) -> None:
    hub, onnx = tmp_path / "hub", tmp_path / "momkd.onnx"
    refused(momkd("export", finished_run, "--to", "hub", "-o", hub), 3, "[P15]", "momkd, abmil")
    made = momkd("export", "--to", "hub", finished_run, "-o", hub, "--only", "momkd")
    assert made.code == 0, made.err
    assert "3 member(s)" in made.out
    assert "95 % interval" in (hub / "README.md").read_text()
    slides = sorted((made_cohort / "features").iterdir())[:4]
    before = momkd(
        *("predict", *slides, "--model", finished_run, "--only", "momkd"),
        *("-o", tmp_path / "before.csv"),
    )
    after = momkd("predict", *slides, "--model", hub, "-o", tmp_path / "after.csv")
    assert before.code == after.code == 0, (before.err, after.err)
    texts = [(tmp_path / f"{n}.csv").read_text() for n in ("before", "after")]
    assert texts[0].replace(",momkd,", ",predictor,") == texts[1]
    # and from there to a graph, read with onnxruntime and nothing of ours
    drawn = momkd("export", hub, "--to", "onnx", "-o", onnx)
    assert drawn.code == 0, drawn.err
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    table = pd.read_csv(tmp_path / "after.csv").set_index("slide_id")
    for slide in examine_files({path.stem: path for path in slides}).slides.values():
        bag = read_bag(slide, k=8)
        feed = {
            "embeddings": bag.embeddings.float().numpy(),
            "neighbours": bag.neighbours.numpy().astype(np.int64),
        }
        found, *_ = session.run(None, feed)
        assert found[1] == pytest.approx(table.loc[slide.slide_id, "prob_positive"], abs=1e-5)
    refused(momkd("export", hub, "--to", "onnx", "-o", onnx), 2, "[G08]", "--force")
