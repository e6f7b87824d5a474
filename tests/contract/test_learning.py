"""Every method learns: on simulated cases it beats mean pooling, and none beats the ceiling."""

from pathlib import Path

import pytest

from benchmarks.learning import CONTROL, measure
from momkd.models.table import MODELS


@pytest.mark.slow
def test_each_beats_mean_pooling_and_none_the_ceiling(tmp_path: Path) -> None:
    rows = measure(tmp_path, 1000, 1000, 2)
    assert {row["model"] for row in rows} == {"ceiling", *MODELS}
    for row in rows[1:]:
        assert row["above ceiling"] <= 3 * row["its SE"], row
        assert row["model"] == CONTROL or row["over mean pooling"] > 0, row
