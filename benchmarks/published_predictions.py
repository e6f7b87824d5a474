"""Score and compare published out-of-fold predictions, and write the page of it.

    python benchmarks/published_predictions.py --data ../shared/data/published-predictions

Writes docs/results/published-predictions.md. The tables are those of two published slide models
on TCGA-BRCA and of one of them on CPTAC-BRCA; both TCGA models were tested on the same cases, each
in its own four folds.
"""

import argparse
import platform
import tempfile
import time
from pathlib import Path

import pandas as pd

from momkd.evaluation.claims import format_p, state_claims
from momkd.evaluation.delong import delong_folds
from momkd.evaluation.estimate import Estimate
from momkd.evaluation.summary import FoldScores, summarise_folds
from momkd.workflows.compare import compare
from momkd.workflows.prediction_tables import read_prediction_table
from momkd.workflows.scored_cases import average_slides, fold_scores

TASKS = ("HER2", "PR", "ER")
NAMES = {
    "tcga_brca_CTransPath_CLAM": "CTransPath + CLAM",
    "tcga_brca_SHUFFLE_SGraph": "ShuffleNet + SlideGraph",
    "cptac_brca_CTransPath_CLAM": "CTransPath + CLAM, on CPTAC-BRCA",
}


def convert(source: Path, task: str, target: Path) -> Path:
    """Write one task of a published table in the columns that momkd reads."""
    table = pd.read_csv(source, dtype={"Patient ID": str})
    columns = {"Patient ID": "case_id", task: "y_true", f"P_{task}": "prob_positive"}
    if f"{task}_fold_idx" in table.columns:
        columns[f"{task}_fold_idx"] = "fold"
    part = table[list(columns)].dropna().rename(columns=columns)
    part.assign(model=NAMES[source.stem]).to_csv(target, index=False)
    return target


def score_row(task: str, folds: list[FoldScores]) -> list[str]:
    """Give the AUROC of one table with both intervals."""
    labels = [int(y) for f in folds for y in f.labels]
    boot, exact = summarise_folds(folds)["auroc"], delong_folds(folds)
    return [
        task,
        f"{len(labels)} ({sum(labels)})",
        str(len(folds)),
        f"{exact.value:.3f}",
        f"{exact.low:.3f} to {exact.high:.3f}",
        f"{boot.low:.3f} to {boot.high:.3f}",
    ]


def markdown(rows: list[list[str]]) -> str:
    """Set rows, the first of them the head, as a Markdown table."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def page(data: Path, work: Path) -> str:
    """Write the page."""
    scores = [
        ["model", "task", "cases (positive)", "folds", "AUROC", "DeLong 95 %", "bootstrap 95 %"]
    ]
    pairs = [["task", "difference", "DeLong 95 %", "p", "bootstrap 95 %", "p", "detectable"]]
    claims: list[str] = []
    for stem, name in NAMES.items():
        for task in TASKS:
            path = convert(data / f"{stem}.csv", task, work / f"{stem}-{task}.csv")
            folds = fold_scores(average_slides(read_prediction_table(path, any_score=True)))
            scores.append([name, *score_row(task, folds)])
    clam, graph, _ = NAMES
    for task in TASKS:
        tables = [work / f"{stem}-{task}.csv" for stem in (clam, graph)]
        found = compare(*tables, predictions=True, method=NAMES[clam]).comparison
        (pair,) = found.pairs
        boot = pair.bootstrap
        pairs.append(
            [
                task,
                f"{pair.verdict.value:+.3f}",
                _bounds(pair.verdict),
                format_p(pair.verdict.p),
                _bounds(boot),
                format_p(boot.p),
                f"{pair.verdict.minimum_detectable:.3f}",
            ]
        )
        stated = state_claims(found)
        said = [s for s in (*stated.may, *stated.may_not) if NAMES[graph] in s]
        allowed = "may be claimed" if said[0] in stated.may else "may not be claimed"
        claims.append(f"- {task}, {allowed}: {said[0]}")
    return (
        "# Published predictions, scored and compared\n\n"
        f"Written by `python benchmarks/published_predictions.py --data {data}` on "
        f"{time.strftime('%Y-%m-%d')}; {platform.system()} {platform.machine()}, Python "
        f"{platform.python_version()}.\n\n"
        "Out-of-fold predictions of two published slide models. AUROC is the mean over the table's "
        "own folds; both intervals are over cases and about the models as they were trained; of a "
        "difference they cover somewhat less than 95 % ([measured](type-one-error.md)). "
        "The data's page states .675, .795 and .874 for CTransPath + CLAM on HER2, PR and ER.\n\n"
        + markdown(scores)
        + "\n## CTransPath + CLAM against ShuffleNet + SlideGraph\n\n"
        "The same cases and labels, but each model has its own folds: paired case by case. One "
        "comparison a task; the three tasks are not corrected for one another.\n\n"
        + markdown(pairs)
        + "\n"
        + "\n".join(claims)
        + "\n"
    )


def _bounds(found: Estimate) -> str:
    return f"{found.low:+.3f} to {found.high:+.3f}"


def main() -> None:
    """Convert, compare and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/published-predictions"))
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("docs/results/published-predictions.md")
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        text = page(given.data, Path(work))
    given.output.write_text(text, encoding="utf-8")
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
