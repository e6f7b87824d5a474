"""Tables of other tools in the exact layout they have, and what is said of faulty ones."""

import json
from pathlib import Path

import openpyxl
import pytest

from momkd.data.clinical import ColumnOptions, TargetOptions, read_clinical
from momkd.data.conventions.clam import read_clam, read_split_rows, write_clam
from momkd.data.conventions.patho_bench import find_task_column, read_patho_bench
from momkd.data.conventions.slideflow import read_slideflow
from momkd.data.conventions.stamp import read_given_splits, read_stamp, read_stamp_config
from momkd.data.conventions.trident import read_trident_list, write_trident_list
from momkd.errors import ConfigError, DataError, Problem

DATASET = "case_id,slide_id,label\np1,s1,mut\np1,s2,mut\np2,s3,wt\n"


def problems_of(work: object, *args: object, **more: object) -> dict[str, Problem]:
    with pytest.raises((DataError, ConfigError)) as refused:
        work(*args, **more)  # type: ignore[operator]
    return {p.code: p for p in refused.value.problems}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_clam_as_it_writes(tmp_path: Path) -> None:
    dataset = write(tmp_path / "dataset.csv", DATASET)
    write(tmp_path / "splits" / "splits_0.csv", ",train,val,test\n0,s1,s3,\n1,s2,,\n")
    write(tmp_path / "splits" / "splits_0_bool.csv", ",train,val,test\nzz,True,False,False\n")
    write(tmp_path / "splits" / "splits_0_descriptor.csv", ",train,val,test\nmut,1,0,0\n")
    write(tmp_path / "splits" / "splits_10.csv", ",train,val,test\n0,s3,,s1\n1,,,s2\n")
    study = read_clam(dataset, tmp_path / "splits")
    assert [(r.case_id, r.slide, r.values["label"]) for r in study.rows] == [
        ("p1", "s1", "mut"),
        ("p1", "s2", "mut"),
        ("p2", "s3", "wt"),
    ]
    assert [(s.index, s.train, s.val, s.test) for s in study.splits] == [
        (0, ("s1", "s2"), ("s3",), ()),
        (10, ("s3",), (), ("s1", "s2")),
    ]
    write_clam(study, tmp_path / "out")
    again = read_clam(tmp_path / "out" / "dataset.csv", tmp_path / "out" / "splits")
    assert again == study
    described = (tmp_path / "out" / "splits" / "splits_0_descriptor.csv").read_text()
    assert described == ",train,val,test\nmut,2,0,0\nwt,0,1,0\n"


def test_mcat_splits_have_cases_and_report_on_val(tmp_path: Path) -> None:
    path = write(
        tmp_path / "5foldcv" / "splits_3.csv",
        ",train,val\n0,TCGA-AA-0001,TCGA-AA-0003\n1,TCGA-AA-0002,\n",
    )
    rows = list(read_split_rows(path))
    assert [(r.fold, r.name, r.side) for r in rows] == [
        (3, "TCGA-AA-0001", "train"),
        (3, "TCGA-AA-0002", "train"),
        (3, "TCGA-AA-0003", "test"),
    ]


def test_survpath_metadata_is_a_clinical_table(tmp_path: Path) -> None:
    path = write(
        tmp_path / "metadata.csv",
        "case_id,slide_id,site,survival_months_dss,censorship_dss,oncotree_code,train\n"
        "TCGA-AA-0001,TCGA-AA-0001-01Z-00-DX1.X.svs,AA,3.5,1,IDC,1\n"
        "TCGA-BB-0002,TCGA-BB-0002-01Z-00-DX1.Y.svs,BB,8.0,0,ILC,1\n",
    )
    target = TargetOptions(column="oncotree_code", positive="ILC", negative="IDC")
    table = read_clinical(path, target, ColumnOptions())
    assert [(r.case_id, r.slide_ids, r.label, r.site) for r in table.rows] == [
        ("TCGA-AA-0001", ("TCGA-AA-0001-01Z-00-DX1.X",), 0, "AA"),
        ("TCGA-BB-0002", ("TCGA-BB-0002-01Z-00-DX1.Y",), 1, "BB"),
    ]


def test_faulty_clam(tmp_path: Path) -> None:
    dataset = write(tmp_path / "d.csv", "case_id,slide_id,class\np,s,1\n")
    assert "'label'" in problems_of(read_clam, dataset)["L07"].what
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "splits_0.csv" in problems_of(list, read_split_rows(empty))["K13"].what
    odd = write(tmp_path / "odd" / "splits_0.csv", ",train,holdout\n0,a,b\n")
    assert "holdout" in problems_of(list, read_split_rows(odd))["K13"].what
    both = write(tmp_path / "both" / "splits_0_bool.csv", ",train,val,test\na,True,False,True\n")
    assert problems_of(list, read_split_rows(both))["K13"].row == 2


STAMP = """
preprocessing: {output_dir: out}
crossval:
  output_dir: results
  clini_table: clini.xlsx
  slide_table: slide.csv
  feature_dir: features
  task: classification
  ground_truth_label: KRAS
  categories: [wt, mut]
  n_splits: 4
"""


def stamp_study(folder: Path) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["patient", "KRAS", "AGE"], ["p1", "mut", 61], ["p2", "wt", 50.0], ["p3", "", 7]):
        sheet.append(row)
    book.save(folder / "clini.xlsx")
    slides = "PATIENT,FILENAME\np1,cohort a/s1.h5\np1,s2.h5\np9,s9.h5\np2,s3.h5\n"
    write(folder / "slide.csv", slides)
    splits = [
        {"train_patients": ["p1"], "test_patients": ["p2"]},
        {"train_patients": ["p2"], "test_patients": ["p1"]},
    ]
    write(folder / "results" / "splits.json", json.dumps({"splits": splits}))
    return write(folder / "config.yaml", STAMP)


def test_stamp_as_it_reads(tmp_path: Path) -> None:
    config = read_stamp_config(stamp_study(tmp_path))
    assert (config.label, config.categories, config.n_splits) == ("KRAS", ("wt", "mut"), 4)
    assert config.splits == tmp_path / "results" / "splits.json"
    study = read_stamp(
        config.clini_table, config.slide_table, label=config.label, splits=config.splits
    )
    assert [(r.case_id, r.slide, r.slide_id, r.values) for r in study.rows] == [
        ("p1", "cohort a/s1.h5", "s1", {"KRAS": "mut", "AGE": "61"}),
        ("p1", "s2.h5", "s2", {"KRAS": "mut", "AGE": "61"}),
        ("p9", "s9.h5", "s9", {"KRAS": "", "AGE": ""}),
        ("p2", "s3.h5", "s3", {"KRAS": "wt", "AGE": "50"}),
        ("p3", "", "", {"KRAS": "", "AGE": "7"}),
    ]
    assert study.splits[1].test == ("p1",)


def test_faulty_stamp_configs(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "preprocessing: {}\n")
    assert "crossval" in problems_of(read_stamp_config, path)["G15"].what
    write(path, "training: {clini_table: a, slide_table: b, ground_truth_label: [x, y]}\n")
    with pytest.raises(ConfigError) as refused:
        read_stamp_config(path)
    assert sorted(p.where.rsplit(".", 1)[1] for p in refused.value.problems) == [
        "feature_dir",
        "ground_truth_label",
    ]
    text = STAMP.replace("task: classification", "task: survival")
    assert "survival" in problems_of(read_stamp_config, write(path, text))["G15"].what


def test_faulty_stamp_tables(tmp_path: Path) -> None:
    clini = write(tmp_path / "clini.csv", "PATIENT,y\np1,a\np1,b\np2,a\np2,a\n,a\n")
    slide = write(tmp_path / "slide.csv", "PATIENT,FILENAME\np1,s1.h5\np2,s1.h5\n,s2.h5\n")
    found = problems_of(read_stamp, clini, slide, label="y")
    assert set(found) == {"L05", "L06", "L12"}
    assert (found["L06"].row, found["L12"].row) == (3, 3)
    other = write(tmp_path / "other.csv", "PATIENT,file\np1,s1.h5\n")
    assert "FILENAME" in problems_of(read_stamp, clini, other, label="y")["L07"].what
    for text in ("{}", "[1", '{"splits": [{"train_patients": "p1"}]}', '{"splits": [3]}'):
        broken = write(tmp_path / "splits.json", text)
        assert "splits" in problems_of(read_given_splits, broken)["K13"].what


TASK = (
    "case_id\tslide_id\tTP53\tOS\tfold_0\tfold_1\np1\ts1\t1\t3\ttrain\ttest\np2\ts2\t0\t4\ttest\t\n"
)


def test_patho_bench_as_published(tmp_path: Path) -> None:
    tsv = write(tmp_path / "k=all.tsv", TASK)
    config = "task_col: TP53\nextra_cols: [OS]\nlabel_dict: {0: wildtype, 1: mutant}\n"
    write(tmp_path / "config.yaml", config)
    study = read_patho_bench(tsv)
    assert study.label == "TP53"
    assert study.columns == ("TP53", "OS")
    assert [(s.train, s.test) for s in study.splits] == [(("s1",), ("s2",)), ((), ("s1",))]


def test_faulty_patho_bench(tmp_path: Path) -> None:
    tsv = write(tmp_path / "k=all.tsv", TASK)
    assert "TP53, OS" in problems_of(find_task_column, tsv)["G15"].what
    write(tmp_path / "config.yaml", "task_col: KRAS\n")
    assert "KRAS" in problems_of(read_patho_bench, tsv)["G15"].what
    write(tsv, TASK.replace("train", "training"))
    found = problems_of(read_patho_bench, tsv, task="TP53")["K13"]
    assert (found.row, found.column) == (2, "fold_0")


def test_slideflow_annotations(tmp_path: Path) -> None:
    text = "patient,dataset,slide,category\np1,train,s1,mut\np1,train,s2,mut\np2,eval,s3,wt\n"
    path = write(tmp_path / "annotations.csv", text)
    study = read_slideflow(path)
    assert study.rows[2].values == {"dataset": "eval", "category": "wt"}
    assert "'age'" in problems_of(read_slideflow, path, outcome="age")["L07"].what
    # it is a clinical table as it is
    target = TargetOptions(column="category", positive="mut", negative="wt")
    table = read_clinical(path, target, ColumnOptions())
    assert [r.slide_ids for r in table.rows] == [("s1", "s2"), ("s3",)]


def test_trident_lists(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", "wsi\nsub/TCGA-AA-0001-01Z-00-DX1.X.svs\nodd name.tif\n\n")
    study = read_trident_list(path)
    assert [(r.case_id, r.slide_id) for r in study.rows] == [
        ("TCGA-AA-0001", "TCGA-AA-0001-01Z-00-DX1.X"),
        ("odd name", "odd name"),
    ]
    slides = [r.slide for r in study.rows]
    assert read_trident_list(write_trident_list(tmp_path / "again.csv", slides)) == study
    known = {"odd name.tif": 0.25}
    with_mpp = read_trident_list(write_trident_list(tmp_path / "mpp.csv", slides, known))
    assert [r.values for r in with_mpp.rows] == [{"mpp": ""}, {"mpp": "0.25"}]
    write(path, "wsi,mpp\na/x.svs,0.5\nb/x.svs,0.5\n,0.5\ny.svs,-1\n")
    assert set(problems_of(read_trident_list, path)) == {"F18", "L05", "S01"}
    assert "wsi" in problems_of(read_trident_list, write(path, "slide\na.svs\n"))["L07"].what
