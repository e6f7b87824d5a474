"""RNA tables as people have them; each loads to the same cases and genes, or is refused."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from momkd.data.expression import read_expression
from momkd.data.rna.options import RnaOptions
from momkd.errors import DataError

CASES = [f"TCGA-AA-{i:04d}" for i in range(6)]
GENES = ["ERBB2", "PGR", "ESR1", "TP53"]
VALUES = np.round(np.random.default_rng(0).normal(size=(6, 4)), 3)


def frame(values: np.ndarray = VALUES) -> pd.DataFrame:
    table = pd.DataFrame(values, columns=GENES)
    table.insert(0, "case_id", CASES)
    return table


def save(path: Path, table: pd.DataFrame, **how: object) -> Path:
    table.to_csv(path, index=False, **how)  # type: ignore[call-overload]
    return path


def test_forms_of_one_table_load_alike(tmp_path: Path) -> None:
    turned = frame().set_index("case_id").T.reset_index(names="Hugo_Symbol")
    suffixed = frame().rename(columns={g: f"{g}_rnaseq" for g in GENES})
    suffixed.insert(1, "oncotree_code", "IDC")
    suffixed["TP53_mut"] = 1
    long_ids = frame().assign(case_id=[f"{c}-01A-11R-A000-07" for c in CASES])
    forms = {
        "plain.csv": save(tmp_path / "plain.csv", frame()),
        "tabs.tsv": save(tmp_path / "tabs.tsv", frame(), sep="\t"),
        "bom.csv": save(tmp_path / "bom.csv", frame(), encoding="utf-8-sig"),
        "utf16.csv": save(tmp_path / "utf16.csv", frame(), encoding="utf-16"),
        "turned.csv": save(tmp_path / "turned.csv", turned),
        "suffixed.csv": save(tmp_path / "suffixed.csv", suffixed),
        "long.csv": save(tmp_path / "long.csv", long_ids),
    }
    zipped = tmp_path / "zipped.csv.gz"
    zipped.write_bytes(gzip.compress((tmp_path / "plain.csv").read_bytes()))
    forms["zipped"] = zipped
    for name, path in forms.items():
        reading = read_expression(path, target_column="HER2")
        expression, notes = reading.expression, reading.notes
        assert expression.case_ids == tuple(CASES), name
        assert expression.genes == tuple(GENES), name
        assert np.array_equal(expression.values, VALUES.astype(np.float32)), name
        assert expression.scale == "zscore"
        assert any("ERBB2" in n for n in notes)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    table = frame().assign(case_id=[f"{c}-01" for c in CASES])
    normal = table.iloc[[0]].assign(case_id=f"{CASES[0]}-11", ERBB2=9.0)
    metastasis = table.iloc[[1]].assign(case_id=f"{CASES[1]}-06", ERBB2=9.0)
    again = table.iloc[[2]]
    path = save(tmp_path / "a.csv", pd.concat([table, normal, metastasis, again]))
    reading = read_expression(path)
    expression, notes = reading.expression, reading.notes
    assert expression.case_ids == tuple(CASES)
    assert float(expression.values[0, 0]) == pytest.approx(VALUES[0, 0])
    text = " ".join(notes)
    assert "1 of type 06, 1 of type 11" in text
    assert "1 rows repeat a case" in text


def test_only_normals_is_refused(tmp_path: Path) -> None:
    table = frame().assign(case_id=[f"{c}-11" for c in CASES])
    with pytest.raises(DataError, match="O03"):
        read_expression(save(tmp_path / "a.csv", table))


def test_scales_are_told_apart_and_linear_ones_logged_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 5000, (6, 4)).astype(float)
    tpm = rng.random((6, 4)) + 0.1
    tpm *= 1e6 / tpm.sum(axis=1, keepdims=True)
    for values, scale in ((counts, "counts"), (tpm, "tpm"), (counts + 0.5, "rsem")):
        reading = read_expression(save(tmp_path / "a.csv", frame(values)))
        expression = reading.expression
        assert f"scale {scale} (detected)" in reading.notes[1]
        assert expression.scale == "log2"
        assert np.allclose(expression.values, np.log2(values.astype(np.float32) + 1))
    logged = np.log2(counts + 1)
    expression = read_expression(save(tmp_path / "a.csv", frame(logged))).expression
    assert expression.scale == "log2"
    assert np.allclose(expression.values, logged, atol=1e-5)


def test_genes_that_repeat(tmp_path: Path) -> None:
    counts = np.random.default_rng(2).integers(100, 5000, (6, 4)).astype(float)
    table = frame(counts)
    table.columns = ["case_id", "A", "B", "A", "C"]
    path = save(tmp_path / "a.csv", table)
    with pytest.raises(DataError, match=r"O13.*A"):
        read_expression(path)
    summed = read_expression(path, RnaOptions(duplicate_genes="sum")).expression
    mean = read_expression(path, RnaOptions(duplicate_genes="mean")).expression
    assert summed.genes == mean.genes == ("A", "B", "C")
    assert np.allclose(summed.values[:, 0], np.log2(counts[:, 0] + counts[:, 2] + 1))
    assert np.allclose(mean.values[:, 0], np.log2((counts[:, 0] + counts[:, 2]) / 2 + 1))


def test_ensembl_versions_are_stripped(tmp_path: Path) -> None:
    table = frame()
    table.columns = ["case_id", *(f"ENSG0000000000{i}.15" for i in range(4))]
    reading = read_expression(save(tmp_path / "a.csv", table))
    expression, notes = reading.expression, reading.notes
    assert expression.genes[0] == "ENSG00000000000"
    assert any("version" in n for n in notes)


def test_genes_called_na_and_nan_are_genes(tmp_path: Path) -> None:
    table = frame()
    table.columns = ["case_id", "NA", "nan", "None", "TP53"]
    expression = read_expression(save(tmp_path / "a.csv", table)).expression
    assert expression.genes == ("NA", "nan", "None", "TP53")


def test_all_faults_of_the_cells_are_told_with_their_place(tmp_path: Path) -> None:
    table = frame().astype(str)
    table.loc[2, "PGR"] = "<0.01"
    table.loc[4, "TP53"] = ""
    with pytest.raises(DataError) as refused:
        read_expression(save(tmp_path / "a.csv", table))
    by_code = {p.code: p for p in refused.value.problems}
    assert (by_code["O17"].row, by_code["O17"].column, by_code["O17"].value) == (4, "PGR", "<0.01")
    assert (by_code["O06"].row, by_code["O06"].column) == (6, "TP53")


def test_lines_are_counted_as_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("case_id,A,B\n\na,1.5,-2\n,,\n\nb,x,4\nc,1,2\nd,3,4\n")
    with pytest.raises(DataError, match="O17") as refused:
        read_expression(path)
    assert refused.value.problems[0].row == 6
    path.write_text("gene,TCGA-AA-0001,TCGA-AA-0002\nTP53,1,2\nPGR,2,2\nESR1,5,1\nERBB2,3,oops\n")
    with pytest.raises(DataError, match="O17") as refused:
        read_expression(path)
    problem = refused.value.problems[0]
    assert (problem.row, problem.column) == (5, "TCGA-AA-0002")


def test_damaged_gzip_is_one_clear_line(tmp_path: Path) -> None:
    whole = gzip.compress(frame().to_csv(index=False).encode() * 20)
    for content in (whole[:60], whole[:40] + b"\x00\x55\xff" * 9 + whole[67:]):
        (tmp_path / "a.csv.gz").write_bytes(content)
        with pytest.raises(DataError, match="O16"):
            read_expression(tmp_path / "a.csv.gz")


def test_summary_rows_of_counters_are_left_out(tmp_path: Path) -> None:
    turned = frame(np.abs(VALUES)).set_index("case_id").T.reset_index(names="gene_id")
    turned.loc[len(turned)] = ["N_unmapped", *[5] * 6]
    turned.loc[len(turned)] = ["__no_feature", *[5] * 6]
    reading = read_expression(save(tmp_path / "a.csv", turned))
    expression, notes = reading.expression, reading.notes
    assert expression.genes == tuple(GENES)
    assert any("2 summary rows" in n for n in notes)


def test_the_real_table(shared_data: Path) -> None:
    path = shared_data / "tcga-brca" / "rna.csv.gz"
    reading = read_expression(path, target_column="HER2")
    expression, notes = reading.expression, reading.notes
    assert expression.values.shape == (750, 1558)
    assert expression.scale == "zscore"
    assert any("site, oncotree_code" in n for n in notes)
