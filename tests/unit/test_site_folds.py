"""Folds that keep sites together, and what is refused where they cannot."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from momkd.data.fold_proof import prove_folds
from momkd.data.folds import FoldOptions, hold_out, make_folds, make_splits, read_folds, write_folds
from momkd.errors import DataError, IntegrityError
from momkd.types import Case, Cohort, Fold, SlideFile
from tests.sites import make_cohort

COUNTS = {"A": (12, 5), "B": (10, 6), "C": (8, 4), "D": (9, 4), "E": (7, 3), "F": (6, 4)}
SITES = FoldOptions(n=3, site_preserved=True, val_fraction=0.15)
DIGEST = "d" * 64


def sites(cohort: Cohort, members: tuple[str, ...]) -> set[str | None]:
    return {cohort.case(c).site for c in members}


def test_no_site_is_tested_and_taught() -> None:
    cohort = make_cohort(COUNTS)
    folds = make_folds(cohort, SITES, seed=0)
    assert sorted(c for f in folds for c in f.test) == sorted(c.case_id for c in cohort.cases)
    for fold in folds:
        apart = [sites(cohort, getattr(fold, side)) for side in ("train", "val", "test")]
        assert sum(map(len, apart)) == len(set().union(*apart)) == 6


def test_seeds_differ_and_the_order_of_rows_plays_no_part() -> None:
    cohort = make_cohort({f"S{i:02d}": (4, 2) for i in range(12)})
    turned = replace(cohort, cases=cohort.cases[::-1])
    assert make_folds(cohort, SITES, 3) == make_folds(turned, SITES, 3)
    splits = {tuple(sorted(f.test for f in make_folds(cohort, SITES, s))) for s in range(4)}
    assert len(splits) > 1


def test_validation_goes_by_case_where_no_sites_will_do() -> None:
    # two sites train beside each tested one: either is far more than a tenth
    cohort = make_cohort({"A": (20, 10), "B": (20, 10), "C": (20, 10)})
    options = FoldOptions(n=3, site_preserved=True, val_fraction=0.05)
    for fold in make_folds(cohort, options, 0):
        assert len(fold.val) == 4
        assert len(sites(cohort, fold.test)) == 1
        assert not sites(cohort, fold.test) & sites(cohort, (*fold.val, *fold.train))
    text = " ".join(prove_folds(make_folds(cohort, options, 0), cohort, options).statements)
    assert "apart from training too in 0 of 3 folds" in text


def test_rna_alone_does_not_train_where_its_site_is_held_out() -> None:
    cohort = make_cohort(COUNTS, rna_only=["A", "B", "elsewhere"])
    for fold in make_folds(cohort, SITES, seed=1):
        held_out = sites(cohort, (*fold.val, *fold.test))
        for case_id, site in (("rna-0", "A"), ("rna-1", "B"), ("rna-2", "elsewhere")):
            assert (case_id in fold.train) == (site not in held_out)
            assert case_id not in (*fold.val, *fold.test)


def test_final_training_holds_out_whole_sites() -> None:
    cohort = make_cohort(COUNTS)
    fold = hold_out(cohort, SITES, seed=0)
    assert fold.test == ()
    assert not sites(cohort, fold.val) & sites(cohort, fold.train)


def test_a_site_too_large_names_sizes_and_the_largest_n() -> None:
    cohort = make_cohort(COUNTS | {"A": (40, 20)})
    with pytest.raises(
        DataError, match=r"\[K06\].*holds 60 of 121.*A 60, B 16.*folds.n: 2 at most"
    ):
        make_folds(cohort, FoldOptions(n=3, site_preserved=True), 0)


def test_a_class_at_too_few_sites() -> None:
    cohort = make_cohort({"A": (9, 8), "B": (12, 6), "C": (14, 0), "D": (13, 0), "E": (12, 0)})
    with pytest.raises(DataError, match=r"\[K06\].*every class by whole sites \(no at 5, yes at 2"):
        make_folds(cohort, FoldOptions(n=3, site_preserved=True), 0)


def test_unknown_sites_are_refused() -> None:
    cohort = make_cohort(COUNTS | {None: (1, 1)})
    with pytest.raises(DataError, match=r"\[K14\].*2 cases have no site.*data.columns.site"):
        make_folds(cohort, SITES, 0)


SIZES = {"big": (20, 9), "mid": (14, 6), "tiny": (3, 2), "small": (4, 3), "pure": (25, 1)}


class TestLeaveOneSiteOut:
    """Each large site alone, the others together."""

    options = FoldOptions(scheme="leave_one_site_out", val_fraction=0.15)

    def test_large_sites_alone_the_rest_together(self) -> None:
        cohort = make_cohort(SIZES)
        splits = make_splits(cohort, self.options, 0)
        tested = [sites(cohort, f.test) for f in splits.folds]
        # a site with one positive case cannot be tested alone
        assert tested == [{"big"}, {"mid"}, {"pure", "tiny", "small"}]
        assert splits.notes == ("folds test, in their order: big, mid, other sites",)
        for fold in splits.folds:
            assert not sites(cohort, fold.test) & sites(cohort, (*fold.train, *fold.val))

    def test_small_sites_can_be_refused(self) -> None:
        options = self.options.model_copy(update={"small_sites": "refuse"})
        with pytest.raises(DataError, match=r"\[K06\].*3 of 5 sites.*pure \[25, 1\]"):
            make_folds(make_cohort(SIZES), options, 0)

    def test_a_rest_of_one_class(self) -> None:
        cohort = make_cohort({"big": (20, 9), "mid": (14, 6), "tiny": (3, 0)})
        with pytest.raises(DataError, match=r"\[K06\].*hold together 3 no, 0 yes"):
            make_folds(cohort, self.options, 0)

    def test_nothing_to_leave_out(self) -> None:
        cohort = make_cohort({"big": (30, 9)})
        with pytest.raises(DataError, match=r"\[K06\].*1 of 1 sites.*too few to leave one out"):
            make_folds(cohort, self.options, 0)


class TestGiven:
    """Tables made elsewhere, held to the same promise."""

    cohort = make_cohort(COUNTS, rna_only=["A"])

    def read(self, path: Path, *, site_preserved: bool) -> tuple[Fold, ...]:
        return read_folds(path, self.cohort, cohort_digest=DIGEST, site_preserved=site_preserved)

    def test_what_was_written_comes_back(self, tmp_path: Path) -> None:
        folds = make_folds(self.cohort, SITES, 0)
        write_folds(tmp_path / "folds.csv", folds, DIGEST)
        assert self.read(tmp_path / "folds.csv", site_preserved=True) == folds

    def test_a_site_that_crosses(self, tmp_path: Path) -> None:
        folds = make_folds(self.cohort, FoldOptions(n=3), 0)
        write_folds(tmp_path / "folds.csv", folds, DIGEST)
        with pytest.raises(IntegrityError) as caught:
            self.read(tmp_path / "folds.csv", site_preserved=True)
        assert [p.code for p in caught.value.problems] == ["K05"] * 3
        assert "stand in training and test of fold 0 (seed 0): A (" in caught.value.problems[0].what
        assert self.read(tmp_path / "folds.csv", site_preserved=False) == folds


@pytest.mark.parametrize("task", ["HER2", "PR", "ER", "ODX85"])
def test_the_real_cohort(shared_data: Path, task: str) -> None:
    """35 sites, five folds: no shared site, class shares within 2 points of what is possible."""
    cohort = real_cohort(shared_data / "tcga-brca" / "clinical.csv", task)
    options = FoldOptions(site_preserved=True)
    splits = make_splits(cohort, options, seed=0)
    assert not splits.notes, "the solver did not prove its split"
    total = [sum(c.label == g for c in cohort.cases) for g in (0, 1)]
    for fold in splits.folds:
        for g in (0, 1):
            share = sum(cohort.case(c).label == g for c in fold.test) / total[g]
            assert abs(share - 0.2) < 0.02
        apart = [sites(cohort, getattr(fold, side)) for side in ("train", "val", "test")]
        assert sum(map(len, apart)) == len(set().union(*apart))


def real_cohort(path: Path, task: str) -> Cohort:
    """Cases of the real table that have a slide and a label, without their files."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if r[task] and r["has_features"] == "1"]
    cases = tuple(
        Case(
            case_id=r["case_id"],
            slide_ids=(r["case_id"],),
            label=int(float(r[task])),
            site=r["site"],
        )
        for r in rows
    )
    slides = {
        c.case_id: SlideFile(
            slide_id=c.case_id, path=Path(c.case_id), sha256=c.case_id, n_tiles=4, dim=77
        )
        for c in cases
    }
    return Cohort(task=task, class_names=("negative", "positive"), cases=cases, slides=slides)
