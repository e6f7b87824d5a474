"""The receptor rules: every combination that a report can hold has one answer, and a reason."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momkd.data.receptor_status import (
    RULES,
    Her2Record,
    HormoneRecord,
    UnreadableCellError,
    read_least_percent,
    read_ratio,
    read_score,
    read_status,
    rule_her2,
    rule_hormone,
)

STATUSES = (None, "positive", "negative", "equivocal", "indeterminate")
records = st.builds(
    Her2Record,
    ihc_status=st.sampled_from(STATUSES),
    ihc_score=st.sampled_from((None, 0, 1, 2, 3)),
    ish_status=st.sampled_from(STATUSES),
    ratio=st.none() | st.floats(0.1, 20),
)


def her2(
    status: str | None = None,
    score: int | None = None,
    ish: str | None = None,
    ratio: float | None = None,
    rule: str = "asco-cap",
) -> tuple[str | None, str]:
    record = Her2Record(ihc_status=status, ihc_score=score, ish_status=ish, ratio=ratio)
    ruling = rule_her2(record, rule)
    return ruling.label, ruling.reason


# what ASCO/CAP 2018 says, row by row: (status, score, ISH) -> label
GUIDELINE = [
    ("positive", 3, None, "positive", "IHC 3+"),
    (None, 3, None, "positive", "IHC 3+"),
    ("negative", 0, None, "negative", "IHC 0 or 1+"),
    ("negative", 1, None, "negative", "IHC 0 or 1+"),
    ("equivocal", 2, "positive", "positive", "ISH positive (IHC 2+)"),
    ("equivocal", 2, "negative", "negative", "ISH negative (IHC 2+)"),
    ("equivocal", 2, None, None, "IHC 2+, ISH not stated"),
    ("equivocal", 2, "equivocal", None, "IHC 2+, ISH equivocal"),
    ("negative", 1, "equivocal", "negative", "IHC 0 or 1+"),
    ("negative", 1, "indeterminate", "negative", "IHC 0 or 1+"),
    ("positive", 3, "equivocal", "positive", "IHC 3+"),
    (None, None, "positive", "positive", "ISH positive (IHC not stated)"),
    (None, None, "negative", "negative", "ISH negative (IHC not stated)"),
    (None, None, None, None, "IHC not stated, ISH not stated"),
]


@pytest.mark.parametrize(("status", "score", "ish", "label", "reason"), GUIDELINE)
def test_the_guideline(
    status: str | None, score: int | None, ish: str | None, label: str | None, reason: str
) -> None:
    assert her2(status, score, ish) == (label, reason)


def test_tests_that_disagree_are_told_and_either_positive_counts() -> None:
    assert her2("positive", 3, "negative") == ("positive", "IHC 3+ (discordant: ISH negative)")
    assert her2("negative", 1, "positive") == (
        "positive",
        "ISH positive (discordant: IHC 0 or 1+)",
    )


def test_a_status_its_own_score_denies_decides_nothing() -> None:
    assert her2("positive", 1)[0] is None
    assert her2("negative", 3)[0] is None
    assert her2("positive", 2) == (None, "IHC 2+ called positive, ISH not stated")
    assert her2("indeterminate", 1)[0] is None
    # ISH does
    assert her2("positive", 1, "negative")[0] == "negative"
    assert her2("negative", 3, "positive")[0] == "positive"
    assert her2("equivocal", 3, "negative")[0] == "negative"


def test_positive_without_a_score_may_have_been_2_plus() -> None:
    assert her2("positive") == ("positive", "IHC positive, no score")
    assert her2("positive", None, "negative") == (
        None,
        "IHC positive, no score against ISH negative",
    )


def test_a_ratio_speaks_where_ish_gave_no_verdict_and_outside_the_grey_zone() -> None:
    assert her2("equivocal", 2, "equivocal", 1.3)[0] == "negative"
    assert her2("equivocal", 2, None, 4.0)[0] == "positive"
    assert her2("equivocal", 2, "equivocal", 1.9)[0] is None
    assert her2("equivocal", 2, "negative", 2.2)[0] == "negative"
    assert her2("equivocal", 2, "negative", 5.0) == (
        None,
        "IHC 2+, ISH negative against a ratio of 5",
    )


def test_the_other_rules() -> None:
    assert her2("equivocal", 2, "positive", rule="ihc-only") == (None, "IHC equivocal")
    assert her2("positive", 1, "negative", rule="ihc-only")[0] == "positive"
    assert her2("equivocal", 2, "positive", rule="ihc-then-fish")[0] == "positive"
    assert her2("positive", 3, "negative", rule="ihc-then-fish")[0] == "positive"
    assert her2("positive", 3, "negative", rule="fish-then-ihc")[0] == "negative"
    assert her2("negative", 0, None, rule="fish-then-ihc")[0] == "negative"
    assert her2(None, None, None, rule="fish-then-ihc") == (None, "ISH not stated, IHC not stated")
    assert her2(None, None, None, rule="rest-negative") == ("negative", "rest: IHC not stated")


def test_every_combination_has_an_answer_under_every_rule() -> None:
    for rule in RULES:
        for status, score, ish in product(STATUSES, (None, 0, 1, 2, 3), STATUSES):
            label, reason = her2(status, score, ish, rule=rule)
            assert label in ("positive", "negative", None)
            assert reason


@given(record=records)
def test_nothing_stated_is_never_a_label(record: Her2Record) -> None:
    ruling = rule_her2(record, "asco-cap")
    said = {record.ihc_status, record.ish_status}
    if ruling.label == "negative":
        assert "negative" in said or record.ihc_score in (0, 1) or (record.ratio or 9) < 1.8
    if ruling.label == "positive":
        assert "positive" in said or record.ihc_score == 3 or (record.ratio or 0) > 2.2


def test_hormone_receptors() -> None:
    def judge(status: str | None, percent: float | None, rule: str = "asco-cap") -> object:
        return rule_hormone(HormoneRecord(status=status, least_percent=percent), rule).label

    assert judge("positive", 0.0) == "positive"  # "<10%" holds 1 to 9 %
    assert judge("negative", 0.0) == "negative"
    assert judge("negative", 10.0) is None
    assert judge("indeterminate", 20.0) is None
    assert judge(None, None) is None
    assert judge(None, 10.0) == "positive"
    assert judge(None, 0.0) is None
    assert judge("negative", 10.0, "ihc-only") == "negative"
    assert judge(None, None, "rest-negative") == "negative"


@pytest.mark.parametrize(
    "cell", ["", "NA", "[Not Evaluated]", "[Not Available]", "[Unknown]", " [not applicable] "]
)
def test_nothing_stated(cell: str) -> None:
    assert read_status(cell) is None
    assert read_score(cell) is None
    assert read_least_percent(cell) is None
    assert read_ratio(cell) is None


def test_cells() -> None:
    assert read_status(" Positive") == "positive"
    assert read_status("Not Amplified") == "negative"
    assert [read_score(c) for c in ("0", "1+", "2 +", "3")] == [0, 1, 2, 3]
    assert [read_least_percent(c) for c in ("<10%", "10-19%", "90-99%", "0", "5 %")] == [
        *(0.0, 10.0, 90.0, 0.0, 5.0)
    ]
    assert [read_ratio(c) for c in ("1.3", ">2.2", "not amplified", "0", "-1", "nan")] == [
        *(1.3, None, None, None, None, None)
    ]
    for read, cell in (
        (read_status, "Postive"),
        (read_score, "4+"),
        (read_score, "high"),
        (read_least_percent, "many"),
    ):
        with pytest.raises(UnreadableCellError):
            read(cell)
