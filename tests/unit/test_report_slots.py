"""A report tells which slots of the run's memories say the same, from their weights."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from momkd.workflows.evaluate import evaluate
from momkd.workflows.report import report
from momkd.workflows.report_slots import read_slots, tables_of_slots
from tests.page_reader import PageReader, faults_of
from tests.run_folders import write_run

SLOTS = np.array([[[2.0, 0, 0], [3.0, 0, 0]], [[0, 5.0, 0], [0, 0, 1.0]]], dtype=np.float32)


def write_weights(job: Path, slots: np.ndarray) -> Path:
    (job / "predictor").mkdir(parents=True, exist_ok=True)
    path = job / "predictor" / "model.safetensors"
    save_file({"memory.slots": slots, "head.bias": np.zeros(2, np.float32)}, path)
    return path


def test_slots_are_read_as_unit_vectors(tmp_path: Path) -> None:
    found = read_slots(write_weights(tmp_path, SLOTS))
    assert found is not None
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1)
    assert read_slots(tmp_path / "none.safetensors") is None
    assert read_slots(write_weights(tmp_path / "nan", SLOTS * np.nan)) is None
    assert read_slots(write_weights(tmp_path / "flat", SLOTS[0])) is None
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    assert read_slots(tmp_path / "torn.safetensors") is None


def test_duplicates_are_counted_and_named() -> None:
    unit = SLOTS / np.linalg.norm(SLOTS, axis=2, keepdims=True)
    summary, every = tables_of_slots([("a", unit), ("b", unit[::-1])], ("no", "yes"))
    negative, positive = summary.rows
    assert (negative["class"], negative["slots"]) == ("no", 2)
    assert negative["slots with a duplicate"] == "1 (0 to 2)"
    assert positive["slots with a twin"] == "0 (0 to 0)"
    assert [row["notes"] for row in every.rows] == ["duplicate", "duplicate", "", ""]
    assert every.rows[0]["nearest of its class"] == "no 2"
    assert every.rows[0]["cosine"] == pytest.approx(1)
    assert tables_of_slots([], ("no", "yes")) == []


def test_the_report_shows_them_beside_the_dynamics(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ("momkd",), seeds=1)
    for job in sorted(run.glob("momkd/seed-0/fold-*")):
        write_weights(job, SLOTS)
    evaluate(run)
    html = report(run).path.read_text(encoding="utf-8")
    assert faults_of(html) == []
    words = " ".join(PageReader(html).words.split())
    assert "median (least to most) over 3 trainings: a duplicate in their own class" in words
    assert "Slots of momkd/seed-0/fold-0: cosine to the nearest slot" in words
