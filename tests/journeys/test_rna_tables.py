"""RNA as it comes, through the command line: a folder of STAR counts, an AnnData file, a matrix."""

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import yaml

from tests.journeys.run_momkd import momkd, refused
from tests.unit.rna_files import star_name, star_text, write_anndata


def _as_star(cohort: Path) -> Path:
    """Write the cohort's RNA as the GDC would: one file an aliquot, cases in the metadata."""
    table = pd.read_csv(cohort / "rna.csv.gz", dtype={"case_id": str}).set_index("case_id")
    genes = [f"G{i}" for i in range(table.shape[1] - 1)] + ["ERBB2"]
    ids = [f"ENSG{i:011d}.7" for i in range(table.shape[1])]
    folder, entries = cohort / "star", []
    for i, (case, values) in enumerate(table.iterrows()):
        unit = f"{i:08d}-0000"
        (folder / unit).mkdir(parents=True)
        text = star_text(np.round(2 ** values.to_numpy(), 4), ids, genes)
        (folder / unit / star_name(unit)).write_text(text)
        kind = "Solid Tissue Normal" if i == 0 else "Primary Tumor"
        sample = {"submitter_id": f"{case}-s", "sample_type": kind}
        cases = [{"submitter_id": case, "samples": [sample]}]
        entries.append({"file_name": star_name(unit), "file_id": unit, "cases": cases})
    (folder / "metadata.json").write_text(json.dumps(entries))
    return folder


def test_a_folder_of_star_counts_needs_no_flag(cohort: Path, tmp_path: Path) -> None:
    folder = _as_star(cohort)
    config = cohort / "star.yaml"
    made = momkd(
        *("init", "--features", cohort / "features", "--clinical", cohort / "clinical.csv"),
        *("--rna", folder, "--target", "biomarker", "-o", config),
    )
    assert made.code == 0, made.err
    assert "GDC STAR counts" in made.out + made.err
    assert yaml.safe_load(config.read_text())["data"]["rna"] == "star"
    answer = momkd("check", "-c", config, "-o", tmp_path / "a")
    assert answer.code == 0, answer.err
    for needle in ("4 summary rows a file left out", "log2(x + 1) taken", "1 of type 11"):
        assert needle in answer.out, answer.out
    dropped = pd.read_csv(tmp_path / "a" / "dropped.csv", dtype=str)
    assert (dropped.loc[dropped["code"] == "O03", "kind"] == "rna").sum() == 1
    (folder / "metadata.json").unlink()
    refused(momkd("check", "-c", config), 3, "[O04]", "rna_samples")


def test_inspect_describes_forms_and_refuses_what_is_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        values = rng.gamma(2, 50, (4, 5))
        write_anndata(
            file,
            values,
            [f"TCGA-AA-000{i}-{t}A" for i, t in enumerate(("01", "01", "11", "06"))],
            "csr",
        )
    matrix = tmp_path / "TCGA-X.star_tpm.tsv"
    matrix.write_text(
        "Ensembl_ID\tTCGA-AA-0001-01A\nENSG00000141736.1\t3.5\nENSG00000091831.2\t0\n"
    )
    (tmp_path / "empty").mkdir()
    answer = momkd("inspect", tmp_path / "a.h5ad", matrix, tmp_path / "empty")
    refused(answer, 3, "[O16]", "STAR files")
    for needle in (
        *("AnnData/MuData", "2 cases x 5 genes", "samples by type: 2 01, 1 06, 1 11"),
        *("Xena GDC matrix", "scale log2 (by its form)", "1 cases x 2 genes"),
    ):
        assert needle in answer.out, answer.out
