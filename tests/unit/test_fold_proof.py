"""What a protocol's proof says is counted, and what it cannot promise it refuses."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from momkd.data.fold_proof import prove_folds
from momkd.data.folds import FoldOptions, make_folds
from momkd.data.site_labels import examine_sites, site_only_auroc
from momkd.errors import IntegrityError
from momkd.types import Fold
from momkd.workflows.protocol import keep_folds, make_protocol
from tests.sites import make_cohort

COUNTS = {"A": (12, 5), "B": (10, 6), "C": (8, 4), "D": (9, 4), "E": (7, 3), "F": (6, 4)}
COHORT = make_cohort(COUNTS, rna_only=["A", "G"])
OPTIONS = FoldOptions(n=3, val_fraction=0.15)


def statements(options: FoldOptions, cohort=COHORT) -> str:
    folds = make_folds(cohort, options, 0)
    return "\n".join(prove_folds(folds, cohort, options).statements)


def test_a_random_split_says_that_sites_cross() -> None:
    text = statements(OPTIONS)
    assert "each of 78 cases with a slide is tested exactly once a seed" in text
    assert "of 2 cases with RNA alone 2 train in a fold" in text
    assert "sites cross: of 6 sites on a test side 6 also train" in text


def test_a_site_preserved_split_says_that_they_do_not() -> None:
    text = statements(OPTIONS.model_copy(update={"site_preserved": True}))
    assert "no site stands on the test side of a fold and elsewhere in it" in text
    assert "AUROC 0.500 on these folds" in text


def test_sites_unknown() -> None:
    cohort = make_cohort({None: (20, 10)})
    folds = make_folds(cohort, OPTIONS, 0)
    proof = prove_folds(folds, cohort, OPTIONS)
    assert proof.sites is None
    assert any(s.startswith("sites are unknown") for s in proof.statements)


def test_the_digest_tells_folds_apart() -> None:
    digests = {
        prove_folds(make_folds(COHORT, OPTIONS, s), COHORT, OPTIONS).digest for s in (0, 0, 1)
    }
    assert len(digests) == 2


def test_balance_is_that_of_the_test_sides() -> None:
    cohort = make_cohort({"A": (8, 4)})
    ids = sorted(c.case_id for c in cohort.cases)
    no, yes = ids[:8], ids[8:]
    folds = [
        Fold(index=0, seed=0, train=tuple(no[2:] + yes[3:]), val=(), test=tuple(no[:2] + yes[:3])),
        Fold(index=1, seed=0, train=tuple(no[:2] + yes[:3]), val=(), test=tuple(no[2:] + yes[3:])),
    ]
    text = " ".join(prove_folds(folds, cohort, OPTIONS).statements)
    assert "25.0 to 75.0 % of no and 25.0 to 75.0 % of yes" in text
    assert "positives are 14.3 to 60.0 % of it (33.3 % of all)" in text


def test_a_file_on_two_sides_is_refused() -> None:
    folds = make_folds(COHORT, OPTIONS, 0)
    one, other = f"{folds[0].test[0]}.s", f"{folds[0].train[0]}.s"
    twin = replace(COHORT.slides[other], sha256=COHORT.slides[one].sha256)
    leaky = replace(COHORT, slides={**COHORT.slides, other: twin})
    with pytest.raises(IntegrityError, match=r"\[K12\] fold 0 \(seed 0\): the file of"):
        prove_folds(folds, leaky, OPTIONS)


def test_sites_that_cross_are_refused_where_they_must_not() -> None:
    folds = make_folds(COHORT, OPTIONS, 0)
    with pytest.raises(IntegrityError, match="K05"):
        prove_folds(folds, COHORT, OPTIONS.model_copy(update={"site_preserved": True}))


def test_the_statistic_is_pearsons() -> None:
    found = examine_sites(make_cohort({"A": (12, 5), "B": (3, 9), "C": (8, 4)}))
    assert found is not None
    wanted = chi2_contingency(np.array([[12, 5], [3, 9], [8, 4]]), correction=False)
    assert found.chi_square == pytest.approx(wanted.statistic)
    assert found.freedom == wanted.dof
    assert found.cramers_v == pytest.approx(math.sqrt(wanted.statistic / 41))
    # margins this large: permutation and theory agree
    assert found.p_value == pytest.approx(wanted.pvalue, abs=0.02)
    assert [row["site"] for row in found.rows] == ["A", "B", "C"]


def test_sites_that_predict_labels_are_a_warning_and_others_are_not() -> None:
    apart = examine_sites(make_cohort({"A": (20, 2), "B": (4, 18)}))
    alike = examine_sites(make_cohort({"A": (20, 10), "B": (20, 10)}))
    assert apart is not None
    assert apart.predicts
    assert apart.sentence().startswith("warning: sites predict labels")
    assert alike is not None
    assert alike.p_value == 1.0
    assert "beyond chance" in alike.sentence()


def test_one_site_or_one_class_has_no_test() -> None:
    assert examine_sites(make_cohort({"A": (20, 2)})) is None
    assert examine_sites(make_cohort({"A": (20, 0), "B": (5, 0)})) is None


def test_what_the_site_alone_is_worth() -> None:
    pure = make_cohort({"A": (20, 0), "B": (0, 20)})
    assert site_only_auroc(make_folds(pure, OPTIONS, 0), pure) == 1.0
    assert math.isnan(site_only_auroc([], pure))


def test_a_given_table_is_the_protocol_and_earlier_seeds_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    first = make_protocol(COHORT, OPTIONS, seeds=1)
    keep_folds(path, first, COHORT, OPTIONS)
    second = make_protocol(COHORT, OPTIONS.model_copy(update={"seed": 1}))
    keep_folds(path, second, COHORT, OPTIONS)
    given = make_protocol(COHORT, OPTIONS.model_copy(update={"file": path}))
    assert given.folds == (*first.folds, *second.folds)
    assert (
        given.proof.protocol == "3 folds given by folds.csv; 2 seeds; test cases scored once a seed"
    )


def test_a_subset_that_was_given_can_be_gone_on_with(tmp_path: Path) -> None:
    part = tmp_path / "given.csv"
    fold = make_protocol(COHORT, OPTIONS).folds[0]
    rows = [(c, side) for side in ("train", "val", "test") for c in getattr(fold, side)]
    part.write_text("fold,case_id,split\n" + "".join(f"0,{c},{s}\n" for c, s in rows))
    options = OPTIONS.model_copy(update={"file": part, "allow_subset": True})
    for _ in range(2):
        keep_folds(tmp_path / "folds.csv", make_protocol(COHORT, options), COHORT, options)
    text = " ".join(make_protocol(COHORT, options).proof.statements)
    assert "of 78 cases with a slide 52 a seed are never tested" in text
