"""The part of a report about patients: who was used and why not, the folds, and their proof."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from momkd.evaluation.curves import wilson
from momkd.reporting.page import Bounded, Heading, Part, Row, Section, Table, Words

_MOST_REASONS = 30
_KINDS = {"case": "patients (cases)", "slide": "slides", "rna": "RNA profiles"}
_SIDES = {"train": "training", "val": "validation", "test": "test"}
_OF_A_SIDE = {
    "seed": "seed",
    "fold": "fold",
    "side": "side",
    "cases": "cases",
    "positives": "positive cases",
    "slides": "slides",
    "rna": "cases with RNA",
    "sites": "sites",
    "sites_in_train": "sites that also train",
    "largest": "largest sites",
    "digest": "digest of its cases",
}
_NO_COUNTS = ("seed", "fold", "side", "largest", "digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """How many things of a kind were left out for one reason."""

    kind: str
    code: str
    reason: str
    n: int


def patients_section(
    counts: Sequence[Mapping[str, Any]], dropped: Path, cohort: pd.DataFrame | None
) -> Section:
    """Tell who was listed, used and left out, by cause and by class."""
    left = read_left_out(dropped)
    number = {str(row["what"]): int(row["n"]) for row in counts}
    parts: list[Part] = [Words(lines=["Everything listed is used, or left out with a reason."])]
    if number:
        caption = "Flow of patients, slides and RNA profiles: listed = used + left out"
        parts.append(Table(caption=caption, rows=_flow(number)))
        parts.append(_account(number, left))
        mix = [
            {"used patients": k.removeprefix("cases "), "number": n}
            for k, n in number.items()
            if k.startswith("cases with ")
        ]
        parts.append(Table(caption="What the used patients have", rows=mix))
    if cohort is not None:
        parts.append(Table(caption="Used patients by class", rows=_by_class(cohort)))
    parts += [
        Heading(text="Left out"),
        Table(
            caption="Left out, by cause (codes: docs/formats.md of momkd)",
            rows=_causes(left),
            headings={"kind": "what", "n": "number"},
        ),
    ]
    return Section(title="Patients", parts=parts)


def folds_section(
    manifest: Mapping[str, Any], n_panels: int, configuration: Mapping[str, Any]
) -> Section | None:
    """Tell the folds with what stands on each side, and how leakage was kept out."""
    rows = manifest["folds"]
    if not rows:
        return None
    proof = manifest.get("proof") or {}
    positive = manifest["class_names"][-1]
    return Section(
        title="Folds and proof against leakage",
        parts=[
            Words(
                lines=[
                    "A case stands on one side of a fold. Genes, scaling, memory start, epoch, "
                    "calibration and threshold come from training and validation cases only."
                ]
            ),
            Table(
                caption="What a side of a fold holds, least to most over all folds (counted as "
                f"positive: {positive})",
                rows=_sides(rows),
            ),
            Table(
                caption="Cases, slides, positive cases, cases with RNA and sites of every side",
                rows=[_every_side(row) for row in rows],
                folded=True,
            ),
            Heading(text="Verified of these folds"),
            Words(lines=proof.get("statements") or ["nothing is recorded"], is_list=True),
            Table(
                caption="Ways in which test patients can leak into a result (after Kapoor and "
                "Narayanan, Patterns 4:100804, 2023), and what stands against each here",
                rows=leakage_sheet(manifest, n_panels, configuration),
            ),
        ],
    )


def sites_table(manifest: Mapping[str, Any]) -> Section | None:
    """Tell how labels differ between sites; None where sites are unknown."""
    sites = (manifest.get("proof") or {}).get("sites")
    if not sites:
        return None
    caption = (
        f"Used cases with a slide by site, share positive with its 95 % Wilson interval; "
        f"chi-square {sites['chi_square']:.1f} on {sites['freedom']} degrees of freedom, "
        f"permutation p {sites['p_value']:.4f}, Cramer's V {sites['cramers_v']:.2f}"
    )
    rows = [_of_a_site(row) for row in sites["rows"]]
    return Section(title="Sites and labels", parts=[Table(caption=caption, rows=rows)])


def _of_a_site(row: Mapping[str, Any]) -> Row:
    share = float(row["share"])
    low, high = np.clip(wilson(np.array([share]), np.array([int(row["cases"])])), 0.0, 1.0)
    return {
        "site": row["site"],
        "cases": row["cases"],
        "positive cases": row["positives"],
        "share positive": Bounded(value=share, low=float(low[0]), high=float(high[0])),
    }


def leakage_sheet(
    manifest: Mapping[str, Any], n_panels: int, configuration: Mapping[str, Any]
) -> list[Row]:
    """Give, for each way of leakage, what is done, what is known of this run, and how surely."""
    statements = list((manifest.get("proof") or {}).get("statements", ()))
    apart = next((s for s in statements if "two sides of a fold" in s), "")
    surely = "verified" if apart else "not recorded"
    sites = next(
        (s for s in statements if s.startswith(("no site", "sites cross", "sites are unknown"))), ""
    )
    named = [n for n in manifest["notes"] if "define the label" in n]
    labels = [*named, *manifest.get("target_notes", ())]
    aliases = (configuration.get("data") or {}).get("patient_alias")
    panels = f"{n_panels} gene panels recorded" if n_panels else "no model here reads RNA"
    return [
        _way("no test side, or one that was trained on", "test cases of a fold are scored by the "
             "model of that fold", apart, surely),
        _way("scaling, imputing or choosing genes with test patients", "learnt inside each fold; "
             "refused where a held-out case had a part in it (K07)", panels, "enforced"),
        _way("choosing epoch, calibration or threshold on test patients", "chosen on validation "
             "and saved before the test side is opened (K08)", "the order of the program",
             "enforced"),
        _way("one slide file under two patients", "files are compared by SHA-256 (K12)", apart,
             surely),
        _way("one patient under two names", "joined where data.patient_alias names them",
             "such a table was given" if aliases else "no such table was given; other than by "
             "equal files it cannot be seen", "verified" if aliases else "not examined"),
        _way("the label among the inputs", "at prediction the model reads the slide alone; RNA "
             "teaches in training only", "; ".join(labels) or "no note of it", "for the reader"),
        _way("test patients of the same hospitals", "sites are kept apart if asked for", sites,
             "for the reader"),
        _way("training on later patients than are tested", "dates are not read", "",
             "not examined"),
        _way("a tile encoder that was itself trained on these slides", "encoders come as they are",
             "see what its authors say it was trained on", "not examined"),
    ]  # fmt: skip


def read_left_out(path: Path) -> list[LeftOut]:
    """Count the rows of ``dropped.csv`` by kind, code and reason, the commonest first."""
    with path.open(encoding="utf-8", newline="") as stream:
        found = Counter((r["kind"], r["code"], r["reason"]) for r in csv.DictReader(stream))
    return [LeftOut(kind=k, code=c, reason=r, n=n) for (k, c, r), n in found.most_common()]


def read_cohort(path: Path) -> pd.DataFrame | None:
    """Read ``cohort.csv`` as text; None where there is none."""
    if not path.exists():
        return None
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _flow(number: Mapping[str, int]) -> list[Row]:
    return [
        {"what": name} | {k: number.get(f"{kind}s {k}", 0) for k in ("listed", "used", "left out")}
        for kind, name in _KINDS.items()
    ]


def _account(number: Mapping[str, int], left: Sequence[LeftOut]) -> Words:
    """Say whether the flow adds up: listed = used + left out, each with its cause."""
    faults = []
    for kind, name in _KINDS.items():
        listed, used, out = (number.get(f"{kind}s {k}", 0) for k in ("listed", "used", "left out"))
        by_cause = sum(one.n for one in left if one.kind == kind)
        if listed != used + out or by_cause != out:
            faults.append(
                f"{name}: {listed} listed, {used} used, {out} left out, {by_cause} with a cause"
            )
    if faults:
        return Words(lines=["The flow does not add up: " + "; ".join(faults)], warns=True)
    return Words(lines=["The flow adds up: each one left out has its cause below."])


def _by_class(cohort: pd.DataFrame) -> list[Row]:
    rows: list[Row] = []
    for (_, name), part in cohort.groupby(["label", "class_name"]):
        has_slide, has_rna = part["slide_id"] != "", part["rna_id"] != ""
        rows.append(
            {
                "class": name,
                "cases": part["case_id"].nunique(),
                "slides": int(has_slide.sum()),
                "cases with a slide": part.loc[has_slide, "case_id"].nunique(),
                "cases with RNA": part.loc[has_rna, "case_id"].nunique(),
                "cases with both": part.loc[has_slide & has_rna, "case_id"].nunique(),
            }
        )
    return rows


def _causes(left: Sequence[LeftOut]) -> list[Row]:
    shown, rest = left[:_MOST_REASONS], left[_MOST_REASONS:]
    rows: list[Row] = [
        {"kind": _KINDS.get(o.kind, o.kind), "code": o.code, "reason": o.reason, "n": o.n}
        for o in shown
    ]
    if rest:
        reason = f"{len(rest)} further reasons, in dropped.csv"
        rows.append(
            {"kind": "all kinds", "code": "", "reason": reason, "n": sum(o.n for o in rest)}
        )
    return rows


def _sides(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    columns = {k: v for k, v in _OF_A_SIDE.items() if k not in _NO_COUNTS}
    found: list[Row] = []
    for side, name in _SIDES.items():
        of_side = [row for row in rows if row["side"] == side]
        row: dict[str, Any] = {"side": name, "folds": len(of_side)}
        for key, heading in columns.items():
            values = [int(r[key]) for r in of_side if key in r]
            if values:
                low, high = min(values), max(values)
                row[heading] = low if low == high else f"{low} to {high}"
        found.append(row)
    return found


def _every_side(row: Mapping[str, Any]) -> Row:
    """Order a row by name: one that was read back from a file has lost its order."""
    side = str(row["side"])
    shown = {**row, "side": _SIDES.get(side, side)}
    return {heading: shown[key] for key, heading in _OF_A_SIDE.items() if key in shown}


def _way(leak: str, done: str, known: str, how: str) -> Row:
    return {"leak": leak, "what stands against it": done, "in this run": known, "status": how}
