"""Whatever the cohort, seed and number of folds: no case on two sides, every class on each."""

import random
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from momkd.data.folds import FoldOptions, hold_out, make_folds
from momkd.types import Case, Cohort, Fold, SlideFile


class Recipe(NamedTuple):
    """What a cohort is made from; the cohort itself is made in the test."""

    counts: list[int]
    n_rna_only: int
    n: int
    val_fraction: float


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    n = draw(st.integers(2, 7))
    least = max(n, 3) if n > 2 else 4
    counts = draw(st.lists(st.integers(least, 40), min_size=2, max_size=3))
    return Recipe(counts, draw(st.integers(0, 5)), n, draw(st.floats(0.02, 0.4)))


def make(recipe: Recipe) -> tuple[Cohort, FoldOptions]:
    cases = [
        Case(case_id=f"c{label}-{i}", slide_ids=(f"s{label}-{i}",), label=label)
        for label, count in enumerate(recipe.counts)
        for i in range(count)
    ]
    cases += [
        Case(case_id=f"r{i}", slide_ids=(), label=0, has_rna=True) for i in range(recipe.n_rna_only)
    ]
    slides = {
        s: SlideFile(slide_id=s, path=Path(s), sha256=s, n_tiles=1, dim=1)
        for c in cases
        for s in c.slide_ids
    }
    names = tuple(f"class{label}" for label in range(len(recipe.counts)))
    cohort = Cohort(task="t", class_names=names, cases=tuple(cases), slides=slides)
    return cohort, FoldOptions(n=recipe.n, val_fraction=recipe.val_fraction)


def per_class(cohort: Cohort, members: tuple[str, ...]) -> list[int]:
    labels = Counter(cohort.case(c).label for c in members if cohort.case(c).slide_ids)
    return [labels[g] for g in range(len(cohort.class_names))]


def check_sides(cohort: Cohort, options: FoldOptions, fold: Fold) -> None:
    everyone = Counter([*fold.train, *fold.val, *fold.test])
    assert everyone == Counter(c.case_id for c in cohort.cases)
    assert {c.case_id for c in cohort.cases if not c.slide_ids} <= set(fold.train)
    total = per_class(cohort, tuple(c.case_id for c in cohort.cases))
    validated, tested = per_class(cohort, fold.val), per_class(cohort, fold.test)
    assert min(validated) >= 1
    assert min(per_class(cohort, fold.train)) >= 1
    for n_all, n_val, n_test in zip(total, validated, tested, strict=True):
        # one case at most from the exact share, as far as a case is left to train
        exact = min(options.val_fraction * n_all, n_all - n_test - 1)
        assert abs(n_val - exact) <= 1


@settings(max_examples=60, deadline=None)
@given(recipes(), st.integers(0, 2**63))
def test_folds(recipe: Recipe, seed: int) -> None:
    cohort, options = make(recipe)
    folds = make_folds(cohort, options, seed)
    tested = Counter(c for f in folds for c in f.test)
    assert tested == Counter(c.case_id for c in cohort.cases if c.slide_ids)
    sizes = [len(f.test) for f in folds]
    assert max(sizes) - min(sizes) <= 1
    counts = [per_class(cohort, f.test) for f in folds]
    for column in zip(*counts, strict=True):
        assert min(column) >= 1
        assert max(column) - min(column) <= 1
    for fold in folds:
        check_sides(cohort, options, fold)


@settings(max_examples=30, deadline=None)
@given(recipes(), st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_row_order_plays_no_part(recipe: Recipe, seed: int, rng: random.Random) -> None:
    cohort, options = make(recipe)
    cases = list(cohort.cases)
    rng.shuffle(cases)
    shuffled = Cohort(
        task="t", class_names=cohort.class_names, cases=tuple(cases), slides=cohort.slides
    )
    assert make_folds(shuffled, options, seed) == make_folds(cohort, options, seed)


@settings(max_examples=30, deadline=None)
@given(recipes(), st.integers(0, 2**32))
def test_hold_out(recipe: Recipe, seed: int) -> None:
    cohort, options = make(recipe)
    fold = hold_out(cohort, options, seed)
    assert fold.test == ()
    check_sides(cohort, options, fold)
