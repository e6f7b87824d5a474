"""A study set up for another tool comes in, goes out and comes in again as the same cohort."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from momkd.data.cohort import Audit
from momkd.errors import ConfigError, DataError
from momkd.types import Fold
from momkd.workflows.audit import audit_cohort
from momkd.workflows.export_predictions import export_predictions
from momkd.workflows.export_tables import export_tables
from momkd.workflows.import_tables import (
    init_from_clam,
    init_from_patho_bench,
    init_from_slideflow,
    init_from_stamp,
)
from momkd.workflows.init import init
from momkd.workflows.protocol import make_protocol
from momkd.workflows.settings import load_settings
from tests.trident_project import CLINICAL, write_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    init(
        features=[folder / "trident"],
        clinical=folder / CLINICAL,
        rna=folder / "TCGA-BRCA.star_tpm.tsv.gz",
        target="HER2",
        output=folder / "momkd.yaml",
        folds={"n": 3, "val_fraction": 0.15},
    )
    return folder


def look(config: Path) -> tuple[Audit, tuple[Fold, ...]]:
    settings = load_settings([config])
    audit = audit_cohort(settings.data).audit
    return audit, make_protocol(audit.cohort, settings.folds).folds


def cases_of(audit: Audit) -> list[tuple[str, tuple[str, ...], int, str | None]]:
    """Cases with a slide: what tables of slides can say."""
    cases = [c for c in audit.cohort.cases if c.slide_ids]
    return [(c.case_id, c.slide_ids, c.label, c.site) for c in cases]


def sides(folds: tuple[Fold, ...], known: set[str]) -> list[tuple[set[str], ...]]:
    return [
        tuple(set(getattr(f, s)) & known for s in ("train", "val", "test"))  # type: ignore[misc]
        for f in folds
    ]


def test_a_ruled_label_beside_the_configuration(project: Path) -> None:
    content = yaml.safe_load((project / "momkd.yaml").read_text())
    assert content["data"]["clinical"] == "labels.csv"
    assert content["data"]["target"] == {
        "column": "HER2",
        "positive": "positive",
        "negative": "negative",
    }
    audit, folds = look(project / "momkd.yaml")
    left = {(d.kind, d.reason) for d in audit.dropped}
    assert ("case", "HER2 is blank: IHC 2+, ISH not stated") in left
    assert ("slide", "no row in the clinical table") in left
    assert audit.counts()["cases with RNA only"] == 1
    assert audit.counts()["cases with slide only"] == 1
    assert len(folds) == 3


def test_labels_of_an_earlier_call_are_not_overwritten(project: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("mine")
    with pytest.raises(ConfigError, match=r"G08.*labels.csv"):
        init(
            features=[project / "trident"],
            clinical=project / CLINICAL,
            target="pr",
            output=tmp_path / "momkd.yaml",
        )
    assert (tmp_path / "labels.csv").read_text() == "mine"
    assert not (tmp_path / "momkd.yaml").exists()


@pytest.mark.parametrize("convention", ["clam", "patho-bench", "stamp"])
def test_out_and_in_again(project: Path, tmp_path: Path, convention: str) -> None:
    audit, folds = look(config := project / "momkd.yaml")
    export_tables(config, tmp_path / "out", convention=convention)
    imported = _import(convention, tmp_path / "out", project, tmp_path / "in" / "momkd.yaml")
    again, folds_again = look(imported)
    assert cases_of(again) == cases_of(audit)
    known = {c[0] for c in cases_of(audit)}
    if convention == "stamp":  # its splits have two sides
        assert [f.test for f in folds_again] == [f.test for f in folds]
        # and the second time they are what they were
        export_tables(imported, tmp_path / "out2", convention="stamp")
        first = (tmp_path / "out" / "crossval" / "splits.json").read_text()
        second = (tmp_path / "out2" / "crossval" / "splits.json").read_text()
        assert _sorted_splits(first) == _sorted_splits(second)
    else:
        assert sides(folds_again, known) == sides(folds, known)
    # our own form beside it holds everything
    kept = pd.read_csv(tmp_path / "out" / "folds.csv")
    assert set(kept["split"]) == {"train", "val", "test"}
    with_bare = {c.case_id for c in audit.cohort.cases}
    assert set(kept["case_id"]) == with_bare


def _sorted_splits(text: str) -> list[tuple[list[str], list[str]]]:
    content = yaml.safe_load(text)["splits"]
    return [(sorted(s["train_patients"]), sorted(s["test_patients"])) for s in content]


def _import(convention: str, out: Path, project: Path, config: Path) -> Path:
    features = [project / "trident"]
    if convention == "clam":
        return init_from_clam(out / "dataset.csv", out / "splits", features=features, output=config)
    if convention == "patho-bench":
        return init_from_patho_bench(out / "k=all.tsv", features=features, output=config)
    return init_from_stamp(out / "config.yaml", output=config)


def test_slideflow_and_trident(project: Path, tmp_path: Path) -> None:
    audit, _ = look(config := project / "momkd.yaml")
    report = export_tables(config, tmp_path / "sf", convention="slideflow")
    assert "1 cases have RNA and no slide: slideflow has no row for them" in report.notes
    path = init_from_slideflow(
        tmp_path / "sf" / "annotations.csv",
        features=[project / "trident"],
        target="HER2",
        output=tmp_path / "momkd.yaml",
    )
    assert cases_of(look(path)[0]) == cases_of(audit)
    export_tables(config, tmp_path / "tr", convention="trident")
    listed = (tmp_path / "tr" / "wsi.csv").read_text().splitlines()
    assert listed[1:] == [f"{s}.svs" for s in sorted(audit.cohort.slides)]


def test_what_an_import_cannot_do_is_said(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"G16.*patho-bench"):
        export_tables(project / "momkd.yaml", tmp_path, convention="camelyon")
    with pytest.raises(ConfigError, match=r"G16.*stamp, clam"):
        export_predictions(tmp_path, tmp_path, convention="csv")
    (tmp_path / "d.csv").write_text("case_id,slide_id,label\na,s,x\nb,t,y\n")
    (tmp_path / "splits").mkdir()
    with pytest.raises(DataError, match=r"K13.*splits_0.csv"):
        init_from_clam(
            tmp_path / "d.csv", tmp_path / "splits", features=[project], output=tmp_path / "m.yaml"
        )
    (tmp_path / "splits" / "splits_0.csv").write_text(",train,val,test\n0,s,t,\n")
    with pytest.raises(ConfigError, match=r"G09.*x \(1\), y \(1\)"):
        init_from_clam(
            tmp_path / "d.csv", tmp_path / "splits", features=[project], output=tmp_path / "m.yaml"
        )
    assert not (tmp_path / "m.yaml").exists()


def test_a_refused_import_leaves_nothing(project: Path, tmp_path: Path) -> None:
    (tmp_path / "clini.csv").write_text("PATIENT,y\na,u\nb,v\n")
    (tmp_path / "slide.csv").write_text("PATIENT,FILENAME\na,s.h5\nb,t.h5\n")
    (tmp_path / "config.yaml").write_text(
        "crossval: {clini_table: clini.csv, slide_table: slide.csv, feature_dir: f,"
        " ground_truth_label: y}\n"
    )
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="G09"):
        init_from_stamp(
            tmp_path / "config.yaml", features=[project / "trident"], output=tmp_path / "momkd.yaml"
        )
    assert sorted(tmp_path.iterdir()) == before
    path = init_from_stamp(
        tmp_path / "config.yaml",
        features=[project / "trident"],
        output=tmp_path / "momkd.yaml",
        positive=["u"],
        negative=["v"],
    )
    assert yaml.safe_load(path.read_text())["data"]["clinical"] == "clinical.csv"
