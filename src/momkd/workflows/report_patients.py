"""The part of a report about patients: who was used and why not, the folds, and their proof."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from momkd.evaluation.curves import wilson
from momkd.reporting.flow_chart import draw_flow
from momkd.reporting.page import Bounded, Heading, Part, Picture, Row, Section, Table, Words
from momkd.workflows.leakage_sheet import CAPTION, leakage_sheet
from momkd.workflows.report_flow import (
    KINDS,
    SIDES,
    LeftOut,
    SideCount,
    count_folds,
    make_flow,
    participants_rows,
    read_left_out,
)

_MOST_REASONS = 30
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


def patients_section(
    manifest: Mapping[str, Any],
    dropped: Path,
    cohort: pd.DataFrame | None,
    sides: Sequence[SideCount] = (),
) -> Section:
    """Tell who was listed, used and left out, by cause and by class."""
    left = read_left_out(dropped)
    number = {str(row["what"]): int(row["n"]) for row in manifest["counts"]}
    parts: list[Part] = [Words(lines=["Everything listed is used, or left out with a reason."])]
    if number:
        parts += _drawn(manifest, left, cohort, sides)
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
    manifest: Mapping[str, Any],
    n_panels: int,
    configuration: Mapping[str, Any],
    sides: Sequence[SideCount] = (),
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
            *_by_side(sides),
            Table(
                caption="Cases, slides, positive cases, cases with RNA and sites of every side",
                rows=[_every_side(row) for row in rows],
                folded=True,
            ),
            Heading(text="Verified of these folds"),
            Words(lines=proof.get("statements") or ["nothing is recorded"], is_list=True),
            Table(
                caption=CAPTION,
                rows=[w.row() for w in leakage_sheet(manifest, n_panels, configuration)],
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


def _drawn(
    manifest: Mapping[str, Any],
    left: Sequence[LeftOut],
    cohort: pd.DataFrame | None,
    sides: Sequence[SideCount],
) -> list[Picture]:
    flow = make_flow(manifest["counts"], left, cohort, sides, count_folds(manifest))
    if flow is None:
        return []
    caption = "Flow of patients, slides and RNA profiles, with every cause"
    caption += "; below, what a side of a fold holds, least to most." if sides else "."
    return [Picture(figure=draw_flow(flow), caption=caption, alt=flow.words())]


def _by_side(sides: Sequence[SideCount]) -> list[Table]:
    if not sides:
        return []
    caption = "Participants by side and class, least to most over all folds"
    return [Table(caption=caption, rows=participants_rows(sides))]


def _flow(number: Mapping[str, int]) -> list[Row]:
    return [
        {"what": name} | {k: number.get(f"{kind}s {k}", 0) for k in ("listed", "used", "left out")}
        for kind, name in KINDS.items()
    ]


def _account(number: Mapping[str, int], left: Sequence[LeftOut]) -> Words:
    """Say whether the flow adds up: listed = used + left out, each with its cause."""
    faults = []
    for kind, name in KINDS.items():
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
        {"kind": KINDS.get(o.kind, o.kind), "code": o.code, "reason": o.reason, "n": o.n}
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
    for side, name in SIDES.items():
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
    shown = {**row, "side": SIDES.get(side, side)}
    return {heading: shown[key] for key, heading in _OF_A_SIDE.items() if key in shown}
