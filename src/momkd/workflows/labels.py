"""``momkd labels tcga``: HER2, PR and ER status by a written rule, one row a case."""

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momkd.data.receptor_status import RULES
from momkd.data.receptor_table import ReceptorCase, ReceptorTable, read_receptors
from momkd.errors import ConfigError
from momkd.storage import write_text

DEFAULT_RULE = "asco-cap"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReport:
    """What a rule made of a table.

    Parameters
    ----------
    path
        The table written.
    counts
        A row a receptor: positive, negative, unknown.
    reasons
        A row a receptor, label and reason, with its count.
    her2_table
        IHC against ISH as recorded: a row an IHC status and score, a column an ISH status; each
        cell counts the cases and, after the colon, their labels (+ - ?).
    """

    path: Path
    rule: str
    n_cases: int
    counts: list[dict[str, Any]]
    reasons: list[dict[str, Any]]
    her2_table: list[dict[str, str]]
    notes: tuple[str, ...]


def label_tcga(
    clinical: Path | str, output: Path | str, *, rule: str = DEFAULT_RULE
) -> LabelReport:
    """Write ``labels.csv``: ``case_id, site, <receptor>, <receptor>_reason, rule``, raw columns.

    A label is ``positive``, ``negative`` or blank for unknown, with the reason beside it.

    Parameters
    ----------
    clinical
        Clinical table of the GDC (as downloaded) or of cBioPortal.
    output
        CSV to write.
    rule
        A key of :data:`momkd.data.receptor_status.RULES`.

    Raises
    ------
    ConfigError
        G13 no such rule.
    DataError
        As :func:`momkd.data.receptor_table.read_receptors`.
    """
    if rule not in RULES:
        what = f"got {rule!r}, wanted one of {', '.join(RULES)}"
        raise ConfigError.of("G13", "--rule", what, "see docs/labels.md")
    table = read_receptors(Path(clinical))
    _write(Path(output), table, rule)
    notes = list(table.notes)
    if rule == "rest-negative":
        notes.append(
            "rule rest-negative: cases without a result are called negative; repeat published "
            "counts with it, and train with another"
        )
    return LabelReport(
        path=Path(output),
        rule=rule,
        n_cases=len(table.cases),
        counts=count_labels(table, rule),
        reasons=_reasons(table, rule),
        her2_table=_her2_table(table, rule) if "HER2" in table.receptors else [],
        notes=tuple(notes),
    )


def count_labels(table: ReceptorTable, rule: str) -> list[dict[str, Any]]:
    """Count positive, negative and unknown cases of each receptor."""
    rows = []
    for receptor in table.receptors:
        found = Counter(case.judge(receptor, rule).label for case in table.cases)
        rows.append(
            {
                "label": receptor,
                "positive": found["positive"],
                "negative": found["negative"],
                "unknown": found[None],
            }
        )
    return rows


def _reasons(table: ReceptorTable, rule: str) -> list[dict[str, Any]]:
    rows = []
    for receptor in table.receptors:
        rulings = [case.judge(receptor, rule) for case in table.cases]
        counts = Counter((r.label or "unknown", r.reason) for r in rulings)
        order = sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
        rows += [
            {"label": receptor, "is": label, "because": reason, "n": n}
            for (label, reason), n in order
        ]
    return rows


def _her2_table(table: ReceptorTable, rule: str) -> list[dict[str, str]]:
    cells: dict[tuple[str, str], Counter[str | None]] = {}
    for case in table.cases:
        key = _ihc_words(case), case.her2.ish_status or "no result"
        cells.setdefault(key, Counter())[case.judge("HER2", rule).label] += 1
    columns = sorted({ish for _, ish in cells})
    return [
        {"IHC": ihc} | {f"ISH {ish}": _cell(cells.get((ihc, ish))) for ish in columns}
        for ihc in sorted({ihc for ihc, _ in cells})
    ]


def _ihc_words(case: ReceptorCase) -> str:
    status, score = case.her2.ihc_status or "no result", case.her2.ihc_score
    return f"{status}, {'no score' if score is None else 'score 0' if score == 0 else f'{score}+'}"


def _cell(counts: Mapping[str | None, int] | None) -> str:
    if counts is None:
        return "."
    signs = {"positive": "+", "negative": "-", None: "?"}
    shown = "".join(sign for label, sign in signs.items() if counts.get(label))
    return f"{sum(counts.values())} {shown}"


def _write(path: Path, table: ReceptorTable, rule: str) -> None:
    labels = [c for r in table.receptors for c in (r, f"{r}_reason")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case_id", "site", *labels, "rule", *table.columns])
    for case in table.cases:
        row: list[str] = [case.case_id, case.site or ""]
        for receptor in table.receptors:
            ruling = case.judge(receptor, rule)
            row += [ruling.label or "", ruling.reason]
        writer.writerow([*row, rule, *(case.raw[c] for c in table.columns)])
    write_text(path, text.getvalue())
