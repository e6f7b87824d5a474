"""Bounds and baselines: covariates coded inside the fold, the penalty chosen on validation."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from momkd.data.covariates import fit_covariates, read_covariates
from momkd.errors import DataError, IntegrityError
from momkd.models.table import MODELS
from momkd.models.tabular import TABULAR, TabularOptions, fit_tabular
from momkd.types import Covariates


def read(folder: Path, text: str, *names: str, aliases: Mapping[str, str] | None = None):
    path = folder / "clinical.csv"
    path.write_text(text)
    return read_covariates(path, names, case_column=None, target_column="HER2", aliases=aliases)


class TestReading:
    """A clinical table's covariates, as stated."""

    def test_a_value_a_case(self, tmp_path: Path) -> None:
        text = "case_id,slide_id,HER2,Age,Stage\nA,a1,1,50,II\nA,a2,1,,II\nB,b1,0,NA,\n"
        found = read(tmp_path, text, "age", "Stage")
        assert found.names == ("age", "Stage")
        assert found.values == {"A": ("50", "II"), "B": ("", "")}

    def test_barcodes_are_cut_and_other_samples_left_out(self, tmp_path: Path) -> None:
        text = "case_id,HER2,age\nTCGA-A1-A0SB-01A,1,50\nTCGA-A1-A0SB-11A,1,99\n"
        assert read(tmp_path, text, "age").values == {"TCGA-A1-A0SB": ("50",)}

    def test_an_alias_fills_gaps(self, tmp_path: Path) -> None:
        text = "case_id,HER2,age,stage\nA,1,50,\nA2,1,,III\n"
        assert read(tmp_path, text, "age", "stage", aliases={"A2": "A"}).values == {
            "A": ("50", "III")
        }

    def test_two_values_of_a_case(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"\[L06\].*row 3.*case A has age '50' and '51'"):
            read(tmp_path, "case_id,HER2,age\nA,1,50\nA,1,51\n", "age")

    def test_absent_columns_and_the_label_itself(self, tmp_path: Path) -> None:
        with pytest.raises(DataError) as caught:
            read(tmp_path, "case_id,HER2,age\nA,1,50\n", "agee", "her2", "stag")
        assert [p.code for p in caught.value.problems] == ["L07", "L07", "L13"]
        assert "nearest: age" in caught.value.problems[0].remedy


COVARIATES = Covariates(
    names=("age", "stage"),
    values={
        "A": ("40", "I"),
        "B": ("60", "ii"),
        "C": ("", "II"),
        "D": ("50", ""),
        "E": ("x", "IV"),
    },
)


class TestCoding:
    """Numbers and words become columns, learnt from training cases alone."""

    def test_numbers_are_standardised_and_words_become_columns(self) -> None:
        coder = fit_covariates(COVARIATES, ["A", "B", "C", "D"])
        assert coder.names == ("age", "age unknown", "stage=i", "stage=ii", "stage unknown")
        x = coder.transform(COVARIATES, ["A", "B", "C", "D"])
        spread = np.std([40, 60, 50])
        np.testing.assert_allclose(x[:, 0], [-10 / spread, 10 / spread, 0, 0])
        assert x[:, 1].tolist() == [0, 0, 1, 0]
        assert x[:, 2:].tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]

    def test_what_training_has_not_seen(self) -> None:
        coder = fit_covariates(COVARIATES, ["A", "B", "D"])
        x = coder.transform(COVARIATES, ["E", "nobody"])
        assert coder.names == ("age", "stage=i", "stage=ii", "stage unknown")
        assert x.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]]

    def test_held_out_values_change_nothing(self) -> None:
        other = Covariates(names=COVARIATES.names, values={**COVARIATES.values, "E": ("1e6", "V")})
        train = ["A", "B", "C", "D"]
        assert fit_covariates(COVARIATES, train) == fit_covariates(other, train)

    def test_a_covariate_that_says_nothing(self) -> None:
        with pytest.raises(DataError, match=r"(?s)\[L15\].*'age' has 0 value.*'stage' has 1 value"):
            fit_covariates(COVARIATES, ["C"])

    def test_leakage_is_refused(self) -> None:
        coder = fit_covariates(COVARIATES, ["A", "B"])
        coder.require_disjoint(["C", "D"])
        with pytest.raises(IntegrityError, match=r"\[K07\].*1 held-out cases: B"):
            coder.require_disjoint(["B", "C"])


def test_the_penalty_is_what_validation_likes_best() -> None:
    rng = np.random.default_rng(0)
    x, x_val = rng.normal(size=(80, 40)), rng.normal(size=(400, 40))
    y, y_val = ((a[:, 0] + 0.5 * rng.normal(size=len(a)) > 0).astype(np.int64) for a in (x, x_val))

    def loss(grid: tuple[float, ...]) -> tuple[float, float]:
        model = fit_tabular(x, y, x_val, y_val, TabularOptions(grid=grid))
        logits = model.logits(x_val)
        p = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
        return model.strength, float(-np.mean(y_val * np.log(p) + (1 - y_val) * np.log(1 - p)))

    grid = (1e-4, 1e-2, 1.0, 100.0)
    each = {c: loss((c,))[1] for c in grid}
    strength, best = loss(grid)
    assert best == pytest.approx(min(each.values()))
    assert each[strength] == pytest.approx(best)
    assert len({round(v, 4) for v in each.values()}) == 4


def test_no_name_is_a_slide_model_and_a_baseline() -> None:
    assert not set(TABULAR) & set(MODELS)
