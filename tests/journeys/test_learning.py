"""Every model learns: better than mean pooling, and no better than what can be known."""

import importlib.util
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "learning.py"


def _load():
    spec = importlib.util.spec_from_file_location("learning", _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_model_learns_on_the_easy_scenario(tmp_path):
    learning = _load()
    # in this process: the test's own processes already fill the cores
    learning.make_cohorts(tmp_path, n_train=1000, n_new=1000)
    scores = {name: learning.train_and_score(name, tmp_path, ()) for name in learning.MODELS}
    rows = {row["model"]: row for row in learning.compare(tmp_path, scores)}
    assert len(rows) == len(learning.MODELS) + 1
    for name in learning.MODELS:
        row = rows[name]
        assert row["above ceiling"] < 3 * row["its SE"], row
        if name != learning.CONTROL:
            assert row["over mean pooling"] > 0, row
