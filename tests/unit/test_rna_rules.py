"""One sample a case and one column a gene, by rules that are written down with what they did."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from momkd.config import parse_options
from momkd.data.cohort import Audit, DataOptions, load_cohort
from momkd.data.concordance import question_labels, question_sex
from momkd.data.expression import RnaReading, read_expression
from momkd.data.known_genes import defining_genes, spellings
from momkd.data.panel import PanelOptions, fit_panel
from momkd.data.rna.options import RnaOptions
from momkd.errors import ConfigError, DataError
from momkd.types import Case, Expression, SlideFile

CASE = "TCGA-AA-0001"
GENES = ["ERBB2", "TP53"]


def read(folder: Path, rows: dict[str, list[float]], **options: object) -> RnaReading:
    table = pd.DataFrame.from_dict(
        rows, orient="index", columns=GENES[: len(next(iter(rows.values())))]
    )
    table.to_csv(folder / "a.csv", index_label="sample_id")
    return read_expression(folder / "a.csv", RnaOptions.model_validate(options))


ALIQUOTS = {
    f"{CASE}-01A-11T-B999-07": [-1.0, 1.0],
    f"{CASE}-01A-11R-A12P-07": [2.0, -2.0],
    f"{CASE}-01A-11R-A13Q-07": [-3.0, 3.0],
    f"{CASE}-01A-21R-A13Q-07": [4.0, -4.0],
    "other": [0.5, -0.5],
}


def test_the_published_rule_chooses_among_aliquots(tmp_path: Path) -> None:
    reading = read(tmp_path, ALIQUOTS)
    assert reading.expression.case_ids == (CASE, "other")
    assert reading.expression.values[0].tolist() == [4.0, -4.0]
    assert [s.code for s in reading.left_out] == ["O02"] * 3
    assert "TCGA-AA-0001-01A-21R-A13Q-07" in reading.left_out[0].reason
    with_h = {**ALIQUOTS, f"{CASE}-01A-11H-0001-07": [7.0, -7.0]}
    assert read(tmp_path, with_h).expression.values[0].tolist() == [7.0, -7.0]


def test_other_rules_for_aliquots(tmp_path: Path) -> None:
    assert read(tmp_path, ALIQUOTS, aliquots="first").expression.values[0].tolist() == [-1.0, 1.0]
    mean = read(tmp_path, ALIQUOTS, aliquots="mean")
    assert mean.expression.values[0].tolist() == [0.5, -0.5]
    assert len(mean.left_out) == 3
    with pytest.raises(DataError, match=r"O02.*TCGA-AA-0001"):
        read(tmp_path, ALIQUOTS, aliquots="refuse")


def test_ids_that_say_nothing_to_choose_by_are_refused(tmp_path: Path) -> None:
    for ids in (["P1", "P1"], [f"{CASE}-01", f"{CASE}-01"], [f"{CASE}-01", f"{CASE}-01.1"]):
        (tmp_path / "a.csv").write_text(f"case_id,ERBB2\n{ids[0]},1\n{ids[1]},-1\n")
        with pytest.raises(DataError, match=r"O02.*data.aliquots"):
            read_expression(tmp_path / "a.csv")


def test_types_of_samples(tmp_path: Path) -> None:
    rows = {f"{CASE}-{t}A": [float(i), -1.0] for i, t in enumerate(("06", "01", "11", "03", "20"))}
    rows["TCGA-AA-0002-06A"] = [9.0, -1.0]
    default = read(tmp_path, rows)
    assert default.expression.case_ids == (CASE,)
    assert default.expression.values[0, 0] == 1.0
    assert default.sample_types == {"01": 1, "03": 1, "06": 2, "11": 1, "20": 1}
    assert Counter(s.code for s in default.left_out) == {"O03": 5}
    wider = read(tmp_path, rows, sample_types=["01", "06"])
    assert wider.expression.case_ids == (CASE, "TCGA-AA-0002")
    assert wider.expression.values[:, 0].tolist() == [1.0, 9.0]
    assert {(s.id[-3:], s.code) for s in wider.left_out} == {
        *(("06A", "O02"), ("11A", "O03"), ("03A", "O03"), ("20A", "O03")),
    }
    assert read(tmp_path, rows, sample_types=["06", "01"]).expression.values[0, 0] == 0.0
    with pytest.raises(DataError, match=r"O03.*1 of type 03, 2 of type 06"):
        read(tmp_path, {k: v for k, v in rows.items() if "01A" not in k})


def test_types_as_yaml_reads_them() -> None:
    assert RnaOptions.model_validate({"sample_types": [1, 6, "09"]}).sample_types == (
        *("01", "06", "09"),
    )
    assert RnaOptions.model_validate({"sample_types": 3}).sample_types == ("03",)
    for bad in (11, "10", "tumour", 20):
        with pytest.raises(ConfigError, match=r"G04.*tumour"):
            parse_options(RnaOptions, {"sample_types": [bad]}, "x")


def matrix(folder: Path, values: NDArray[np.float64], name: str = "a.csv") -> Path:
    genes = [f"ENSG{i:011d}" for i in range(values.shape[1])]
    ids = [f"c{i}" for i in range(len(values))]
    table = pd.DataFrame(values, index=ids, columns=genes)
    table.to_csv(folder / name, index_label="case_id")
    return folder / name


def test_cases_on_other_scales_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 40_000, (8, 80)).astype(float)
    tpm = counts / counts.sum(axis=1, keepdims=True) * 1e6
    rsem = counts + 0.37
    for one, other, words in (
        (counts, tpm, "whole numbers"),
        (np.log2(tpm + 1), tpm, "look logged"),
        (counts - counts.mean(axis=0), counts, "negative"),
        (tpm, rsem, "sum to a million"),
    ):
        mixed = np.concatenate([one[:3], other[3:]])
        with pytest.raises(DataError, match=rf"O08.*3 cases.*{words}.*5 do not \(first: c0, c3\)"):
            read_expression(matrix(tmp_path, mixed))
    for whole in (counts, tpm, rsem, np.log2(tpm + 1)):
        read_expression(matrix(tmp_path, whole))


def test_a_log_that_is_too_large_is_doubted(tmp_path: Path) -> None:
    values = np.full((3, 4), 5.0)
    values[0, 0] = 60.0
    reading = read_expression(matrix(tmp_path, values), RnaOptions(rna_scale="log2"))
    assert any("reach 60" in n for n in reading.notes)


def gene_columns(folder: Path, genes: list[str], values: list[list[float]]) -> Path:
    lines = [",".join(["case_id", *genes])]
    lines += [",".join([f"c{i}", *map(str, row)]) for i, row in enumerate(values)]
    (folder / "g.csv").write_text("\n".join(lines))
    return folder / "g.csv"


def test_maps_from_ids_to_symbols(tmp_path: Path) -> None:
    ids = [f"ENSG0000000000{i}.{i}" for i in range(1, 5)]
    path = gene_columns(tmp_path, ids, [[1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 2.0, 2.0]])
    given = tmp_path / "map.tsv"
    given.write_text(f"id\tgene\n{ids[0]}\tA\n{ids[1][:-2]}\tB\n{ids[2]}\tB\n")
    reading = read_expression(path, RnaOptions(gene_map=given))
    assert reading.expression.genes == ("A", "B", "ENSG00000000004")
    assert np.allclose(reading.expression.values[0, 1], np.log2(2**2 + 2**3 - 1))
    assert any("3 genes named by map.tsv; 1 that it does not know" in n for n in reading.notes)
    assert any("shared by several ids (B 2 times): sum" in n for n in reading.notes)
    given.write_text("id\tgene\nX\tA\n")
    with pytest.raises(DataError, match=r"O09.*knows none"):
        read_expression(path, RnaOptions(gene_map=given))
    given.write_text(f"id\tgene\n{ids[0]}\tA\n{ids[0]}\tB\n")
    with pytest.raises(DataError, match=r"O09.*is A and B"):
        read_expression(path, RnaOptions(gene_map=given))
    given.write_text("one\ttwo\tthree\na\tb\tc\n")
    with pytest.raises(DataError, match=r"O09.*not recognised"):
        read_expression(path, RnaOptions(gene_map=given))
    with pytest.raises(DataError, match=r"O09.*wanted symbols.*gene_map"):
        read_expression(path, RnaOptions(gene_ids="symbol"))
    named = gene_columns(tmp_path, ["ERBB2", "TP53"], [[1.0, 2.0]])
    with pytest.raises(DataError, match=r"O09.*wanted Ensembl"):
        read_expression(named, RnaOptions(gene_ids="ensembl"))


def test_copies_that_pandas_renamed_are_copies(tmp_path: Path) -> None:
    genes = ["TP53", "TP53.1", "TP53.3", "AC0001.2", "TP53.01"]
    path = gene_columns(tmp_path, genes, [[1.0, 3.0, -5.0, 7.0, 9.0], [-1.0, 1.0, 1.0, 2.0, 3.0]])
    with pytest.raises(DataError, match=r"O13.*\(TP53\)"):
        read_expression(path)
    with pytest.raises(DataError, match=r"O13.*signed"):
        read_expression(path, RnaOptions(duplicate_genes="sum"))
    reading = read_expression(path, RnaOptions(duplicate_genes="mean"))
    assert reading.expression.genes == ("TP53", "TP53.3", "AC0001.2", "TP53.01")
    assert reading.expression.values[0].tolist() == [2.0, -5.0, 7.0, 9.0]


def test_genes_are_restricted_before_any_fold(tmp_path: Path) -> None:
    genes = ["ERBB2", "TP53", "ONLY_HERE", "PGR"]
    path = gene_columns(tmp_path, genes, [[1.0, -2.0, 3.0, 4.0], [2.0, 1.0, 0.0, 5.0]])
    listed = tmp_path / "genes.txt"
    listed.write_text("PGR\nERBB2\nOTHER\n")
    reading = read_expression(path, RnaOptions(restrict_genes_to=listed))
    assert reading.expression.genes == ("ERBB2", "PGR")
    assert reading.expression.values.tolist() == [[1.0, 4.0], [2.0, 5.0]]
    assert {c.name for c in reading.gene_changes} == {"TP53", "ONLY_HERE"}
    assert any("2 genes that genes.txt has too are kept, 2 left out" in n for n in reading.notes)
    external = tmp_path / "external.tsv"
    external.write_text("Hugo_Symbol\tEntrez_Gene_Id\tX1\tX2\nTP53\t1\t5\tNA\nERBB2\t2\t1\t1\n")
    reading = read_expression(path, RnaOptions(restrict_genes_to=external))
    assert reading.expression.genes == ("ERBB2", "TP53")
    listed.write_text("ENSG00000141736.14\n")
    with pytest.raises(DataError, match=r"O09.*Ensembl.*gene_map"):
        read_expression(path, RnaOptions(restrict_genes_to=listed))
    listed.write_text("A\nB\n")
    with pytest.raises(DataError, match="O05"):
        read_expression(path, RnaOptions(restrict_genes_to=listed))


def gaps() -> tuple[Expression, list[Case]]:
    rng = np.random.default_rng(5)
    values = rng.normal(size=(20, 4)).astype(np.float32)
    values[3, 0] = values[15, 0] = np.nan
    values[:, 3] = np.nan
    ids = tuple(f"c{i}" for i in range(20))
    cases = [Case(case_id=c, slide_ids=(), label=i % 2, has_rna=True) for i, c in enumerate(ids)]
    table = Expression(
        case_ids=ids, genes=("A", "B", "C", "D"), values=values, scale="log2", has_missing=True
    )
    return table, cases


def test_missing_values_take_the_median_of_the_training_cases() -> None:
    table, cases = gaps()
    panel = fit_panel(table, cases[:10], PanelOptions(selector="all", winsor=0), seed=0)
    assert panel.genes == ("A", "B", "C")
    assert panel.dropped_genes == {"D": "missing in all 10 training cases"}
    assert panel.n_imputed == 1
    assert any("1 missing values" in n for n in panel.notes)
    median = np.nanmedian(table.values[:10, 0])
    assert panel.median[0] == median
    z = panel.transform(table, ["c15", "c3"])
    assert np.isfinite(z).all()
    assert np.allclose(z[:, 0], (median - panel.centre[0]) / panel.scale[0])
    changed = table.values.copy()
    changed[10:] *= 50
    other = Expression(case_ids=table.case_ids, genes=table.genes, values=changed, has_missing=True)
    again = fit_panel(other, cases[:10], PanelOptions(selector="all", winsor=0), seed=0)
    assert again.to_json() == panel.to_json(), "others had a part in it"


def test_genes_that_a_table_lacks_take_the_training_mean_only_if_asked() -> None:
    table, cases = gaps()
    panel = fit_panel(table, cases, PanelOptions(selector="all"), seed=0)
    less = Expression(case_ids=("x",), genes=("C", "A"), values=np.ones((1, 2), np.float32))
    assert panel.absent_genes(less) == ("B",)
    with pytest.raises(DataError, match=r"O05.*1 of the panel's 3 genes: B"):
        panel.transform(less, ["x"])
    z = panel.transform(less, ["x"], absent="train_mean")
    assert z[0, 1] == 0
    assert z[0, 0] == pytest.approx(
        (min(max(1.0, panel.low[0]), panel.high[0]) - panel.centre[0]) / panel.scale[0]
    )
    ids = Expression(
        case_ids=("x",), genes=("ENSG00000141510",), values=np.ones((1, 1), np.float32)
    )
    with pytest.raises(DataError, match=r"O09.*gene_map"):
        panel.transform(ids, ["x"], absent="train_mean")


def cohort_of(values: dict[str, NDArray[np.float64]]) -> tuple[Expression, list[Case]]:
    n = len(next(iter(values.values())))
    ids = tuple(f"c{i}" for i in range(n))
    table = Expression(
        case_ids=ids,
        genes=tuple(values),
        values=np.stack(list(values.values()), axis=1).astype(np.float32),
        scale="log2",
    )
    labels = [int(i >= n // 2) for i in range(n)]
    cases = [
        Case(case_id=c, slide_ids=(), label=y, has_rna=True)
        for c, y in zip(ids, labels, strict=True)
    ]
    return table, cases


def test_a_label_that_its_gene_does_not_know_is_questioned() -> None:
    rng = np.random.default_rng(1)
    good = rng.normal(size=60) + np.repeat([0.0, 3.0], 30)
    table, cases = cohort_of({"ERBB2": good})
    assert question_labels(table, cases, "HER2") == []
    table, cases = cohort_of({"ENSG00000141736": -good})
    (note,) = question_labels(table, cases, "her2_status_by_ihc")
    assert "ERBB2" in note
    assert "O23" in note
    assert question_labels(table, cases, "PR") == []
    assert question_labels(table, cases, "grade") == []


def test_rows_that_were_swapped_between_sexes_are_questioned() -> None:
    rng = np.random.default_rng(2)
    female = np.arange(40) % 2 == 0
    on_x = np.where(female, 9.0, 0.5) + rng.normal(0, 0.3, 40)
    on_y = np.where(female, 0.2, 6.0) + rng.normal(0, 0.3, 40)
    table, _ = cohort_of({"XIST": on_x, "RPS4Y1": on_y, "DDX3Y": on_y})
    sexes = {c: "f" if f else "m" for c, f in zip(table.case_ids, female, strict=True)}
    assert question_sex(table, sexes) == []
    swapped = {**sexes, "c4": "m", "c7": "f"}
    (note,) = question_sex(table, swapped)
    assert "2 of 40 cases (first: c4)" in note
    only_female = dict.fromkeys(table.case_ids[:5], "f")
    (note,) = question_sex(table, only_female)
    assert "2 of 5 cases (first: c1)" in note
    assert question_sex(cohort_of({"ERBB2": on_x})[0], sexes) == []


def audit(folder: Path, **options: object) -> Audit:
    """Cases with several slides, aliquots and kinds of tissue, all named by their barcodes."""
    rng = np.random.default_rng(3)
    cases = [f"TCGA-AA-00{i:02d}" for i in range(12)]
    ids = [f"{c}-01A-11R-A12P-07" for c in cases] + [f"{cases[0]}-01A-11T-A12P-07"]
    ids += [f"{cases[1]}-11A-11R-A12P-07"]
    values = rng.normal(size=(len(ids), 2)).round(3)
    pd.DataFrame(values, index=ids, columns=GENES).to_csv(folder / "r.csv", index_label="sample_id")
    labels = ["positive", "negative"] * 6
    table = pd.DataFrame({"case_id": cases, "HER2": labels, "gender": "FEMALE"})
    table.to_csv(folder / "c.csv", index=False)
    names = [f"{c}-01Z-00-DX1.U{i}" for i, c in enumerate(cases)]
    names += [f"{cases[0]}-01A-01-TS1.V", f"{cases[1]}-06A-01-TS1.W", f"{cases[2]}-11A-01-TS1.X"]
    slides = {
        n: SlideFile(slide_id=n, path=Path(f"{n}.h5"), sha256=n, n_tiles=5, dim=3) for n in names
    }
    given = {
        "features": [folder],
        "clinical": folder / "c.csv",
        "rna": folder / "r.csv",
        "target": {"column": "HER2", "positive": "positive", "negative": "negative"},
    }
    return load_cohort(DataOptions.model_validate(given | options), slides, [])


def test_what_is_left_out_of_a_tcga_cohort_stands_in_the_ledger(tmp_path: Path) -> None:
    found = audit(tmp_path)
    counts = found.counts()
    assert (counts["slides used"], counts["slides left out"]) == (12, 3)
    assert (counts["rnas listed"], counts["rnas used"], counts["rnas left out"]) == (14, 12, 2)
    why = {(d.kind, d.code): d.id for d in found.dropped}
    assert why["slide", "S21"].endswith("TS1.V")
    assert why["rna", "O02"] == "TCGA-AA-0000-01A-11T-A12P-07"
    assert why["rna", "O03"] == "TCGA-AA-0001-11A-11R-A12P-07"
    assert sum(d.code == "O03" and d.kind == "slide" for d in found.dropped) == 2
    assert {c.site for c in found.cohort.cases} == {"AA"}


def test_frozen_sections_and_metastases_come_by_option_only(tmp_path: Path) -> None:
    found = audit(tmp_path, slide_kinds=["DX", "TS"])
    assert found.counts()["slides used"] == 13
    assert any("1 TS" in n and "12 DX" in n for n in found.notes)
    found = audit(tmp_path, slide_kinds=["DX", "TS"], sample_types=["01", "06"])
    assert found.counts()["slides used"] == 14
    assert [d.id for d in found.dropped if d.kind == "slide"] == ["TCGA-AA-0002-11A-01-TS1.X"]


def test_genes_that_define_a_label() -> None:
    assert defining_genes("HER2") == ("ERBB2",)
    assert defining_genes("er_status_by_ihc") == ("ESR1",)
    assert defining_genes("PR") == ("PGR",)
    assert len(set(defining_genes("ODX85"))) == 21
    assert defining_genes("grade") == defining_genes(None) == ()
    assert spellings("ERBB2") == ("ERBB2", "ENSG00000141736")
