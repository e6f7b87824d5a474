"""Whatever the sites: they stay together, every case is tested once, or the split is refused."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from momkd.data.fold_proof import prove_folds
from momkd.data.folds import FoldOptions, make_folds
from momkd.errors import DataError
from tests.sites import make_cohort

counts = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 7)).filter(any), min_size=1, max_size=9
)
options = st.builds(
    FoldOptions,
    scheme=st.sampled_from(["k_fold", "leave_one_site_out"]),
    n=st.integers(2, 4),
    val_fraction=st.floats(0.05, 0.3),
    site_preserved=st.just(True),
    min_site_cases=st.integers(2, 15),
)


@settings(max_examples=60, deadline=None)
@given(counts, st.lists(st.integers(0, 9), max_size=4), options, st.integers(0, 2**32))
def test_sites_stay_together(counts, rna_sites, options: FoldOptions, seed: int) -> None:
    cohort = make_cohort(
        {f"S{i}": pair for i, pair in enumerate(counts)}, [f"S{i}" for i in rna_sites]
    )
    site = {c.case_id: c.site for c in cohort.cases}
    label = {c.case_id: c.label for c in cohort.cases if c.slide_ids}
    try:
        folds = make_folds(cohort, options, seed)
    except DataError as error:
        refused = {p.code for p in error.problems}
        folds = ()
    if not folds:
        assert refused <= {"K03", "K04", "K06"}
        return
    prove_folds(folds, cohort, options)
    tested = Counter(c for f in folds for c in f.test)
    assert tested == Counter(c.case_id for c in cohort.cases if c.slide_ids)
    for fold in folds:
        held_out = {site[c] for c in fold.test}
        assert not held_out & {site[c] for c in (*fold.train, *fold.val)}
        for side in (fold.train, fold.val, fold.test):
            assert {label[c] for c in side if c in label} == {0, 1}
