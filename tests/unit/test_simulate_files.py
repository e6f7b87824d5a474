"""What ``momkd simulate`` writes runs at once; what it cannot do, it says in one line."""

import json
from itertools import combinations
from pathlib import Path

import h5py
import pytest
import yaml

import momkd
from momkd.errors import ConfigError, MachineError, MomkdError
from momkd.simulation import SCENARIOS, PaintingOptions, RecordOptions, SimulationOptions
from momkd.workflows import simulate as verb
from momkd.workflows.settings import load_settings

QUICK = ("n_genes=60", "dim=24", "grid_side=5", "n_sites=4", "prevalence=0.4")


def written(
    folder: Path, scenario: str = "default", *changes: str, cases: int = 60, **more: object
):
    return momkd.simulate(scenario, folder, cases=cases, set_=(*QUICK, *changes), **more)


def test_the_written_cohort_passes_the_check_with_all_its_disorder(tmp_path: Path) -> None:
    report = written(tmp_path / "cohort", "unpaired-50", cases=80)
    found = momkd.check(report.config)
    assert found.counts["cases listed"] == 80
    assert found.counts["cases left out"] == report.counts["cases equivocal"] == 2
    assert found.counts["cases with slide only"] in (38, 39, 40)
    assert found.counts["cases with RNA only"] in (2, 3, 4)
    said = "\n".join(found.notes)
    for words in ("repeat a case and slide", "of type 06", "passed over by rule", "scale counts"):
        assert words in said
    assert report.next_steps == (f"momkd check -c {report.config}",)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_writes_a_configuration_and_its_truth(tmp_path: Path, scenario: str) -> None:
    report = written(tmp_path / "d", scenario, cases=12)
    assert load_settings([report.config]).data.target.exclude == ["equivocal"]
    truth = json.loads((tmp_path / "d" / "truth.json").read_text())
    wanted = SimulationOptions(**SCENARIOS[scenario]).model_dump(mode="json")
    for name in SCENARIOS[scenario]:
        # the quick size of the tests overrides one of them
        assert name == "prevalence" or truth["options"][name] == wanted[name]
    assert len(truth["cases"]) == 12
    assert set(truth["slides"]) == {p.stem for p in (tmp_path / "d" / "features").iterdir()}
    assert report.ceilings == truth["ceilings"]
    assert report.ceilings["latents"] == (
        0.5 if scenario == "null" else pytest.approx(0.9, abs=0.1)
    )


def test_equal_calls_give_equal_bytes_and_another_seed_or_world_does_not(tmp_path: Path) -> None:
    calls = {"one": {}, "same": {}, "seed": {"seed": 1}, "world": {"world": 1}}
    for name, more in calls.items():
        written(tmp_path / name, cases=8, **more)

    def content(name: str) -> dict[str, bytes]:
        folder = tmp_path / name
        return {
            str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }

    assert content("one") == content("same")
    for other in ("seed", "world"):
        for table in ("clinical.csv", "rna.csv.gz", "truth.json"):
            assert content("one")[table] != content(other)[table]


def test_slides_are_painted_and_the_way_to_their_features_is_told(tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    report = written(tmp_path / "d", "easy", "tile_px=24", "mpp=2.5", cases=3, slides=True)
    assert len(list((tmp_path / "d" / "slides").glob("TCGA-*.tif"))) == report.counts["slides"]
    assert report.next_steps[0].endswith("features --tile-px 24 --view-mpp 2.5")
    truth = json.loads((tmp_path / "d" / "truth.json").read_text())
    assert truth["tile_px0"] == 24
    assert not any("on_these_slides" in name for name in report.ceilings)


def test_an_empty_folder_is_filled_and_a_file_or_a_full_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    written(tmp_path / "empty", cases=3)
    assert yaml.safe_load((tmp_path / "empty" / "momkd.yaml").read_text())["data"]["features"]
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "empty").rglob("*")}
    (tmp_path / "file").write_text("")
    for name in ("empty", "file"):
        with pytest.raises(ConfigError, match="G08"):
            written(tmp_path / name, cases=3)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "empty").rglob("*")} == before


@pytest.mark.parametrize(
    ("scenario", "changes", "words"),
    [
        ("defalt", (), ("G04", "did you mean default", "site-shortcut")),
        ("default", ("rhoo=0.1",), ("G03", "did you mean rho")),
        ("default", ("rho=2",), ("G04", "rho", "got 2")),
        ("default", ("rho",), ("G02", "wanted key.path=value")),
        ("default", ("mpp=2",), ("G04", "add --slides")),
        ("default", ("first_site=1290", "n_sites=10"), ("G04", "first_site", "1299")),
        ("default", ("barcodes=false", "aliquots=0.1"), ("G04", "barcodes=true")),
        ("default", ("n_cases=1",), ("G04", "n_cases")),
    ],
)
def test_what_makes_no_cohort_is_refused_before_anything_is_written(
    tmp_path: Path, scenario: str, changes: tuple[str, ...], words: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as refusal:
        momkd.simulate(scenario, tmp_path / "d", cases=4, set_=changes)
    assert len(refusal.value.problems) == 1
    for word in words:
        assert word in refusal.value.problems[0].line()
    assert not list(tmp_path.iterdir())


def test_without_barcodes_a_case_has_one_sample(tmp_path: Path) -> None:
    report = written(tmp_path / "d", "default", "barcodes=false", cases=20)
    truth = json.loads((tmp_path / "d" / "truth.json").read_text())
    assert truth["record"]["aliquots"] == truth["record"]["other_samples"] == 0
    assert min(truth["cases"]) == "SIM0-01"
    assert momkd.check(report.config, set_=["folds.n=2"]).counts["rnas listed"] == 19


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_is_broken_off_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    def fail(*_: object) -> None:
        assert list(tmp_path.rglob("*.h5"))
        raise fault

    monkeypatch.setattr(verb, "write_text", fail)
    with pytest.raises((MachineError, KeyboardInterrupt)) as stopped:
        written(tmp_path / "d", cases=3)
    assert not isinstance(stopped.value, MomkdError) or "X10" in str(stopped.value)
    assert not list(tmp_path.iterdir())


def test_an_option_belongs_to_one_of_the_three(tmp_path: Path) -> None:
    fields = [set(c.model_fields) for c in (SimulationOptions, RecordOptions, PaintingOptions)]
    assert all(not a & b for a, b in combinations(fields, 2))
    report = written(tmp_path / "d", "default", "dim=32", cases=3)
    first = next((report.folder / "features").iterdir())
    with h5py.File(first) as file:
        assert file["features"].shape[1] == 32
