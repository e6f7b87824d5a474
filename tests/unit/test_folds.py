"""Splits hold by case, by class and by seed; tables made elsewhere are believed in nothing."""

from collections import Counter
from pathlib import Path

import pytest

from momkd.config import parse_options
from momkd.data.fold_proof import describe_folds
from momkd.data.folds import (
    FoldOptions,
    hold_out,
    make_folds,
    read_folds,
    require_no_twins,
    write_folds,
)
from momkd.errors import ConfigError, DataError, IntegrityError, MomkdError
from momkd.types import Case, Cohort, Fold, SlideFile

DIGEST = "d" * 64


def make_cohort(
    n_negative: int = 30, n_positive: int = 12, n_rna_only: int = 3, *, twin: bool = False
) -> Cohort:
    """Cases P000... (negatives first), every fifth with two slides, from three sites."""
    n_all = n_negative + n_positive
    cases = [
        Case(
            case_id=f"P{i:03d}",
            slide_ids=tuple(f"P{i:03d}-{k}" for k in range(2 if i % 5 == 0 else 1)),
            label=int(i >= n_negative),
            site="ABC"[i % 3],
            has_rna=i % 2 == 0,
        )
        for i in range(n_all)
    ]
    cases += [
        Case(case_id=f"R{i}", slide_ids=(), label=i % 2, has_rna=True) for i in range(n_rna_only)
    ]
    slides = {s: make_slide(s) for c in cases for s in c.slide_ids}
    if twin:
        slides["P001-0"] = make_slide("P001-0", sha256=slides["P000-1"].sha256)
    return Cohort(
        task="HER2", class_names=("negative", "positive"), cases=tuple(cases), slides=slides
    )


def make_slide(slide_id: str, sha256: str | None = None) -> SlideFile:
    path = Path(f"{slide_id}.h5")
    return SlideFile(slide_id=slide_id, path=path, sha256=sha256 or slide_id, n_tiles=3, dim=4)


def write_table(path: Path, rows: list[tuple], columns: str = "seed,fold,case_id,split") -> Path:
    lines = [columns, *(",".join(str(v) for v in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def rows_of(folds: tuple[Fold, ...]) -> list[tuple]:
    return [
        (f.seed, f.index, case_id, side)
        for f in folds
        for side in ("train", "val", "test")
        for case_id in getattr(f, side)
    ]


def codes(error: MomkdError) -> set[str]:
    return {p.code for p in error.problems}


def test_seven_one_two() -> None:
    cohort = make_cohort(80, 20, 5)
    for fold in make_folds(cohort, FoldOptions(), seed=3):
        assert (len(fold.train), len(fold.val), len(fold.test)) == (75, 10, 20)
        positives = [sum(int(c[1:]) >= 80 for c in side) for side in (fold.val, fold.test)]
        assert positives == [2, 4]
        assert {c for c in fold.train if c.startswith("R")} == {f"R{i}" for i in range(5)}


def test_validation_goes_to_the_class_with_the_larger_remainder() -> None:
    # a tenth of 84 and 16 is 8.4 and 1.6: ten cases, eight and two
    for fold in make_folds(make_cohort(84, 16, 0), FoldOptions(), seed=0):
        assert [sum((int(c[1:]) >= 84) == y for c in fold.val) for y in (0, 1)] == [8, 2]


def test_every_case_with_a_slide_is_tested_once() -> None:
    cohort = make_cohort()
    tested = Counter(c for f in make_folds(cohort, FoldOptions(), seed=0) for c in f.test)
    assert tested == Counter(c.case_id for c in cohort.cases if c.slide_ids)


def test_row_order_plays_no_part_and_the_seed_does() -> None:
    cohort = make_cohort()
    turned = Cohort(
        task=cohort.task,
        class_names=cohort.class_names,
        cases=cohort.cases[::-1],
        slides=dict(reversed(cohort.slides.items())),
    )
    assert make_folds(cohort, FoldOptions(), 0) == make_folds(turned, FoldOptions(), 0)
    tests = {f.test for seed in (0, 1) for f in make_folds(cohort, FoldOptions(), seed)}
    assert len(tests) == 10


def test_a_split_stays_what_it_was() -> None:
    # results in the world refer to these splits: a change here is a change of every number
    fold = make_folds(make_cohort(8, 6, 0), FoldOptions(n=3), seed=0)[0]
    assert fold.val == ("P000", "P011")
    assert fold.test == ("P001", "P002", "P006", "P008", "P013")


def test_too_few_cases_of_a_class_name_the_largest_possible() -> None:
    with pytest.raises(DataError, match=r"\[K03\].*positive has 4 .*folds.n: 4 at most"):
        make_folds(make_cohort(30, 4), FoldOptions(n=5), 0)
    assert len(make_folds(make_cohort(30, 4), FoldOptions(n=4), 0)) == 4


def test_cases_with_rna_only_do_not_count_for_a_class() -> None:
    with pytest.raises(DataError, match=r"\[K03\].*positive has 0 "):
        make_folds(make_cohort(30, 0, n_rna_only=20), FoldOptions(n=5), 0)


def test_too_few_to_stand_on_three_sides() -> None:
    # two positives: one is tested, and the other cannot both teach and decide
    with pytest.raises(DataError, match=r"\[K04\].*add cases"):
        make_folds(make_cohort(30, 2), FoldOptions(n=2), 0)
    with pytest.raises(DataError, match=r"\[K04\].*folds.n: 3 at most"):
        make_folds(make_cohort(30, 3), FoldOptions(n=2), 0)


def test_hold_out_tests_nobody() -> None:
    cohort = make_cohort(80, 20, 5)
    fold = hold_out(cohort, FoldOptions(), seed=1)
    assert fold.test == ()
    assert (len(fold.train), len(fold.val)) == (95, 10)
    assert sum(int(c[1:]) >= 80 for c in fold.val) == 2
    with pytest.raises(DataError, match="K04"):
        hold_out(make_cohort(30, 1), FoldOptions(), seed=1)


def test_one_file_under_two_cases_is_refused_at_every_door(tmp_path: Path) -> None:
    twin = make_cohort(twin=True)
    path = write_table(tmp_path / "folds.csv", rows_of(make_folds(make_cohort(), FoldOptions(), 0)))
    for split in (
        lambda: require_no_twins(twin),
        lambda: make_folds(twin, FoldOptions(), 0),
        lambda: hold_out(twin, FoldOptions(), 0),
        lambda: read_folds(path, twin, cohort_digest=DIGEST),
    ):
        with pytest.raises(IntegrityError, match=r"\[K12\] P001-0: case P001 and P000-1 of case"):
            split()


def test_one_file_twice_under_one_case_is_no_leak() -> None:
    cohort = make_cohort()
    slides = dict(cohort.slides) | {"P000-1": make_slide("P000-1", sha256="P000-0")}
    doubled = Cohort(task="HER2", class_names=cohort.class_names, cases=cohort.cases, slides=slides)
    require_no_twins(doubled)


def test_counts_of_the_sides() -> None:
    cohort = make_cohort(n_rna_only=2)
    all_but_four = tuple(c.case_id for c in cohort.cases if c.case_id not in ("P000", "P040"))
    fold = Fold(
        index=0, seed=7, train=all_but_four[2:], val=all_but_four[:2], test=("P000", "P040")
    )
    train, val, test = describe_folds([fold], cohort)
    assert test["largest"] == "A:1 B:1"
    assert len({test.pop(k) for k in ("digest", "largest")}) == 2
    assert test == {
        "seed": 7, "fold": 0, "side": "test", "cases": 2, "slides": 4, "positives": 1, "rna": 2,
        "sites": 2, "sites_in_train": 2,
    }  # fmt: skip
    assert (val["side"], val["cases"], val["slides"], val["positives"]) == ("val", 2, 2, 0)
    assert (train["cases"], train["positives"], train["rna"]) == (40, 12, 20)
    assert train["sites"] == 3


def test_sites_that_training_never_saw_are_counted() -> None:
    cases = [
        Case(case_id=f"P{i}", slide_ids=(f"S{i}",), label=i % 2, site=site)
        for i, site in enumerate(["A", "A", "A", "B", "C", None])
    ]
    slides = {f"S{i}": make_slide(f"S{i}") for i in range(6)}
    cohort = Cohort(task="t", class_names=("no", "yes"), cases=tuple(cases), slides=slides)
    fold = Fold(index=0, seed=0, train=("P0", "P1"), val=("P2",), test=("P3", "P4", "P5"))
    test = describe_folds([fold], cohort)[2]
    assert (test["sites"], test["sites_in_train"]) == (2, 0)


@pytest.mark.parametrize("content", [{"n": 1}, {"val_fraction": 0.5}, {"val_fraction": 0}])
def test_impossible_options_are_refused(content: dict) -> None:
    with pytest.raises(ConfigError, match="G04"):
        parse_options(FoldOptions, content, "momkd.yaml")


class TestReading:
    """Tables of splits."""

    cohort = make_cohort()
    folds = (*make_folds(cohort, FoldOptions(), 0), *make_folds(cohort, FoldOptions(), 1))

    def read(self, path: Path, *, allow_subset: bool = False) -> tuple[Fold, ...]:
        return read_folds(path, self.cohort, cohort_digest=DIGEST, allow_subset=allow_subset)

    def test_what_was_written_comes_back(self, tmp_path: Path) -> None:
        path = tmp_path / "folds.csv"
        write_folds(path, self.folds, DIGEST)
        assert path.read_text().startswith("seed,fold,case_id,split,cohort\n0,0,")
        assert self.read(path) == self.folds

    def test_a_table_without_seed_digest_and_rna_only_cases(self, tmp_path: Path) -> None:
        rows = [(f, c, s) for seed, f, c, s in rows_of(self.folds) if seed == 0 and c[0] != "R"]
        path = write_table(tmp_path / "other.csv", rows, "fold,case_id,split")
        assert self.read(path) == self.folds[:5]

    def test_another_cohort(self, tmp_path: Path) -> None:
        path = tmp_path / "folds.csv"
        write_folds(path, self.folds, "e" * 64)
        with pytest.raises(IntegrityError, match=r"\[K10\].*eeeeeeeeeeee, now dddddddddddd"):
            self.read(path)
        assert self.read(path, allow_subset=True) == self.folds

    def test_a_case_on_two_sides(self, tmp_path: Path) -> None:
        rows = rows_of(self.folds[:5])
        leaked = self.folds[0].test[0]
        path = write_table(tmp_path / "folds.csv", [*rows, (0, 0, leaked, "train")])
        for allow_subset in (False, True):
            with pytest.raises(IntegrityError) as caught:
                self.read(path, allow_subset=allow_subset)
            (problem,) = caught.value.problems
            assert (problem.code, problem.row) == ("K01", len(rows) + 2)
            assert (
                f"case {leaked} stands on two sides of fold 0 (seed 0): test (row" in problem.what
            )

    def test_a_case_tested_twice(self, tmp_path: Path) -> None:
        case_id = self.folds[0].test[0]
        rows = [r for r in rows_of(self.folds[:5]) if r[1:3] != (1, case_id)]
        path = write_table(tmp_path / "folds.csv", [*rows, (0, 1, case_id, "test")])
        for allow_subset in (False, True):
            with pytest.raises(DataError, match=rf"\[K02\].*{case_id} is tested in folds 0, 1"):
                self.read(path, allow_subset=allow_subset)

    def test_a_case_never_tested(self, tmp_path: Path) -> None:
        path = write_table(tmp_path / "folds.csv", rows_of(self.folds[:1]))
        with pytest.raises(DataError) as caught:
            self.read(path)
        assert codes(caught.value) == {"K02"}
        n_tested = len(self.folds[0].test)
        assert len(caught.value.problems) == 42 - n_tested
        assert self.read(path, allow_subset=True) == self.folds[:1]

    def test_unknown_and_missing_cases_are_all_named(self, tmp_path: Path) -> None:
        rows = [r for r in rows_of(self.folds[:5]) if r[2] != "P007" and r[1:3] != (2, "P008")]
        rows += [(0, f, "GHOST", "train") for f in range(5)]
        path = write_table(tmp_path / "folds.csv", rows)
        with pytest.raises(DataError) as caught:
            self.read(path)
        whats = [p.what for p in caught.value.problems if p.code == "K09"]
        assert whats[0] == "case GHOST is not in the cohort"
        assert whats[1].startswith("misses case P007 in fold 0 (seed 0), 1 (seed 0)")
        assert whats[2] == "misses case P008 in fold 2 (seed 0)"
        kept = self.read(path, allow_subset=True)
        assert not any(c in ("GHOST", "P007") for f in kept for c in (*f.train, *f.val, *f.test))

    def test_a_case_without_slide_is_never_held_out(self, tmp_path: Path) -> None:
        rows = [r for r in rows_of(self.folds[:5]) if r[1:3] != (0, "R1")]
        path = write_table(tmp_path / "folds.csv", [*rows, (0, 0, "R1", "test")])
        with pytest.raises(DataError, match=r"\[K09\].*case R1 has no slide to score"):
            self.read(path)
        assert "R1" in self.read(path, allow_subset=True)[0].train

    def test_a_side_with_one_class(self, tmp_path: Path) -> None:
        fold = self.folds[0]
        rows = [
            (s, f, c, "train" if f == 0 and side == "val" and int(c[1:]) >= 30 else side)
            for s, f, c, side in rows_of(self.folds[:5])
        ]
        path = write_table(tmp_path / "folds.csv", rows)
        n_negative = sum(int(c[1:]) < 30 for c in fold.val)
        wanted = rf"\[K04\].*val of fold 0 \(seed 0\) holds {n_negative} negative, 0 positive"
        with pytest.raises(DataError, match=wanted):
            self.read(path)

    def slide_rows(self) -> list[tuple]:
        slides = {c.case_id: c.slide_ids for c in self.cohort.cases}
        return [(s, f, x, side) for s, f, c, side in rows_of(self.folds[:5]) for x in slides[c]]

    def test_a_table_of_slides(self, tmp_path: Path) -> None:
        columns = "seed,fold,slide_id,split"
        path = write_table(tmp_path / "slides.csv", self.slide_rows(), columns)
        assert self.read(path) == self.folds[:5]

    def test_slides_of_one_case_on_two_sides(self, tmp_path: Path) -> None:
        other = "train" if "P000" in self.folds[0].test else "test"
        rows = [
            (s, f, x, other if (f, x) == (0, "P000-1") else side)
            for s, f, x, side in self.slide_rows()
        ]
        path = write_table(tmp_path / "slides.csv", rows, "seed,fold,slide_id,split")
        with pytest.raises(IntegrityError, match=r"\[K11\].*case P000 stands on two sides"):
            self.read(path)

    def test_an_unknown_slide(self, tmp_path: Path) -> None:
        rows = [*self.slide_rows(), (0, 0, "GHOST-0", "train")]
        path = write_table(tmp_path / "slides.csv", rows, "seed,fold,slide_id,split")
        with pytest.raises(DataError, match=r"\[K09\].*slide GHOST-0 is not in the cohort"):
            self.read(path)

    def test_bad_cells_are_named_together(self, tmp_path: Path) -> None:
        rows = [(0, 0, "P000", "training"), (0, "one", "P001", "val"), ("x", 0, "", "test")]
        with pytest.raises(DataError) as caught:
            self.read(write_table(tmp_path / "folds.csv", rows))
        found = [(p.code, p.row, p.column, p.value) for p in caught.value.problems]
        assert found == [
            ("K13", 2, "split", "training"),
            ("K13", 3, "fold", "one"),
            ("K13", 4, "case_id", ""),
            ("K13", 4, "seed", "x"),
        ]

    @pytest.mark.parametrize(
        "text", ["", "fold,split\n0,train\n", "fold,case_id,split\n", "train,x,test\na,b,c\n"]
    )
    def test_not_such_a_table(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "folds.csv"
        path.write_text(text)
        with pytest.raises(DataError, match=r"\[K13\].*wanted rows of fold, split and case_id"):
            self.read(path)

    def test_no_such_file_and_no_text(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"\[K13\].*cannot be read"):
            self.read(tmp_path / "absent.csv")
        (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x00")
        with pytest.raises(DataError, match=r"\[K13\].*cannot be read"):
            self.read(tmp_path / "binary.csv")

    def test_byte_order_mark_and_spaces(self, tmp_path: Path) -> None:
        rows = [(s, f, f" {c}", f"{side} ") for s, f, c, side in rows_of(self.folds)]
        path = write_table(tmp_path / "folds.csv", rows)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert self.read(path) == self.folds
