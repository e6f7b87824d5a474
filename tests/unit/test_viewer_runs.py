"""A run folder as the viewer reads it, and the address it is served at."""

import json
import socket
import sys

import pandas as pd
import pytest

from momkd.errors import ConfigError, DataError, MachineError
from momkd.viewer.catalogue import Catalogue
from momkd.viewer.options import ViewerOptions
from momkd.viewer.run_tables import read_run_facts
from momkd.viewer.server import address_of, claim_address
from momkd.workflows.serve import serve
from tests.run_folders import write_run


def test_a_run_is_read_by_slide_with_the_mean_over_its_seeds(tmp_path):
    run = write_run(tmp_path / "run", n=30)
    facts = read_run_facts(run)
    assert (facts.task, facts.class_names) == ("HER2", ("no HER2", "HER2"))
    assert facts.models == ("momkd", "abmil")
    assert facts.can_score
    table = pd.read_csv(run / "predictions.csv")
    assert len(facts.entries) == 30  # a case with RNA alone has no slide
    for entry in facts.entries:
        mine = table[(table["slide_id"] == entry.slide_id) & (table["model"] == "abmil")]
        score = entry.scores["abmil"]
        assert len(mine) == 2
        assert score.probability == pytest.approx(mine["prob_HER2"].mean(), abs=1e-12)
        span = [mine["prob_HER2"].min(), mine["prob_HER2"].max()]
        assert [score.low, score.high] == pytest.approx(span, abs=1e-12)
        assert score.threshold == 0.5
        assert entry.label == mine["y_true"].iloc[0]
    row = Catalogue(facts, {}).cases()[0]
    error = row["scores"]["momkd"]["error"]
    assert error == abs(row["label"] - row["scores"]["momkd"]["probability"])


def test_only_the_test_side_is_shown(tmp_path):
    run = write_run(tmp_path / "run", n=30)
    table = pd.read_csv(run / "predictions.csv")
    table["split"] = ["val", "test"] * (len(table) // 2)
    table.to_csv(run / "predictions.csv", index=False)
    shown = sum(len(e.scores) for e in read_run_facts(run).entries)
    tested = table[table["split"] == "test"]
    assert shown == len(tested.drop_duplicates(["slide_id", "model"]))


def test_an_unfinished_run_and_a_final_predictor_say_that_nothing_was_tested(tmp_path):
    run = write_run(tmp_path / "run", n=30, open_jobs=["momkd/seed-0/fold-0"])
    facts = read_run_facts(run)
    assert "not finished" in facts.notes[-1]
    assert all(not e.scores for e in facts.entries)
    (run / "predictor").mkdir()
    (run / "predictor" / "config.json").write_text("{}")
    facts = read_run_facts(run)
    assert facts.models == ("predictor",)
    assert "No case of this run was kept for testing" in facts.notes[-1]


def test_a_predictor_has_no_slides(tmp_path):
    card = {"task": "HER2", "class_names": ["no", "yes"]}
    (tmp_path / "config.json").write_text(json.dumps(card))
    facts = read_run_facts(tmp_path)
    assert (facts.models, facts.entries, facts.can_score) == (("predictor",), (), False)
    (tmp_path / "config.json").write_text(json.dumps({"members": [card, card]}))
    assert read_run_facts(tmp_path).class_names == ("no", "yes")


@pytest.mark.parametrize(
    ("column", "value"),
    [("prob_HER2", "nan"), ("prob_HER2", "1.5"), ("threshold", "x"), ("y_true", "")],
)
def test_a_damaged_table_is_refused_with_its_row(tmp_path, column, value):
    run = write_run(tmp_path / "run", n=30)
    table = pd.read_csv(run / "predictions.csv", dtype=str)
    table.loc[4, column] = value
    table.to_csv(run / "predictions.csv", index=False)
    with pytest.raises(DataError, match=r"P14.*row 6") as refusal:
        read_run_facts(run)
    assert len(refusal.value.problems) == 1


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"task": "x"}', '{"class_names": 1, "task": "x"}']
)
def test_a_damaged_manifest_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DataError, match="P13"):
        read_run_facts(tmp_path)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="P13"):
        serve(tmp_path, options=ViewerOptions(port=0))


def test_a_port_in_use_is_refused_in_one_line(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        options = ViewerOptions(port=other.getsockname()[1])
        with pytest.raises(MachineError, match=r"D13.*in use.*--port 0") as refusal:
            serve(tmp_path, options=options)
        assert refusal.value.exit_code == 6


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(ConfigError, match="G07"):
        claim_address(ViewerOptions(host="192.0.2.1", port=0))
    with pytest.raises(ConfigError, match="G07"):
        claim_address(ViewerOptions(host="no such host", port=0))


def test_the_address_holds_the_token_once_and_any_free_port():
    options = ViewerOptions(port=0)
    with claim_address(options) as listener:
        port = listener.getsockname()[1]
        assert port > 0
        assert address_of(listener, options, None) == f"http://127.0.0.1:{port}/"
        assert address_of(listener, options, "t") == f"http://127.0.0.1:{port}/?token=t"
    options = ViewerOptions(host="0.0.0.0", port=0)
    with claim_address(options) as listener:
        assert socket.gethostname() in address_of(listener, options, None)


@pytest.mark.parametrize("name", ["fastapi", "uvicorn"])
def test_without_the_extra_one_line_names_it(tmp_path, monkeypatch, name):
    for loaded in [
        m for m in sys.modules if m.startswith(("momkd.viewer.app", "momkd.viewer.server"))
    ]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MachineError) as refusal:
        serve(tmp_path)
    problem = refusal.value.problems[0]
    assert (problem.code, problem.remedy) == ("E01", "pip install 'momkd[serve]'")
    assert name in problem.where
    assert refusal.value.exit_code == 6
