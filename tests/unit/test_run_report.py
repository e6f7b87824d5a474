import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, PngImagePlugin

import momkd
from momkd.errors import ConfigError, DataError
from momkd.workflows.compare import compare
from momkd.workflows.evaluate import evaluate, read_metrics
from momkd.workflows.report import report
from momkd.workflows.report_training import MOST_FITS, read_trainings
from tests.page_reader import PageReader, faults_of
from tests.run_folders import write_run
from tests.unit.test_report import HOSTILE

SECTIONS = (
    "What was asked",
    "Results",
    "Paired comparison",
    "Curves",
    "Sites",
    "Patients",
    "Folds and proof against leakage",
    "Training",
    "Memory",
    "Reporting guidelines",
    "Limits",
    "Glossary",
    "Configuration and digests",
)


def page_of(run: Path, **how: object) -> tuple[str, PageReader]:
    written = report(run, **how)
    html = written.path.read_text(encoding="utf-8")
    assert faults_of(html) == []
    return html, PageReader(html)


def headings(html: str) -> list[str]:
    return [part.split(">")[1].split("<")[0] for part in html.split("<h2")[1:]]


def change(run: Path, **manifest: object) -> None:
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content | manifest))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("made") / "run")
    evaluate(run)
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def test_the_page_says_what_the_folder_knows(run: Path) -> None:
    html, page = page_of(run)
    assert headings(html) == list(SECTIONS)
    words = " ".join(page.words.split())
    metrics = json.loads((run / "metrics.json").read_text())["models"]["momkd"]
    area = metrics["mean_over_folds"]["auroc"]
    assert f"{area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f})" in words
    again = metrics["auroc_if_trained_again"]
    assert f"{again['value']:.3f} ({again['low']:.3f} to {again['high']:.3f})" in words
    for needle in (
        "HER2: HER2 against no HER2",
        "counted as positiveHER2",
        "compares tiles with learnt patterns",
        "Tested: 90 patients, 30 of them HER2.",
        "sensitivity is of 30 positive, specificity of 60 negative patients",
        "no better on validation for a while",
        "The flow adds up",
        "Participants by side and class",
        "TRIPOD+AI",
        "momkd crossval -c RUN/config.yaml --model momkd,abmil --seeds 2",
        "no model may be called better than another",
        "no case and no slide file (SHA-256) stands on two sides",
        "6 gene panels recorded",
        "Only 30 positive patients were tested",
    ):
        assert needle in words, needle
    assert "8.000 (8.000 to 8.000)" in words, "perplexity at the epoch that was kept"
    assert "/srv/someone" not in html
    assert "HER2-c000" not in html, "no patient is named unless asked"
    charts = [a for a in page.all("svg") if a.get("role") == "img"]
    assert len(charts) == 1 + 3 + 2 + 3 + 3 + 3  # AUROC; curves; calibration; trainings; memory
    assert f"momkd {area['value']:.3f}" in str(charts[0]["aria-label"])


def test_an_interval_of_an_area_stays_within_0_and_1(run: Path) -> None:
    content = json.loads((run / "metrics.json").read_text())
    content["models"]["momkd"]["auroc_if_trained_again"] = {"value": 0.8, "low": -0.1, "high": 1.1}
    content["models"]["abmil"]["auroc_if_trained_again"] = {
        "value": None,
        "low": None,
        "high": None,
    }
    (run / "metrics.json").write_text(json.dumps(content))
    _, page = page_of(run)
    assert "0.800 (0.000 to 1.000)" in page.words


def test_columns_keep_their_order_in_a_file_that_sorts_its_keys(run: Path) -> None:
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content, sort_keys=True))
    _, page = page_of(run)
    words = " ".join(page.words.split())
    assert "seedfoldsidecasespositive casesslides" in words
    assert words.count("training") > 6


def test_nothing_is_scored_again_and_nothing_else_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    monkeypatch.setattr("momkd.workflows.report.score_run", lambda *_, **__: pytest.fail("scored"))
    written = momkd.report(run, output=tmp_path / "elsewhere.html")
    assert written.path == tmp_path / "elsewhere.html"
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    first = written.path.read_bytes()
    report(run, output=tmp_path / "elsewhere.html")
    assert written.path.read_bytes() == first, "equal runs, equal pages"
    assert (run / "report.html").read_bytes() == first, "evaluate writes the same page"
    assert report(run, output=tmp_path).path == tmp_path / "report.html"


def test_figures_of_other_predictions_are_not_shown(run: Path) -> None:
    assert read_metrics(run) is not None
    table = pd.read_csv(run / "predictions.csv")
    names = [c for c in table.columns if c.startswith("prob_")]
    table[names] = table[names[::-1]].to_numpy()
    table.to_csv(run / "predictions.csv", index=False)
    old = json.loads((run / "metrics.json").read_text())["models"]["momkd"]
    assert read_metrics(run) is None
    _, page = page_of(run)
    turned = 1 - old["mean_over_folds"]["auroc"]["value"]
    assert f"momkd {turned:.3f}" in str(page.all("svg")[0]["aria-label"])


def test_a_comparison_is_shown_with_its_claims(run: Path) -> None:
    found = compare(run, method="abmil")
    html, page = page_of(run)
    assert "What may be claimed" in html
    for line in (*found.claims.may, *found.claims.may_not):
        assert line in page.words
    assert "No paired comparison was made" not in page.words
    row = "againstAUROC of abmilAUROC of the otherdifference (95 % interval)pHolm p"
    assert row in page.words, "whatever the order of keys in the file"
    (pair,) = json.loads((run / "comparison.json").read_text())["pairs"]
    shown = f"{pair['difference']:.3f} ({pair['low']:.3f} to {pair['high']:.3f})"
    assert f'data-v="{pair["difference"]:.6g}">{shown}<' in html, "sorted as a number"
    # the method that was named is the strong line
    assert html.count('class="k1 d1 strong"') == 3


def test_hostile_names_of_everything_are_text(tmp_path: Path) -> None:
    word = HOSTILE.replace("\x00", "").replace("\ud800", "")
    plain = write_run(tmp_path / "plain")
    run = write_run(tmp_path / "run", word=word)
    evaluate(run)
    evaluate(plain)
    _, page = page_of(run, n_cases=5)
    _, other = page_of(plain, n_cases=5)
    assert page.scripts == other.scripts
    assert {t for t, _ in page.tags} == {t for t, _ in other.tags}
    assert "<script>alert(1)</script>" in page.words
    assert page.words.count("n" * 300 + "-c") == 5


def test_an_unfinished_run_says_so_and_scores_what_is_whole(tmp_path: Path) -> None:
    still = ["abmil/seed-1/fold-2", "abmil/seed-1/fold-1"]
    run = write_run(tmp_path / "run", open_jobs=still)
    written = report(run)
    (alarm,) = written.alarms
    assert "Unfinished: 10 of 12 trainings are done (to do: abmil 2)" in alarm
    html = written.path.read_text()
    assert faults_of(html) == []
    assert html.index("Unfinished:") < html.index("What was asked")
    page = PageReader(html)
    label = str(page.all("svg")[0]["aria-label"])
    assert "momkd 0." in label
    assert "abmil" not in label
    assert "Training curves of abmil" in html
    assert not (run / "metrics.json").exists(), "figures of a part are not kept"


def test_a_run_with_nothing_whole_shows_no_figure(tmp_path: Path) -> None:
    jobs = [f"momkd/seed-0/fold-{i}" for i in range(3)]
    run = write_run(tmp_path / "run", ["momkd"], seeds=1, open_jobs=jobs)
    written = report(run)
    assert "0 of 3 trainings" in written.alarms[0]
    found = headings(written.path.read_text())
    assert not {"Results", "Curves", "Training"} & set(found)
    assert "Patients" in found


def test_a_final_predictor_has_no_test_cases_and_the_page_says_so(run: Path) -> None:
    change(run, jobs=[])
    table = pd.read_csv(run / "predictions.csv").assign(split="val")
    table.to_csv(run / "predictions.csv", index=False)
    written = report(run)
    assert "No case was kept for testing" in written.alarms[0]
    assert "Results" not in headings(written.path.read_text())


def test_what_is_no_whole_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"P13.*no run folder"):
        report(tmp_path)
    change(run, jobs=["../../etc/seed-0/fold-0"])
    with pytest.raises(DataError, match=r"P13.*outside the run"):
        report(run)
    (run / "run.json").write_text('{"task": "HER2"}')
    (run / "dropped.csv").unlink()
    with pytest.raises(DataError) as caught:
        report(run)
    assert [p.where.rsplit("/", 1)[-1] for p in caught.value.problems] == [
        "run.json",
        "dropped.csv",
    ]
    (run / "config.yaml").write_text("data: [")
    with pytest.raises(DataError, match="damaged"):
        report(write_damaged(tmp_path / "another"))


def write_damaged(folder: Path) -> Path:
    run = write_run(folder, ["abmil"], seeds=1)
    (run / "config.yaml").write_text("data: [")
    return run


@pytest.mark.parametrize("name", ["predictions.csv", "page", "a.html.csv"])
def test_only_pages_are_written(run: Path, name: str) -> None:
    before = (run / "predictions.csv").read_bytes()
    with pytest.raises(ConfigError, match=r"G07.*\.html"):
        report(run, output=run / name)
    assert (run / "predictions.csv").read_bytes() == before


def test_damaged_records_of_training_are_said(run: Path) -> None:
    (run / "abmil/seed-0/fold-0/history.csv").write_text("epoch,loss\n0,1.0\n1,many\n")
    (run / "abmil/seed-0/fold-1/done.json").write_text("[]")
    _, page = page_of(run)
    assert "abmil/seed-0/fold-0: history.csv row 3 column loss: got 'many'" in page.words
    assert "abmil/seed-0/fold-1: done.json holds no mapping" in page.words
    assert "2 unreadable" in page.words


def test_a_flow_that_does_not_add_up_is_an_alarm(run: Path) -> None:
    text = (run / "dropped.csv").read_text().splitlines()
    (run / "dropped.csv").write_text("\n".join(text[:1] + text[2:]) + "\n")
    _, page = page_of(run)
    assert (
        "The flow does not add up: patients (cases): 92 listed, 91 used, 1 left out, 0 with a"
        in (page.words)
    )


def test_many_reasons_are_cut_and_counted(run: Path) -> None:
    lines = [f"case,x{i},x{i},L01,reason {i}" for i in range(50)]
    (run / "dropped.csv").write_text("kind,id,case_id,code,reason\n" + "\n".join(lines) + "\n")
    _, page = page_of(run)
    assert "20 further reasons, in dropped.csv" in page.words


def test_the_worst_cases_are_listed_only_when_asked(run: Path) -> None:
    html, page = page_of(run, n_cases=3)
    assert "The 3 of 90 tested cases that momkd gets most wrong" in page.words
    table = pd.read_csv(run / "predictions.csv")
    ours = table[table["model"] == "momkd"].groupby("case_id")[["y_true", "prob_HER2"]].mean()
    worst = (ours["prob_HER2"] - ours["y_true"]).abs().idxmax()
    assert worst in html
    assert page.words.count("HER2-c") == 3
    for n in (-1, 1001):
        with pytest.raises(ConfigError, match="G07"):
            report(run, n_cases=n)


def test_small_sites_stand_together_and_unknown_ones_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "some", ["abmil"], sites=["A1", "A1", "A1", "A1", "B2", "C3"])
    evaluate(run)
    _, page = page_of(run)
    assert "2 smaller sites together" in page.words
    blind = write_run(tmp_path / "blind", ["abmil"], sites=[])
    evaluate(blind)
    assert "Sites" not in headings((blind / "report.html").read_text())


def test_pictures_of_the_run_are_drawn_anew(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run / "new_heatmaps" / "momkd"
    folder.mkdir(parents=True)
    pixels = np.zeros((1200, 30, 4), dtype=np.uint8)
    secret = PngImagePlugin.PngInfo()
    secret.add_text("patient", "Jane Roe")
    Image.fromarray(pixels).save(folder / "a<b>.png", pnginfo=secret)
    (folder / "z.png").write_bytes(b"<html>")
    html, page = page_of(run)
    _, picture = sorted(page.all("img"), key=lambda one: "jpeg" in str(one["src"]))
    assert str(picture["src"]).startswith("data:image/jpeg;base64,")
    assert "Jane" not in html
    assert "a<b>" in str(picture["alt"])
    assert "left out of the report" in capsys.readouterr().err


def test_a_chart_of_many_trainings_shows_some_and_says_so(tmp_path: Path) -> None:
    still = ["abmil/seed-0/fold-0"]
    run = write_run(tmp_path / "run", ["abmil"], n=45, seeds=25, epochs=2, open_jobs=still)
    found = read_trainings(run, json.loads((run / "run.json").read_text())["jobs"])
    assert (len(found.fits), found.n_jobs) == (74, 75)
    html, _ = page_of(run)
    assert f"({MOST_FITS} of 74 trainings)" in html
    assert html.count('class="k0 d0 faint"') == 3 * MOST_FITS


@pytest.mark.slow
def test_the_page_of_many_cases_and_models_stays_small(tmp_path: Path) -> None:
    models = ["momkd", *(f"model_{i}" for i in range(8))]
    run = write_run(tmp_path / "run", models, n=1000, seeds=1, epochs=60)
    evaluate(run)
    page_of(run)
    assert (run / "report.html").stat().st_size < 1_000_000
