"""``momkd serve`` as a process, and what it lets the predictors of a run do."""

import csv
import json
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import h5py
import pytest

from momkd.errors import DataError, IntegrityError
from momkd.slides.reader import SlideRules
from momkd.viewer.run_tables import read_run_facts
from momkd.viewer.stored_scores import read_scores
from momkd.workflows.score_slide import score_slide
from momkd.workflows.serve_labour import PredictorLabour
from tests.journeys.run_momkd import command, environment, momkd, refused


def hear(*_: object) -> None:
    """Take what a job tells."""


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "predictions.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def moved(run: Path, features: Path, folder: Path) -> Path:
    """Copy a run whose feature files lie elsewhere."""
    copy = Path(shutil.copytree(run, folder / "run"))
    text = (copy / "config.yaml").read_text()
    changed = re.sub(r"(features:\n *- ).*", rf"\g<1>{features}", text, count=1)
    assert changed != text
    (copy / "config.yaml").write_text(changed)
    return copy


def test_a_heat_map_is_made_by_models_that_did_not_learn_from_the_slide(
    finished_run: Path, tmp_path: Path
) -> None:
    run = finished_run
    tested = [r for r in rows(run) if r["split"] == "test"]
    for row in (tested[0], tested[-1]):
        path = tmp_path / f"{row['slide_id']}.h5"
        score_slide(run, row["slide_id"], row["model"], path, hear)
        stored = read_scores(path)
        assert stored.facts["probability"] == pytest.approx(float(row["prob_positive"]), abs=1e-4)
        assert stored.facts["made_by"] == "the fold model that did not learn from this slide"
        own = ["memory evidence"] if row["model"] == "momkd" else []
        assert [layer.name for layer in stored.layers] == ["attention", "class evidence", *own]
        with h5py.File(path) as file:
            assert file["attention"][:].sum() == pytest.approx(1, abs=1e-4)
    with pytest.raises(DataError, match="P10"):
        score_slide(run, tested[0]["slide_id"], "dsmil", tmp_path / "x.h5", hear)
    with pytest.raises(DataError, match="F28"):
        score_slide(run, "no-such-slide", "momkd", tmp_path / "x.h5", hear)
    assert not (tmp_path / "x.h5").exists()


def test_features_that_changed_since_the_run_are_refused(
    finished_run: Path, made_cohort: Path, tmp_path: Path
) -> None:
    slide = next(r["slide_id"] for r in rows(finished_run) if r["split"] == "test")
    features = Path(shutil.copytree(made_cohort / "features", tmp_path / "features"))
    run = moved(finished_run, features, tmp_path)
    (path,) = features.rglob(f"{slide}.h5")
    with h5py.File(path, "a") as file:
        file["features"][0] *= 2
    with pytest.raises(IntegrityError, match="F26"):
        score_slide(run, slide, "momkd", tmp_path / "x.h5", hear)


@pytest.mark.slow
def test_a_new_feature_file_is_predicted_by_all_models(
    finished_run: Path, made_cohort: Path, tmp_path: Path
) -> None:
    (file, *_) = sorted((made_cohort / "features").rglob("*.h5"))
    new = Path(shutil.copy(file, tmp_path / "new.h5"))
    labour = PredictorLabour(model=finished_run, folder=tmp_path / "work", rules=SlideRules())
    work, entries_of = labour.predict(new)
    steps: list[str] = []
    answer = json.loads(json.dumps(work(lambda step, *_: steps.append(step))))
    (entry,) = entries_of(answer)
    assert set(entry.scores) == {"momkd", "abmil"}
    for model, score in entry.scores.items():
        assert 0 <= score.low <= score.probability <= score.high <= 1
        stored = read_scores(entry.score_files[model])
        assert stored.facts["probability"] == pytest.approx(score.probability, abs=1e-4)
    assert answer["notes"], "it has the bytes of a slide that taught the models"
    assert steps[0] == "loading the predictors"
    assert "predicting" in steps


def test_a_table_of_predictions_becomes_slides_of_the_list(tmp_path: Path) -> None:
    labour = PredictorLabour(model=tmp_path, folder=tmp_path, rules=SlideRules())
    _, entries_of = labour.predict(tmp_path / "new.svs")
    row = {"case_id": "c", "slide_id": "new", "n_members": 5, "prob_no": 0.25, "prob_yes": 0.75}
    row |= {"low": 0.5, "high": 0.875, "threshold": 0.4, "seen_in_training": True, "flags": "far"}
    alone = row | {"n_members": 1, "seen_in_training": False, "flags": "", "model": "abmil"}
    (entry,) = entries_of({"rows": [row | {"model": "momkd"}, alone]})
    assert (entry.slide_id, entry.case_id, entry.path) == ("new", "c", tmp_path / "new.svs")
    together = entry.scores["momkd"]
    assert (together.probability, together.low, together.high) == (0.75, 0.5, 0.875)
    assert together.flags == "far; taught this model"
    assert entry.scores["abmil"].low is None
    assert entry.scores["abmil"].flags == ""
    assert entry.score_files["abmil"].parts[-3:] == ("scores", "abmil", "new.h5")
    (features,) = labour.predict(tmp_path / "new.h5")[1]({"rows": [alone]})
    assert features.path is None


class Served:
    """A viewer that runs, and what it said of itself."""

    def __init__(self, *args: object, home: Path) -> None:
        variables = {**environment(), "TMPDIR": str(home)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command("serve", *args, "--port", "0"),
            env=variables,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        found = re.search(r"http://\S+", self.line)
        assert found, (self.line, self.process.stderr.read() if self.process.stderr else "")
        self.address, _, query = found[0].partition("?")
        self.token = query.removeprefix("token=")

    def ask(self, place: str, **headers: str) -> tuple[int, str, dict[str, str]]:
        request = urllib.request.Request(self.address + place, headers=headers)
        opener = urllib.request.build_opener(NoRedirect)
        try:
            with opener.open(request, timeout=30) as answer:
                return answer.status, answer.read().decode(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), dict(error.headers)

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Answers that point elsewhere are looked at."""

    def redirect_request(self, *_: object) -> None:
        return None


def test_a_run_is_served_until_it_is_told_to_end(finished_run: Path, tmp_path: Path) -> None:
    served = Served(finished_run, "--token", home=tmp_path)
    try:
        assert served.line.startswith(f"serving {finished_run} at http://127.0.0.1:")
        assert served.ask("")[0] == 401
        status, _, headers = served.ask(f"?token={served.token}")
        assert (status, headers["location"]) == (303, "/")
        cookie = headers["set-cookie"].split(";")[0]
        assert served.ask("api/cases", cookie=cookie, host="evil.example")[0] == 421
        status, body, headers = served.ask("api/cases", cookie=cookie)
        assert status == 200
        assert "server" not in {k.lower() for k in headers}
        shown = [c["case"] for c in json.loads(body)["cases"] if c["scores"]]
        facts = read_run_facts(finished_run)
        assert len(shown) == len({e.case_id for e in facts.entries})
        assert len(list(tmp_path.glob("momkd-viewer-*"))) == 1
    finally:
        code, errors = served.end(signal.SIGTERM)
    assert (code, errors) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    refused(momkd("serve", tmp_path, "--port", "0"), 3, "[P13]", "neither a run")
