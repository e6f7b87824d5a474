"""Cases that lack a modality, left out where only pairs are wanted."""

from dataclasses import replace
from typing import Literal

from momkd.data.matching import Dropped, Match
from momkd.types import Case


def keep_paired(found: Match) -> Match:
    """Keep the cases with slide and RNA; the others are dropped with all they have (S21)."""
    kept: list[Case] = []
    dropped: list[Dropped] = []
    for case in found.cases:
        if case.slide_ids and case.has_rna:
            kept.append(case)
            continue
        lacks = "RNA" if case.slide_ids else "slide"
        dropped.append(_drop("case", case.case_id, case, f"no {lacks} (data.paired_only)"))
        gone = f"its case is left out: no {lacks} (data.paired_only)"
        dropped += [_drop("slide", slide_id, case, gone) for slide_id in case.slide_ids]
        dropped += [_drop("rna", case.case_id, case, gone)] if case.has_rna else []
    return replace(found, cases=tuple(kept), dropped=(*found.dropped, *dropped))


def _drop(kind: Literal["case", "slide", "rna"], id_: str, case: Case, reason: str) -> Dropped:
    return Dropped(kind=kind, id=id_, case_id=case.case_id, code="S21", reason=reason)
