"""A finished run's memory shown by the command line, with the genes of its training cases."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from momkd.data.expression import read_expression
from momkd.data.features import read_bag
from momkd.data.panel import Panel
from momkd.data.rna.options import RnaOptions
from momkd.errors import IntegrityError
from momkd.evaluation.rank_correlation import correlate_ranks
from momkd.workflows.atlas.genes import read_genes
from momkd.workflows.atlas.trained_memory import find_memory
from tests.journeys.run_momkd import momkd
from tests.page_reader import PageReader, faults_of

TRAINING = "momkd/seed-0/fold-0"


@pytest.fixture(scope="module")
def atlas(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The atlas of the run's first training."""
    folder = tmp_path_factory.mktemp("atlas")
    answer = momkd("memory", finished_run, "-o", folder)
    assert answer.code == 0, answer.err
    assert f"{TRAINING}: the first by seed and fold" in answer.out
    assert "genes: see slot_genes.csv" in answer.out
    return folder


def test_the_page_shows_the_slides_that_the_training_was_tested_on(
    finished_run: Path, atlas: Path
) -> None:
    html = (atlas / "memory.html").read_text(encoding="utf-8")
    assert faults_of(html) == []
    words = " ".join(PageReader(html).words.split())
    assert "it has not seen them" in words
    assert "Over the" in words
    assert "intervals over all cases" in words
    assert "Perplexity" in words
    table = pd.read_csv(finished_run / TRAINING / "predictions.csv")
    tested = set(table.loc[table["split"] == "test", "slide_id"])
    assert {p.stem for p in (atlas / "scores").iterdir()} == tested
    assert not [slide for slide in tested if slide in html], "the page names slides"
    places = pd.read_csv(atlas / "map.csv")
    assert set(places["kind"]) == {"slot", "slide", "RNA"}
    assert len(pd.read_csv(atlas / "slots.csv")) == 32


def test_genes_are_correlated_over_training_cases_with_slide_and_rna(
    finished_run: Path, atlas: Path, made_cohort: Path
) -> None:
    panel = Panel.from_json((finished_run / TRAINING / "panel.json").read_text())
    cohort = pd.read_csv(finished_run / "cohort.csv", dtype=str, keep_default_na=False)
    sides = pd.read_csv(finished_run / "folds.csv", dtype={"case_id": str})
    train = sides[(sides["fold"] == 0) & (sides["split"] == "train")]["case_id"]
    both = cohort[(cohort["slide_id"] != "") & (cohort["rna_id"] != "")]
    cases = sorted(set(train) & set(both["case_id"]))
    rna = read_expression(made_cohort / "rna.csv.gz", RnaOptions()).expression
    model = find_memory(finished_run, TRAINING).model
    uses = []
    for case in cases:
        of_case = []
        for slide in both[both["case_id"] == case]["slide_id"]:
            _, points = model.read_slots(read_bag(made_cohort / "features" / f"{slide}.h5"))
            products = points @ model.memory.unit()[1].T
            of_case.append(float((products.argmax(dim=1) == 2).float().mean()))
        uses.append([np.mean(of_case)])
    wanted = correlate_ranks(np.array(uses), panel.transform(rna, cases))
    with (atlas / "slot_genes.csv").open(newline="") as stream:
        rows = [
            r for r in csv.DictReader(stream) if (r["class_name"], r["slot"]) == ("positive", "3")
        ]
    found = {row["gene"]: float(row["rho"]) for row in rows}
    assert {int(row["n_cases"]) for row in rows} == {len(cases)}
    for column, gene in enumerate(panel.genes):
        if np.isfinite(wanted.rho[0, column]):
            assert found[gene] == pytest.approx(wanted.rho[0, column], abs=1e-4)
        else:
            assert gene not in found


def test_rna_stands_where_training_put_it(finished_run: Path) -> None:
    genes, why = read_genes(find_memory(finished_run))
    assert genes is not None, why
    assert genes.rna_points is not None
    assert genes.slide_points is not None
    for points in (genes.rna_points, genes.slide_points):
        np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-5)
    assert len(genes.rna_points) == len(genes.case_ids) == genes.all_cases.n_cases


def test_p19_data_that_are_no_longer_those_of_the_training_are_refused(
    finished_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    card = run / TRAINING / "predictor" / "config.json"
    content = json.loads(card.read_text())
    content["provenance"]["cohort"] = "0" * 64
    card.write_text(json.dumps(content))
    with pytest.raises(IntegrityError, match=r"\[P19\].*not those that the predictor was trained"):
        read_genes(find_memory(run))
    (run / TRAINING / "panel.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"\[P19\].*not the panel"):
        read_genes(find_memory(run))
    (run / TRAINING / "panel.json").unlink()
    assert "no panel of genes" in read_genes(find_memory(run))[1]
