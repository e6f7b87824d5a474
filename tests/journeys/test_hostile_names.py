"""Cases, slides, sites and genes called what no table and no page expects, down the whole road.

Catalogue R01 to R05, B9: such names are text wherever they appear, files where a disk takes them,
and no case is lost over them.
"""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from momkd.simulation import SimulationOptions, simulate, write_cohort
from momkd.storage import plain_cell
from momkd.workflows.run_folder import read_predictions
from tests.journeys.run_momkd import momkd
from tests.page_reader import PageReader, faults_of

HOSTILE = (
    *("<script>alert(1)<|script>", '"><img src=x onerror=alert(1)>', "=cmd|' |C calc'!A0"),
    *("+1+1", "-2", "@SUM(A1)", "C:\\a", "%2e%2e%2fetc", "\u202egpj", "é" * 100, "x" * 200),
    *('a,b"c', "Slide", "slide", "#1 [x](y)", "$x_{ \\alpha", "NULL", "nan", "NA", "1e5", "007"),
)
N_CASES = 75
CONFIG = """
data:
  features: features
  clinical: clinical.csv
  rna: rna.csv.gz
  target: {column: biomarker, positive: positive, negative: negative}
model: {name: momkd, dim: 16, dim_shared: 16}
fit: {epochs: 2}
folds: {n: 2}
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of such names and its cross-validation, in ``run``."""
    root = tmp_path_factory.mktemp("hostile")
    size = {"n_cases": N_CASES, "grid_side": 6, "dim": 24, "n_genes": 60, "prevalence": 0.4}
    write_cohort(simulate(SimulationOptions(**size, equivocal=0.0, two_slides=0.0)), root)
    clinical = pd.read_csv(root / "clinical.csv", dtype=str)
    named = dict(zip(clinical["case_id"], HOSTILE, strict=False))
    named |= {c: f"{c}<b>" for c in clinical["case_id"][len(HOSTILE) :]}
    for case, slide in zip(clinical["case_id"], clinical["slide_id"], strict=True):
        path = root / "features" / f"{slide}.h5"
        path.rename(path.with_name(f"{named[case]}-A.h5"))
    clinical["case_id"] = clinical["case_id"].map(named)
    clinical["slide_id"] = clinical["case_id"] + "-A"
    clinical["site"] = "<i>" + clinical["site"]
    clinical.to_csv(root / "clinical.csv", index=False)
    rna = pd.read_csv(root / "rna.csv.gz", dtype=str)
    rna["case_id"] = rna["case_id"].map(named)
    genes = [*HOSTILE[:6], *rna.columns[7:]]
    rna.set_axis(["case_id", *genes], axis=1).to_csv(root / "rna.csv.gz", index=False)
    (root / "momkd.yaml").write_text(CONFIG, encoding="utf-8")
    answer = momkd("crossval", "-c", root / "momkd.yaml", "-o", root / "run")
    assert answer.code == 0, answer.err
    return root


@pytest.mark.slow
def test_no_case_is_lost_over_its_name(hostile: Path) -> None:
    tested = read_predictions(hostile / "run")
    assert set(HOSTILE) <= set(tested["case_id"])
    metrics = json.loads((hostile / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["models"]["momkd"]["n_cases"] == N_CASES


@pytest.mark.slow
def test_names_are_text_on_every_page_and_in_every_table(hostile: Path, tmp_path: Path) -> None:
    run, scores = hostile / "run", hostile / "run" / "attention"
    answer = momkd("memory", run, "-o", run / "atlas")
    assert answer.code == 0, answer.err
    out = (tmp_path / "p.csv", "--attention", scores, "--heatmaps", run / "heatmaps")
    answer = momkd("predict", hostile / "features", "--model", run, "-o", *out)
    assert answer.code == 0, answer.err
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as stream:
        cells = [row["slide_id"] for row in csv.DictReader(stream)]
    assert {plain_cell(cell) for cell in cells} >= {f"{name}-A" for name in HOSTILE}
    assert not [cell for cell in cells if cell[0] in "=+-@"]
    stored = {p.name for p in (scores / "momkd").iterdir()}
    assert len({name.casefold() for name in stored}) == N_CASES
    for path in (run / "heatmaps").rglob("*.svg"):
        assert "<script" not in path.read_text(encoding="utf-8")
    answer = momkd("report", run, "--cases", "75", "--examples", "3")
    assert answer.code == 0, answer.err
    for page in (run / "report.html", run / "atlas" / "memory.html"):
        html = page.read_text(encoding="utf-8")
        assert faults_of(html) == []
        tags = {tag for tag, _ in PageReader(html).tags}
        assert not tags & {"i", "b"}, f"{page.name}: a name has become a tag"
        assert str(hostile) not in html, "R08: where the run lies is nobody's business"
    words = PageReader((run / "report.html").read_text(encoding="utf-8")).words
    assert all(name in words for name in HOSTILE[:8])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["hub", "stamp-csv", "clam-csv"])
def test_exports_hold_the_names_and_nothing_else(hostile: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "deep" / "out"
    answer = momkd("export", hostile / "run", "--to", form, "-o", out)
    assert answer.code == 0, answer.err
    written = {p for p in tmp_path.rglob("*") if p.is_file()}
    assert written, "something was written"
    assert all(p.is_relative_to(out) for p in written)
    for path in out.rglob("*.csv"):
        with path.open(encoding="utf-8", newline="") as stream:
            assert not [c for row in csv.reader(stream) for c in row if c[:1] in "=@"]
