"""A panel knows its training cases only, is bounded, exact on disk, and refuses to leak."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jaxtyping import Float
from sklearn.feature_selection import f_classif

from momkd.data.panel import Panel, PanelOptions, fit_panel
from momkd.errors import ConfigError, DataError, IntegrityError
from momkd.types import Case, Expression

SELECTORS = ("anova", "mutual_information", "variance", "xgboost", "all")
LABEL_USING = ("anova", "mutual_information", "xgboost")


def make_table(
    n_cases: int = 60, n_genes: int = 40, seed: int = 0
) -> tuple[Expression, tuple[Case, ...]]:
    """Standard normal values; the first five genes move with the label, ever less."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n_cases) % 3 == 0).astype(int)
    values = rng.normal(size=(n_cases, n_genes))
    values[:, :5] += labels[:, None] * np.array([3.0, 2.5, 2.0, 1.5, 1.0])
    return table_of(values), cases_of(labels)


def table_of(values: Float[np.ndarray, "n_cases n_genes"]) -> Expression:
    n_cases, n_genes = values.shape
    return Expression(
        case_ids=tuple(f"P{i:03d}" for i in range(n_cases)),
        genes=tuple(f"G{j:03d}" for j in range(n_genes)),
        values=values.astype(np.float32),
    )


def cases_of(labels: Sequence[int]) -> tuple[Case, ...]:
    return tuple(
        Case(case_id=f"P{i:03d}", slide_ids=(), label=int(y), has_rna=True)
        for i, y in enumerate(labels)
    )


def options(selector: str = "anova", n_genes: int = 10, winsor: float = 0.01) -> PanelOptions:
    return PanelOptions.model_validate({"selector": selector, "n_genes": n_genes, "winsor": winsor})


@pytest.mark.parametrize("selector", LABEL_USING)
def test_genes_that_follow_the_label_come_first(selector: str) -> None:
    expression, cases = make_table(n_cases=120)
    panel = fit_panel(expression, cases, options(selector, n_genes=3), seed=0)
    assert set(panel.genes) == {"G000", "G001", "G002"}
    assert panel.n_asked == 3
    assert panel.notes == []


@pytest.mark.parametrize("selector", SELECTORS)
def test_nobody_outside_training_has_a_part(selector: str) -> None:
    expression, cases = make_table()
    train, rest = cases[:40], cases[40:]
    panel = fit_panel(expression, train, options(selector), seed=1)
    noise = np.random.default_rng(9)
    values = expression.values.copy()
    values[40:] = noise.normal(scale=1e6, size=values[40:].shape)
    flipped = [Case(case_id=c.case_id, slide_ids=(), label=1 - c.label, has_rna=True) for c in rest]
    spoilt = [c for c in (*train, *flipped) if c.case_id in {t.case_id for t in train}]
    again = fit_panel(table_of(values), spoilt, options(selector), seed=1)
    assert again.to_json() == panel.to_json()
    # and the comparison can tell: one training value moves the panel
    values[0] += 1.0
    assert fit_panel(table_of(values), train, options(selector), 1).to_json() != panel.to_json()


@pytest.mark.parametrize("selector", LABEL_USING)
def test_labels_of_training_cases_do_matter(selector: str) -> None:
    expression, cases = make_table()
    turned = cases_of([int(i % 2 == 0) for i in range(60)])
    panels = [fit_panel(expression, c, options(selector, 3), seed=1) for c in (cases, turned)]
    assert panels[0].genes != panels[1].genes


@pytest.mark.parametrize("selector", SELECTORS)
def test_order_of_rows_columns_and_cases_plays_no_part(selector: str) -> None:
    expression, cases = make_table()
    rng = np.random.default_rng(3)
    rows, columns = rng.permutation(60), rng.permutation(40)
    shuffled = Expression(
        case_ids=tuple(expression.case_ids[i] for i in rows),
        genes=tuple(expression.genes[j] for j in columns),
        values=expression.values[rows][:, columns],
    )
    panel = fit_panel(expression, cases, options(selector), seed=0)
    again = fit_panel(shuffled, cases[::-1], options(selector), seed=0)
    assert again.to_json() == panel.to_json()
    z = panel.transform(expression, ["P003", "P001"])
    assert np.array_equal(panel.transform(shuffled, ["P003", "P001"]), z)


def test_equal_scores_stand_in_order_of_names() -> None:
    expression, cases = make_table()
    values = np.repeat(expression.values[:, :1], 6, axis=1)
    panel = fit_panel(table_of(values), cases, options(n_genes=4), seed=0)
    assert panel.genes == ("G000", "G001", "G002", "G003")


def test_anova_ranks_as_scikit_learn_does_on_winsorised_values() -> None:
    expression, cases = make_table()
    panel = fit_panel(expression, cases, options(n_genes=40, winsor=0.05), seed=0)
    low, high = np.quantile(expression.values.astype(float), [0.05, 0.95], axis=0)
    scores = f_classif(np.clip(expression.values, low, high), [c.label for c in cases])[0]
    wanted = [expression.genes[j] for j in np.argsort(-scores, kind="stable")]
    assert list(panel.genes) == wanted


def test_variance_is_that_of_winsorised_raw_values() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 3)) * [1.0, 2.0, 3.0]
    values[0, 0] = 1e4
    panel = fit_panel(table_of(values), cases_of([0] * 200), options("variance", 3), seed=0)
    assert panel.genes == ("G002", "G001", "G000")


def test_training_values_are_standard_after_transform() -> None:
    expression, cases = make_table(n_cases=200)
    panel = fit_panel(expression, cases, options("all"), seed=0)
    z = panel.transform(expression, expression.case_ids)
    assert z.dtype == np.float32
    assert np.abs(z.mean(axis=0)).max() < 1e-6
    assert np.abs(z.std(axis=0) - 1).max() < 1e-6


def test_values_beyond_fifty_stay_bounded() -> None:
    expression, cases = make_table(n_cases=200)
    values = expression.values.copy()
    values[0, 0], values[1, 0] = 80.0, -60.0
    panel = fit_panel(table_of(values), cases, options("all"), seed=0)
    values[2] = 1e30
    values[3] = -1e30
    z = panel.transform(table_of(values), expression.case_ids)
    assert np.isfinite(z).all()
    assert np.abs(z).max() < 4
    at = panel.genes.index("G000")
    assert z[2, at] == z[0, at] == z[:, at].max()
    assert z[3, at] == z[1, at] == z[:, at].min()


@pytest.mark.parametrize("selector", SELECTORS)
def test_genes_that_do_not_vary_are_dropped_with_a_reason(selector: str) -> None:
    expression, cases = make_table(n_cases=150)
    values = expression.values.copy()
    values[:, 7] = 4.2
    values[:, 8] = 0.0
    values[5, 8] = 1.0
    values[:, 9] = 1000.0
    values[::2, 9] = np.nextafter(np.float32(1000.0), np.float32(2000.0))
    panel = fit_panel(table_of(values), cases, options(selector, n_genes=40), seed=0)
    assert panel.dropped_genes["G007"] == "constant in all 150 training cases"
    assert panel.dropped_genes["G008"].endswith("1 of 150 training cases differ")
    assert set(panel.dropped_genes) == {"G007", "G008", "G009"}
    assert not set(panel.genes) & set(panel.dropped_genes)
    assert any("3 genes do not vary" in n for n in panel.notes)


def test_a_gene_constant_in_training_alone_is_dropped() -> None:
    expression, cases = make_table()
    values = expression.values.copy()
    values[:40, 7] = 1.0
    panel = fit_panel(table_of(values), cases[:40], options("all"), seed=0)
    assert list(panel.dropped_genes) == ["G007"]


def test_all_keeps_every_gene_that_varies() -> None:
    expression, cases = make_table()
    panel = fit_panel(expression, cases, options("all", n_genes=1), seed=0)
    assert panel.genes == expression.genes
    assert panel.n_asked == 40
    assert panel.notes == []


def test_fewer_genes_than_asked_is_said() -> None:
    expression, cases = make_table()
    panel = fit_panel(expression, cases, options(n_genes=768), seed=0)
    assert len(panel.genes) == 40
    assert panel.n_asked == 768
    assert panel.notes[0].startswith("panel: 40 genes are used where 768 were asked for")


def test_xgboost_selects_only_genes_its_trees_use() -> None:
    xgboost = pytest.importorskip("xgboost")
    expression, cases = make_table(n_genes=1000)
    panel = fit_panel(expression, cases, options("xgboost", n_genes=768), seed=0)
    assert 0 < len(panel.genes) < 700
    assert "(xgboost)" in panel.notes[0]
    trees = xgboost.XGBClassifier(n_estimators=100, max_depth=3, n_jobs=1, tree_method="hist")
    low, high = np.quantile(expression.values.astype(float), [0.01, 0.99], axis=0)
    trees.fit(np.clip(expression.values, low, high), [c.label for c in cases])
    used = {f"G{int(name[1:]):03d}" for name in trees.get_booster().get_score()}
    assert set(panel.genes) == used


def test_xgboost_absent_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    expression, cases = make_table()
    with pytest.raises(ConfigError, match=r'\[G11\].*pip install "momkd\[xgb\]"'):
        fit_panel(expression, cases, options("xgboost"), seed=0)


def test_only_cases_with_rna_are_looked_at() -> None:
    expression, cases = make_table()
    bare = Case(case_id="X", slide_ids=("S",), label=1)
    panel = fit_panel(expression, [*cases[:30], bare], options(), seed=0)
    assert panel.to_json() == fit_panel(expression, cases[:30], options(), seed=0).to_json()
    assert len(panel.fitted_on) == 30


@pytest.mark.parametrize("selector", SELECTORS)
def test_one_class_is_refused_where_labels_are_needed(selector: str) -> None:
    expression, _ = make_table()
    same = cases_of([1] * 60)
    if selector in LABEL_USING:
        with pytest.raises(DataError, match=r"\[O19\].*60 training cases with RNA, of 1 class"):
            fit_panel(expression, same, options(selector), seed=0)
    else:
        assert fit_panel(expression, same, options(selector), seed=0).genes


def test_no_gene_that_varies_is_refused() -> None:
    _, cases = make_table()
    with pytest.raises(DataError, match=r"\[O21\].*none of 4 genes"):
        fit_panel(table_of(np.ones((60, 4))), cases, options(), seed=0)


def test_held_out_cases_it_was_fitted_on_are_named() -> None:
    expression, cases = make_table()
    panel = fit_panel(expression, cases[:40], options(), seed=0)
    panel.require_disjoint(c.case_id for c in cases[40:])
    with pytest.raises(IntegrityError, match=r"\[K07\].*1 held-out cases: P039"):
        panel.require_disjoint(["P039", "P040"])
    # ids do not stand in the file in the clear
    assert "P039" not in panel.to_json()


def test_json_is_exact() -> None:
    expression, cases = make_table()
    values = expression.values * np.float32(1e-20)
    panel = fit_panel(table_of(values), cases, options(), seed=0)
    again = Panel.from_json(panel.to_json())
    assert again.to_json() == panel.to_json()
    for name in ("low", "high", "centre", "scale"):
        before, after = getattr(panel, name), getattr(again, name)
        assert before.dtype == after.dtype == np.float32
        assert before.tobytes() == after.tobytes()
    assert (again.genes, again.fitted_on) == (panel.genes, panel.fitted_on)
    case_ids = expression.case_ids[:3]
    z = panel.transform(table_of(values), case_ids)
    assert again.transform(table_of(values), case_ids).tobytes() == z.tobytes()


def test_a_scale_of_zero_is_no_panel() -> None:
    expression, cases = make_table()
    content = json.loads(fit_panel(expression, cases, options(), seed=0).to_json())
    content["scale"][0] = 0.0
    with pytest.raises(ValueError, match="scales"):
        Panel.from_json(json.dumps(content))


def test_a_table_that_lacks_genes_of_the_panel() -> None:
    expression, cases = make_table()
    panel = fit_panel(expression, cases, options("all"), seed=0)
    less = Expression(
        case_ids=expression.case_ids, genes=expression.genes[2:], values=expression.values[:, 2:]
    )
    with pytest.raises(DataError, match=r"\[O05\].*lacks 2 of the panel's 40 genes: G000, G001"):
        panel.transform(less, ["P000"])


def test_chance_labels_gain_nothing_in_the_fold_and_much_outside_it() -> None:
    # the reason for all this: genes chosen with the test labels make noise look like signal
    rng = np.random.default_rng(5)
    values = rng.normal(size=(120, 2000))
    cases = cases_of(rng.permutation(np.arange(120) % 2))
    expression = table_of(values)
    train, test = cases[:80], cases[80:]
    y = np.array([c.label for c in test])

    def gap(panel: Panel) -> float:
        """Separate the test classes along the difference of the training means."""
        z = panel.transform(expression, [c.case_id for c in train])
        labels = np.array([c.label for c in train])
        way = z[labels == 1].mean(axis=0) - z[labels == 0].mean(axis=0)
        score = panel.transform(expression, [c.case_id for c in test]) @ way
        return float((score[y == 1].mean() - score[y == 0].mean()) / score.std())

    honest = gap(fit_panel(expression, train, options(n_genes=50), seed=0))
    leaky = gap(fit_panel(expression, cases, options(n_genes=50), seed=0))
    assert abs(honest) < 0.6
    assert leaky > 1.0


def test_real_rna(shared_data: Path) -> None:
    table = pd.read_csv(shared_data / "tcga-brca" / "rna.csv.gz", dtype={"case_id": str})
    clinical = pd.read_csv(shared_data / "tcga-brca" / "clinical.csv", dtype={"case_id": str})
    genes = [c for c in table.columns if c.endswith("_rnaseq")]
    table = table.dropna(subset=genes)
    expression = Expression(
        case_ids=tuple(table["case_id"]),
        genes=tuple(genes),
        values=table[genes].to_numpy(np.float32),
    )
    labels = dict(zip(clinical["case_id"], clinical["HER2"], strict=True))
    cases = [
        Case(case_id=c, slide_ids=(), label=int(labels[c]), has_rna=True)
        for c in expression.case_ids
        if labels.get(c) in (0, 1)
    ]
    train = cases[: len(cases) * 7 // 10]
    started = time.perf_counter()
    panel = fit_panel(expression, train, options(n_genes=100), seed=0)
    assert time.perf_counter() - started < 1
    # HER2 status is that of ERBB2, and of its neighbours on the amplicon
    assert "ERBB2_rnaseq" in panel.genes[:5]
    everything = fit_panel(expression, train, options("all"), seed=0)
    assert np.abs(expression.values).max() > 1000
    assert np.abs(everything.transform(expression, expression.case_ids)).max() < 15
