"""A search for options: equal proposals after a stop, equal budgets, and no test case in it."""

import csv
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from momkd.errors import ConfigError, DataError, InterruptedRunError, MachineError, ModelError
from momkd.fitting.search import Range, Space, Trial, best_trial, budget_curve, propose
from momkd.models.search_spaces import SEARCH_SPACES
from momkd.models.table import MODELS
from momkd.simulation import SimulationOptions, simulate, write_cohort
from momkd.types import Cohort, Fold
from momkd.workflows import crossval as workflow
from momkd.workflows import fold_search, sides
from momkd.workflows.audit import audit_cohort
from momkd.workflows.crossval import crossval
from momkd.workflows.fold_job import FoldJob, run_fold
from momkd.workflows.fold_search import read_trials
from momkd.workflows.protocol import make_protocol
from momkd.workflows.searching import defaults_of, require_searchable, space_of, with_options
from momkd.workflows.settings import ModelChoice, Settings, load_settings
from tests.inline_jobs import run_inline

SPACE: Space = {
    "fit.lr": Range(low=1e-5, high=1e-2, log=True),
    "model.dim": [16, 32, 64],
    "model.n_bags": Range(low=2, high=8, whole=True),
    "model.gated": [True, False],
}
DEFAULTS = {"fit.lr": 2e-4, "model.dim": 32, "model.n_bags": 4, "model.gated": True}


def trial(number: int, score: float | None = 0.5, **options: object) -> Trial:
    failure = "" if score is not None else "[T06] lost"
    return Trial(number=number, options=options, score=score, epoch=0, seconds=1.0, failure=failure)


def search(n: int, before: list[Trial] | None = None) -> list[Trial]:
    """Search a made-up landscape, with a failure in it."""
    found = list(before or [])
    while len(found) < n:
        options = propose(SPACE, DEFAULTS, 7, found)
        score = options["model.dim"] / 100 - abs(options["fit.lr"] - 1e-3)
        found.append(
            Trial(
                number=len(found),
                options=options,
                score=None if len(found) == 3 else score,
                epoch=0,
                seconds=0.0,
            )
        )
    return found


def test_a_stopped_search_proposes_what_it_would_have() -> None:
    whole = search(14)
    for stop in (1, 5, 12):
        rows = [json.loads(json.dumps(dict(t.options))) for t in whole[:stop]]
        kept = [
            Trial(number=t.number, options=o, score=t.score, epoch=0, seconds=9.0)
            for t, o in zip(whole, rows, strict=False)
        ]
        assert search(14, kept)[stop:] == whole[stop:]
    assert whole[0].options == DEFAULTS
    assert len({json.dumps(dict(t.options)) for t in whole}) > 10
    for t in whole:
        assert 1e-5 <= t.options["fit.lr"] <= 1e-2
        assert type(t.options["model.n_bags"]) is int


def test_defaults_outside_the_space_are_tried_all_the_same() -> None:
    far = DEFAULTS | {"model.dim": 500}
    assert propose(SPACE, far, 0, []) == far
    second = propose(SPACE, far, 0, [trial(0, **far)])
    assert second["model.dim"] in (16, 32, 64)


def test_the_first_of_equals_is_best_and_failures_never_are() -> None:
    assert best_trial([trial(0, 0.6), trial(1, 0.6), trial(2, None)]).number == 0
    assert best_trial([trial(0, None), trial(1, 0.1)]).number == 1
    with pytest.raises(ModelError, match=r"T21.*all 2 trials failed; the first: \[T06\] lost"):
        best_trial([trial(0, None), trial(1, None)])


def test_the_budget_curve_never_falls() -> None:
    trials = [trial(i, s) for i, s in enumerate([0.5, 0.4, None, 0.7, 0.6, 0.65])]
    assert budget_curve(trials) == {1: 0.5, 2: 0.5, 4: 0.7, 6: 0.7}
    assert budget_curve(trials[:1]) == {1: 0.5}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    options = SimulationOptions(n_cases=24, dim=24, n_genes=20, grid_side=3, prevalence=0.5)
    write_cohort(simulate(options), folder)
    config = {
        "data": {
            "features": "features",
            "clinical": "clinical.csv",
            "rna": "rna.csv.gz",
            "target": {"column": "biomarker", "positive": "positive", "negative": "negative"},
        },
        "fit": {"epochs": 2, "batch_size": 8},
        "folds": {"n": 2, "val_fraction": 0.25},
        "panel": {"n_genes": 8},
        "model": {"name": "abmil", "dim": 16, "dim_attention": 8},
        "search": {
            "trials": 3,
            "spaces": {
                "abmil": {"fit.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "model.dim": [8, 16]},
                "momkd": {"model.n_slots": [2, 4, 8], "model.weights.align_wsi": [0.1, 0.2]},
            },
        },
    }
    (folder / "momkd.yaml").write_text(yaml.safe_dump(config))
    return folder


def settings_of(cohort: Path, *changes: str) -> Settings:
    return load_settings([cohort / "momkd.yaml"], changes)


@pytest.mark.parametrize("name", [*MODELS])
def test_every_model_has_a_space_that_holds_its_defaults(cohort: Path, name: str) -> None:
    settings = settings_of(cohort, "search={trials: 3}", "fit.batch_size=16")
    choice = ModelChoice(name=name)
    require_searchable([choice], settings)
    space = space_of(choice, settings.search)
    assert set(space) == set(SEARCH_SPACES[name])
    for key, value in defaults_of(choice, settings, space).items():
        dimension = space[key]
        if isinstance(dimension, Range):
            assert dimension.low <= value <= dimension.high, key
        else:
            assert value in dimension, key


@pytest.mark.parametrize(
    ("spaces", "words"),
    [
        ("{abmil: {model.dropuot: [0.1]}}", r"G03.*dropuot: unknown key; did you mean dropout"),
        ("{abmil: {model.dropout: [0.1, 2]}}", r"G04.*dropout.*got 2"),
        ("{abmil: {model.dropout: {low: 0.5, high: 1}}}", r"G04.*dropout.*got 1"),
        ("{abmil: {fit.lr: {low: -1, high: 1}}}", r"G04.*fit|lr.*got -1"),
        ("{abmil: {fit.epochs: [5, 500]}}", r"G20.*fit.epochs: is not searched"),
        ("{abmil: {data.neighbours: [4]}}", r"G20.*data.neighbours: is not searched"),
        ("{abmil: {model.preset: [code]}}", r"G20.*model.preset: is not searched"),
        ("{abmil: {model.dim: []}}", r"G20.*model.dim: holds no value"),
        ("{momkd: {model.weights: [1]}}", r"G04.*weights"),
        ("{abml: {model.dim: [4]}}", r"G05.*unknown model 'abml'"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(cohort: Path, spaces: str, words: str) -> None:
    settings = settings_of(cohort, f"search={{trials: 2, spaces: {spaces}}}")
    with pytest.raises(ConfigError, match=words):
        require_searchable([settings.model, ModelChoice(name="momkd")], settings)


@pytest.mark.parametrize("ends", ["low: 2, high: 1", "low: 0, high: 1, log: true", "low: 1"])
def test_a_range_that_is_none_is_refused(cohort: Path, ends: str) -> None:
    with pytest.raises(ConfigError, match=r"G04.*search.spaces.abmil"):
        settings_of(cohort, f"search.spaces={{abmil: {{model.dim: {{{ends}}}}}}}")


def test_what_a_search_needs_is_said_in_a_line(
    cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = settings_of(cohort, "fit.devices=2")
    with pytest.raises(ConfigError, match=r"G20.*does not go together with fit.devices 2"):
        require_searchable([shared.model], shared)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    settings = settings_of(cohort)
    with pytest.raises(MachineError, match=r"G21.*needs Optuna.*pip install 'momkd\[search\]'"):
        require_searchable([settings.model], settings)
    require_searchable([settings.model], settings_of(cohort, "search.trials=0"))


def test_options_are_laid_over_a_job_key_by_key(cohort: Path, tmp_path: Path) -> None:
    settings = settings_of(cohort)
    fold = Fold(index=0, seed=0, train=("a",), val=("b",), test=("c",))
    job = FoldJob(choice=ModelChoice(name="momkd"), seed=0, fold=fold, folder=tmp_path)
    found, changed = with_options(job, settings, {"fit.lr": 1e-3, "model.weights.align_wsi": 0.4})
    weights = found.choice.resolved()["weights"]
    assert (weights["align_wsi"], weights["ce"]) == (0.4, 0.5)
    assert (changed.fit.lr, changed.fit.epochs) == (1e-3, 2)
    assert changed.shared_digest() != settings.shared_digest()


@pytest.fixture(scope="module")
def audited(cohort: Path) -> tuple[Cohort, Fold]:
    settings = settings_of(cohort)
    known = audit_cohort(settings.data).audit.cohort
    return known, make_protocol(known, settings.folds).folds[0]


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Rows of ``search.csv`` without what a clock says."""
    with (folder / "search.csv").open(newline="") as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


@pytest.mark.parametrize("name", ["abmil", "momkd"])
def test_no_trial_reads_a_test_case(
    cohort: Path,
    audited: tuple[Cohort, Fold],
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, fold = audited
    tested = {s for c in known.cases if c.case_id in fold.test for s in c.slide_ids}
    read: set[str] = set()
    plain = sides.read_bag

    def watch(file: object, **how: object) -> object:
        read.add(file.slide_id)
        return plain(file, **how)

    monkeypatch.setattr(sides, "read_bag", watch)
    settings = settings_of(cohort, "search.trials=2", f"model={{name: {name}}}")
    job = FoldJob(choice=settings.model, seed=0, fold=fold, folder=tmp_path)
    given: list[tuple[FoldJob, object]] = []
    ours = fold_search._try

    def look(job: FoldJob, seen: object, *rest: object) -> Trial:
        given.append((job, seen))
        return ours(job, seen, *rest)

    monkeypatch.setattr(fold_search, "_try", look)
    run_fold(job, known, settings)
    assert read
    assert not read & tested
    for blind, seen in given:
        assert blind.fold.test == ()
        for side in (seen.train, seen.val):
            assert not {key.case_id for key in side.keys} & set(fold.test)
            assert not set(side._slides) & tested
    done = json.loads((tmp_path / "done.json").read_text())
    assert done["search"]["trials"] == 2
    assert not (tmp_path / "search").exists()


def stop_after(n: int) -> Callable[[], bool]:
    asked = iter(range(10**6))
    return lambda: next(asked) >= n


class KilledError(Exception):
    """Ends a training where it stands: nothing more is saved."""


def kill_after(n: int) -> Callable[[object], None]:
    told = iter(range(10**6))

    def tell(progress: object) -> None:
        if next(told) >= n:
            raise KilledError

    return tell


def test_a_stopped_search_ends_as_one_that_was_not(
    cohort: Path, audited: tuple[Cohort, Fold], tmp_path: Path
) -> None:
    known, fold = audited
    settings = settings_of(cohort)
    jobs = {
        name: FoldJob(choice=settings.model, seed=0, fold=fold, folder=tmp_path / name)
        for name in ("whole", "stopped", "killed")
    }
    run_fold(jobs["whole"], known, settings)
    rows = rows_of(tmp_path / "whole")
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    first = json.loads(rows[0]["options"])
    assert first == {"fit.lr": settings.fit.lr, "model.dim": 16}
    stops = 0
    for n in (3, 40, 75, 100, 10**6):
        try:
            run_fold(jobs["stopped"], known, settings, should_stop=stop_after(n))
        except InterruptedRunError:
            stops += 1
        else:
            break
    assert stops >= 2
    for n in (1, 3):  # in the first trial, and in the one after it
        with pytest.raises(KilledError):
            run_fold(jobs["killed"], known, settings, on_progress=kill_after(n))
    run_fold(jobs["killed"], known, settings)
    assert rows_of(tmp_path / "stopped") == rows_of(tmp_path / "killed") == rows
    for name in ("predictor/model.safetensors", "predictor/config.json", "predictions.csv"):
        wanted = (tmp_path / "whole" / name).read_bytes()
        for other in ("stopped", "killed"):
            assert (tmp_path / other / name).read_bytes() == wanted, (other, name)
    # what was chosen is what was trained with, and what the score was of
    best = max(rows, key=lambda row: (float(row["score"]), -int(row["trial"])))
    card = json.loads((tmp_path / "whole" / "predictor" / "config.json").read_text())
    assert card["options"]["dim"] == json.loads(best["options"])["model.dim"]
    with (tmp_path / "whole" / "history.csv").open(newline="") as stream:
        history = list(csv.DictReader(stream))
    assert history[int(best["epoch"])]["smoothed"] == best["score"]


def test_a_record_of_another_search_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "search.csv"
    assert read_trials(path) == []
    head = "trial,options,score,epoch,seconds,failure\n"
    path.write_text(head + '0,"{""model.dim"": 8}",0.5,1,2.0,\n')
    assert read_trials(path, {"model.dim"})[0].options == {"model.dim": 8}
    with pytest.raises(DataError, match=r"T22.*not of this search"):
        read_trials(path, {"model.dim", "fit.lr"})
    for damage in ("0,[],0.5,1,2.0,\n", "0,{,0.5,1,2.0,\n", "x,{},0.5,1,2.0,\n", "0\n"):
        path.write_text(head + damage)
        with pytest.raises(DataError, match=r"T22.*damaged"):
            read_trials(path)


def test_trials_that_run_away_or_do_not_fit_together_are_the_worst(
    cohort: Path, audited: tuple[Cohort, Fold], tmp_path: Path
) -> None:
    known, fold = audited
    spaces = "{momkd: {model.dim: [4, 6], model.n_heads: [4, 3]}}"
    model = "model={name: momkd, dim: 12, n_heads: 3}"
    settings = settings_of(cohort, f"search={{trials: 6, spaces: {spaces}}}", model, "fit.epochs=1")
    with pytest.raises(ConfigError, match=r"G04.*no multiple of n_heads"):
        require_searchable([settings.model], settings)  # each value alone is tried beforehand
    job = FoldJob(choice=settings.model, seed=0, fold=fold, folder=tmp_path)
    run_fold(job, known, settings)
    trials = read_trials(tmp_path / "search.csv")
    failed = [t for t in trials if t.score is None]
    assert failed
    assert all("no multiple of n_heads" in t.failure for t in failed)
    assert best_trial(trials).score is not None


def test_every_model_has_the_same_budget_and_it_is_reported(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "run_jobs", run_inline)
    models = "abmil,mean_logistic,rna_logistic"
    run = crossval(cohort / "momkd.yaml", tmp_path / "run", model=models, search=2)
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["search"]["trials"] == 2
    assert manifest["search"]["sampler"].startswith("TPE of Optuna ")
    for job in manifest["jobs"]:
        n = 0 if job.startswith("rna_logistic") else 2
        assert len(read_trials(run / job / "search.csv")) == n
    frozen = json.loads((run / "protocol.json").read_text())
    assert frozen["configuration"]["search"]["trials"] == 2
    spaces = {m["label"]: m.get("search_space") for m in frozen["models"]}
    assert spaces["abmil"]["model.dim"] == [8, 16]
    assert spaces["rna_logistic"] is None
    found = json.loads((run / "metrics.json").read_text())["search"]
    assert set(found) == {"abmil", "mean_logistic"}
    assert [p["trials"] for p in found["abmil"]["curve"]] == [1, 2]
    assert (found["abmil"]["trials"], found["abmil"]["fits"]) == (2, 2)
    page = (run / "report.html").read_text()
    assert "Search for options" in page
    assert "Best validation score after so many trials" in page
