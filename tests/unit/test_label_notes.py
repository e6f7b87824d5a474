"""What is said of a label travels with it."""

from pathlib import Path

import pytest

from momkd.data.clinical import ColumnOptions, TargetOptions, read_clinical
from momkd.data.label_notes import target_notes
from momkd.errors import DataError


def target(column: str, **more: object) -> TargetOptions:
    return TargetOptions(column=column, positive="1", negative="0", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("column", ["ODX85", "odx", "Oncotype_DX", "oncotype", "PAM50_basal"])
def test_scores_computed_from_expression_are_known_by_name(column: str) -> None:
    (note,) = target_notes(target(column))
    assert note.startswith(column)
    assert "computed from expression" in note
    assert "circular" in note


@pytest.mark.parametrize("column", ["HER2", "PR", "label", "paradox", "pr_status_by_ihc"])
def test_others_are_not(column: str) -> None:
    assert target_notes(target(column)) == ()


def test_a_note_of_the_configuration_comes_first() -> None:
    assert target_notes(target("ODX85", note="cut at 25")) == ("ODX85: cut at 25",)


def test_a_label_that_is_a_threshold_of_a_score_is_told(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    head = "case_id,high,score,age\n"
    rows = [f"c{i},{int(i >= 20)},{i / 10},{(i * 37) % 60}" for i in range(40)]
    path.write_text(head + "\n".join([*rows, "c99,,9,9"]))
    table = read_clinical(path, target("high"), ColumnOptions())
    told = [n for n in table.notes if "threshold" in n]
    assert told == [
        "high is a threshold of column 'score', at 2: what that score was computed from says more "
        "than any model could"
    ]
    # one exception, and it is not
    path.write_text(head + "\n".join([*rows, "c99,0,9,9"]))
    assert not any(
        "threshold" in n for n in read_clinical(path, target("high"), ColumnOptions()).notes
    )


def test_the_real_research_score(shared_data: Path) -> None:
    path = shared_data / "tcga-brca" / "clinical.csv"
    notes = read_clinical(path, target("ODX85"), ColumnOptions()).notes
    assert any("Oncotype DX" in n for n in notes)
    assert any("threshold of column 'odx_score'" in n for n in notes)
    assert not any(
        "threshold" in n for n in read_clinical(path, target("PR"), ColumnOptions()).notes
    )


@pytest.mark.parametrize("column", ["censorship", "event", "OS", "pfs_status", "vital_status"])
def test_the_event_of_a_survival_time_is_no_class(tmp_path: Path, column: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(f"case_id,{column},survival_months\na,1,3.5\nb,0,4\n")
    with pytest.raises(DataError, match=r"L13.*survival_months"):
        read_clinical(path, target(column), ColumnOptions())
    # without a time beside it nothing says so
    path.write_text(f"case_id,{column}\na,1\nb,0\n")
    assert len(read_clinical(path, target(column), ColumnOptions()).rows) == 2


@pytest.mark.parametrize("name", ["P_HER2", "p_1", "yhat", "HER2_logits", "her2_p"])
def test_predictions_by_other_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(f"case_id,y,{name}\na,1,0.9\nb,0,0.1\nc,0,0.1\n")
    with pytest.raises(DataError, match=rf"L14.*{name}"):
        read_clinical(path, target("y"), ColumnOptions())
