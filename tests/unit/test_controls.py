"""Controls change what training is taught, in the way they say, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from momkd.data.controls import LABEL_NOISE, ControlOptions, Lesson, RNAControl, make_lesson
from momkd.data.folds import FoldOptions, make_folds
from momkd.data.panel import PanelOptions, fit_panel
from momkd.errors import ConfigError
from momkd.types import Case, Cohort, Expression, Fold
from momkd.workflows.settings import Settings, parse_models
from tests.sites import make_cohort as without_rna

PANEL = PanelOptions(n_genes=6)


def make_cohort() -> Cohort:
    """Half of the cases with RNA that names its case, and four with RNA alone."""
    bare = without_rna({"A": (30, 20)}, rna_only=["A"] * 4)
    owners = [c.case_id for c in bare.cases if c.has_rna]
    values = np.arange(len(owners) * 8, dtype=np.float32).reshape(len(owners), 8)
    genes = tuple(f"G{j}" for j in range(8))
    return replace(bare, expression=Expression(case_ids=tuple(owners), genes=genes, values=values))


COHORT = make_cohort()
FOLD = make_folds(COHORT, FoldOptions(n=3, val_fraction=0.15), 0)[0]
CASES = {c.case_id: c for c in COHORT.cases}


def lesson(fold: Fold = FOLD, rna: RNAControl | None = None, **options: object) -> Lesson:
    return make_lesson(COHORT, fold, ControlOptions(**options), PANEL, fold.seed, rna=rna)


def with_rna(found: Lesson) -> set[str]:
    return {c.case_id for c in found.cohort.cases if c.has_rna}


def rows(found: Lesson, cases: list[Case] | None = None) -> np.ndarray:
    assert found.cohort.expression is not None
    ids = sorted(with_rna(found)) if cases is None else [c.case_id for c in cases]
    return found.cohort.expression.rows(tuple(ids))


def test_true_pairs_are_the_training_cases_own() -> None:
    found = lesson()
    assert found.train == tuple(sorted(FOLD.train))
    assert with_rna(found) == {c for c in FOLD.train if CASES[c].has_rna}
    assert COHORT.expression is not None
    np.testing.assert_array_equal(rows(found), COHORT.expression.rows(sorted(with_rna(found))))
    assert (found.panel, found.notes) == (PANEL, ())


@pytest.mark.parametrize("rna", ["true_pairs", "shuffled_within_class", "label", "none"])
def test_nothing_of_held_out_cases_is_left_to_see(rna: RNAControl) -> None:
    found = lesson(rna=rna)
    held_out = {*FOLD.val, *FOLD.test}
    assert not held_out & with_rna(found)
    if found.cohort.expression is not None:
        assert not held_out & set(found.cohort.expression.case_ids)
        # and the rows are not theirs under another name
        assert COHORT.expression is not None
        theirs = COHORT.expression.rows([c for c in held_out if CASES[c].has_rna])
        assert not set(map(tuple, theirs)) & set(map(tuple, found.cohort.expression.values))


def test_shuffled_is_a_permutation_within_the_class_that_moves_everybody() -> None:
    own, swapped = lesson(), lesson(rna="shuffled_within_class")
    assert with_rna(own) == with_rna(swapped)
    for label in (0, 1):
        cases = sorted(
            (CASES[c] for c in with_rna(own) if CASES[c].label == label), key=lambda c: c.case_id
        )
        before, after = rows(own, cases), rows(swapped, cases)
        assert sorted(map(tuple, before)) == sorted(map(tuple, after))
        assert (before != after).any(axis=1).all()
    assert COHORT.expression is not None
    panels = [
        fit_panel(f.cohort.expression, [c for c in f.cohort.cases if c.has_rna], PANEL, 0)
        for f in (own, swapped)
        if f.cohort.expression is not None
    ]
    assert panels[0].genes == panels[1].genes
    np.testing.assert_array_equal(panels[0].centre, panels[1].centre)


def test_label_is_the_label_with_little_noise_as_wide_as_the_panel() -> None:
    found = lesson(rna="label")
    cases = [CASES[c] for c in sorted(with_rna(found))]
    told = rows(found, cases)
    assert told.shape[1] == PANEL.n_genes
    labels = np.array([c.label for c in cases])
    for column in range(6):
        off = told[:, column] - (labels == column % 2)
        assert np.abs(off).max() < 5 * LABEL_NOISE
        assert off.std() > LABEL_NOISE / 2
    assert (found.panel.selector, found.panel.winsor) == ("all", 0.0)


def test_none_leaves_cases_with_rna_alone_out() -> None:
    found = lesson(rna="none")
    assert found.cohort.expression is None
    assert with_rna(found) == set()
    assert found.train == tuple(sorted(c for c in FOLD.train if CASES[c].slide_ids))
    assert found.notes == ("controls: 4 training cases with RNA alone have nothing left to teach",)


def test_withheld_cases_are_nested_and_of_each_class() -> None:
    pairs = {c for c in FOLD.train if CASES[c].has_rna and CASES[c].slide_ids}
    hidden = [pairs - with_rna(lesson(withhold_rna=share)) for share in (0.25, 0.5, 0.75)]
    assert hidden[0] < hidden[1] < hidden[2]
    for label in (0, 1):
        n = sum(CASES[c].label == label for c in pairs)
        counts = [sum(CASES[c].label == label for c in part) for part in hidden]
        assert counts == [round(share * n) for share in (0.25, 0.5, 0.75)]
    found = lesson(withhold_rna=0.5)
    assert found.train == tuple(sorted(FOLD.train)), "their slides still teach"
    assert {f"rna-{i}" for i in range(4)} <= with_rna(found), "RNA alone is never withheld"
    assert found.notes == (f"controls: RNA of {len(hidden[1])} training cases is withheld",)


def test_unpaired_training_cases_can_be_left_out() -> None:
    found = lesson(withhold_rna=0.5, drop_unpaired=True)
    assert set(found.train) == {c for c in with_rna(found) if CASES[c].slide_ids}
    assert f"{len(FOLD.train) - len(found.train)} of {len(FOLD.train)} training" in found.notes[1]


def test_the_same_call_gives_the_same_lesson() -> None:
    for rna in ("shuffled_within_class", "label"):
        np.testing.assert_array_equal(rows(lesson(rna=rna)), rows(lesson(rna=rna)))


class TestNames:
    """What ``--model`` understands."""

    def settings(self, **blocks: object) -> Settings:
        target = {"column": "t", "positive": ["1"], "negative": ["0"]}
        data = {"features": ["f"], "clinical": "c.csv", "target": target}
        return Settings(data=data | blocks.pop("data", {}), fit={"batch_size": 16}, **blocks)

    def labels(self, text: str | None, **kwargs: object) -> list[str]:
        controls = bool(kwargs.pop("controls", False))
        return [c.label for c in parse_models(text, self.settings(**kwargs), controls=controls)]

    def test_side_by_side(self) -> None:
        text = "momkd,momkd+shuffled,momkd:code+label,tdc+no_rna,rna_logistic,abmil"
        wanted = ["momkd", "momkd+shuffled", "momkd-code+label", "tdc+no_rna", "rna_logistic"]
        assert self.labels(text) == [*wanted, "abmil"]

    def test_the_block_sets_the_control_of_models_that_name_none(self) -> None:
        names = self.labels("momkd,momkd+true_pairs,abmil", controls=False)
        assert names == ["momkd", "abmil"]
        block = {"rna": "label"}
        settings = self.settings(controls=block)
        found = [c.label for c in parse_models("momkd,momkd+true_pairs,abmil", settings)]
        assert found == ["momkd+label", "momkd", "abmil"]
        assert [c.label for c in parse_models(None, settings)] == ["momkd+label"]

    def test_all_controls_at_once(self) -> None:
        found = self.labels("momkd,abmil", controls=True, data={"covariates": ["age"]})
        wanted = ["momkd", "abmil", "momkd+shuffled", "momkd+label", "momkd+no_rna"]
        assert found == [*wanted, "rna_logistic", "mean_logistic", "clinical_logistic"]
        assert self.labels("abmil", controls=True) == ["abmil", "mean_logistic"]

    def test_options_of_the_block_go_with_the_control(self) -> None:
        settings = self.settings(model={"name": "momkd", "n_slots": 4})
        (choice,) = parse_models("momkd+shuffled", settings)
        assert choice.resolved()["n_slots"] == 4

    @pytest.mark.parametrize(
        ("text", "needle"),
        [
            ("momkd+mixed", r"G17.*unknown control 'mixed'.*shuffled, label, no_rna"),
            ("abmil+label", r"G17.*abmil learns nothing from RNA"),
            ("rna_logistic+label", r"G17.*learns nothing"),
            ("rna_logistic:code", r"G06.*no presets"),
            ("nobody", "G05"),
        ],
    )
    def test_what_it_does_not(self, text: str, needle: str) -> None:
        with pytest.raises(ConfigError, match=needle):
            self.labels(text)
