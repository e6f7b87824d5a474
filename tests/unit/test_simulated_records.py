"""How simulated cohorts are written down: plainly to the byte as ever, or as tables come."""

import json
from pathlib import Path

import numpy as np
import pytest

from momkd.config import parse_options
from momkd.data.barcodes import parse_barcode, slide_kind_of
from momkd.data.clinical import ColumnOptions, TargetOptions, read_clinical
from momkd.data.expression import read_expression
from momkd.errors import ConfigError
from momkd.simulated.files import clinical_csv, rna_csv_gz
from momkd.simulated.records import draw_samples, name_by_barcodes
from momkd.simulation import (
    AS_THEY_COME,
    RecordOptions,
    SimulatedCohort,
    SimulationOptions,
    simulate,
    write_cohort,
)

SMALL = {"n_cases": 60, "n_genes": 60, "n_sites": 5, "dim": 24, "grid_side": 6, "prevalence": 0.4}

# written by the first version of the simulator; a new option must not change it
GOLDEN = {"n_cases": 8, "n_genes": 20, "dim": 24, "grid_side": 4, "seed": 3}
GOLDEN |= {"equivocal": 0.15, "two_slides": 0.2}
PLAIN_CLINICAL = """case_id,slide_id,site,biomarker
SIM3-1,SIM3-1-A,S001,negative
SIM3-2,SIM3-2-A,S007,positive
SIM3-2,SIM3-2-B,S007,positive
SIM3-3,SIM3-3-A,S018,equivocal
SIM3-3,SIM3-3-B,S018,equivocal
SIM3-4,SIM3-4-A,S001,positive
SIM3-5,SIM3-5-A,S010,negative
SIM3-6,SIM3-6-A,S000,positive
SIM3-7,SIM3-7-A,S013,negative
SIM3-8,SIM3-8-A,S007,negative
"""


def small(**changes: object) -> SimulatedCohort:
    return simulate(SimulationOptions(**{**SMALL, **changes}))


def as_come(**changes: object) -> SimulatedCohort:
    return name_by_barcodes(small(**changes))


def test_plain_tables_are_those_of_the_first_version() -> None:
    cohort = simulate(SimulationOptions(**GOLDEN))
    assert clinical_csv(cohort) == PLAIN_CLINICAL
    assert clinical_csv(cohort, RecordOptions()) == PLAIN_CLINICAL
    np.testing.assert_allclose(cohort.rna[[0, 7], [0, 19]], [5.2638669, 5.9970608], rtol=1e-5)
    embedding = cohort.slides[5].embeddings[4, [0, 23]]
    np.testing.assert_allclose(embedding, [1.1619442, -0.9641550], rtol=1e-5)
    assert rna_csv_gz(cohort) == rna_csv_gz(cohort, RecordOptions())


def test_the_record_is_named_in_the_truth_only_where_it_is_not_plain(tmp_path: Path) -> None:
    cohort = small(n_cases=4)
    for name, record in (("none", None), ("plain", RecordOptions()), ("come", AS_THEY_COME)):
        write_cohort(cohort, tmp_path / name, record)
    none, plain, come = (tmp_path / n / "truth.json" for n in ("none", "plain", "come"))
    assert none.read_bytes() == plain.read_bytes()
    assert "record" not in json.loads(plain.read_text())
    assert json.loads(come.read_text())["record"] == AS_THEY_COME.model_dump()


def test_barcodes_are_read_as_such_and_name_no_patient() -> None:
    cohort = as_come(two_slides=0.2)
    codes = [parse_barcode(c) for c in cohort.case_ids]
    assert all(
        code is not None and len(c) == 12 for c, code in zip(cohort.case_ids, codes, strict=True)
    )
    assert {c[8] for c in cohort.case_ids} <= set("BCDEFGHIJKLMNOPQRSTUVWXYZ")
    others = [as_come(seed=seed).case_ids for seed in range(5)]
    assert len({c for ids in others for c in ids}) == 5 * SMALL["n_cases"]
    by_site = {(c[5:7], int(s)) for c, s in zip(cohort.case_ids, cohort.sites, strict=True)}
    assert len(by_site) == len({s for _, s in by_site})
    assert len({s.slide_id for s in cohort.slides}) == 72
    assert {slide_kind_of(s.slide_id) for s in cohort.slides} == {"DX"}
    assert all(s.slide_id.startswith(cohort.case_ids[s.case]) for s in cohort.slides)


def test_a_site_that_two_characters_cannot_hold_is_refused() -> None:
    assert as_come(first_site=1291).case_ids[0].startswith("TCGA-Z")
    with pytest.raises(ConfigError, match="1296"):
        as_come(first_site=1292)


def test_of_several_samples_the_reader_takes_the_case_s_own(tmp_path: Path) -> None:
    cohort = as_come(without_rna=0.1)
    record = RecordOptions(barcodes=True, aliquots=0.5, other_samples=0.2, counts=True)
    path = tmp_path / "rna.csv.gz"
    path.write_bytes(rna_csv_gz(cohort, record))
    found = read_expression(path)
    assert found.sample_types == {"01": 54 + 27, "06": 6, "11": 5}
    assert sorted(s.code for s in found.left_out) == ["O02"] * 27 + ["O03"] * 11
    assert found.expression.scale == "log2"
    place = {c: i for i, c in enumerate(cohort.case_ids)}
    rows = [place[c] for c in found.expression.case_ids]
    assert sorted(rows) == np.flatnonzero(cohort.has_rna).tolist()
    expected = np.round(np.exp2(np.maximum(cohort.rna[rows], 0).astype(np.float64)) - 1)
    np.testing.assert_allclose(np.exp2(found.expression.values) - 1, expected, rtol=1e-4, atol=1e-4)


def test_other_samples_show_what_their_tissue_has() -> None:
    cohort = as_come(n_cases=400, n_genes=400, grid_side=3, without_slide=0.99, two_slides=0.0)
    record = RecordOptions(barcodes=True, aliquots=0.5, other_samples=1.0)
    samples = draw_samples(cohort, record)
    world = cohort.world
    own = {c: i for i, c in enumerate(cohort.case_ids)}
    case = np.array([own[text[:12]] for text in samples.ids])
    kind = np.array([text[13:15] for text in samples.ids])
    plate = np.array([text[21:23] for text in samples.ids])
    residual = samples.values - world.gene_means - world.site_genes[cohort.sites[case]]
    shown = residual @ np.linalg.pinv(world.loadings)
    for which, correlated in (("06", True), ("11", False)):
        rows = kind == which
        assert rows.sum() == 200
        r = np.corrcoef(shown[rows, 0], cohort.programmes[case[rows], 0])[0, 1]
        assert (r > 0.85) if correlated else (abs(r) < 0.3)
    again = (kind == "01") & (plate == "A1")
    assert again.sum() == 200
    assert np.corrcoef(shown[again, 0], cohort.programmes[case[again], 0])[0, 1] > 0.85
    first = {c: i for i, c in enumerate(case) if kind[i] == "01" and plate[i] == "A2"}
    pairs = residual[again] - residual[[first[c] for c in case[again]]]
    assert pairs.std() > 1.2  # noise of its own: sqrt(2) of the measurement's 1


def test_rows_that_stand_twice_change_no_label(tmp_path: Path) -> None:
    cohort = small(equivocal=0.1)
    target = TargetOptions(
        column="biomarker", positive=["positive"], negative=["negative"], exclude=["equivocal"]
    )
    tables = {}
    for name, record in (("plain", RecordOptions()), ("twice", RecordOptions(duplicate_rows=0.2))):
        path = tmp_path / f"{name}.csv"
        path.write_text(clinical_csv(cohort, record))
        tables[name] = read_clinical(path, target, ColumnOptions())
    n_rows = len(cohort.slides)
    text = (tmp_path / "twice.csv").read_text().splitlines()
    assert len(text) - 1 == n_rows + round(0.2 * n_rows)
    assert sum(line.rpartition(",")[2][0].isupper() for line in text[1:]) == round(0.2 * n_rows)
    plain, twice = ({r.case_id: (r.label, r.slide_ids) for r in t.rows} for t in tables.values())
    assert plain == twice
    assert any("collapsed" in note for note in tables["twice"].notes)


@pytest.mark.parametrize("change", [{"aliquots": 0.1}, {"other_samples": 0.1}])
def test_samples_that_nothing_tells_apart_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="barcodes"):
        parse_options(RecordOptions, change, "simulation")


def test_the_truth_holds_every_exact_posterior_that_its_law_has(tmp_path: Path) -> None:
    wanted = {
        "plain": ({}, set()),
        "foci": ({"foci": True}, {"focus_probability", "niche_known_probability"}),
        "site": ({"gamma": 0.9}, {"site_known_probability"}),
    }
    for name, (changes, more) in wanted.items():
        cohort = small(n_cases=12, **changes)
        write_cohort(cohort, tmp_path / name)
        truth = json.loads((tmp_path / name / "truth.json").read_text())
        for slide in truth["slides"].values():
            probabilities = {k: v for k, v in slide.items() if k.endswith("_probability")}
            assert set(probabilities) == {"bayes_probability"} | more
            assert len(set(probabilities.values())) == len(probabilities)
        assert sum("on_these_slides" in k for k in truth["ceilings"]) == 1 + len(more)
