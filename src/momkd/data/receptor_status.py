"""Receptor status from what a pathology report states: HER2, PR and ER by written rules.

The default follows the guidelines of ASCO/CAP (HER2: Wolff et al., J Clin Oncol 2018;36:2105, as
affirmed 2023; ER and PR: Allison et al., J Clin Oncol 2020;38:1346). Slides cannot be read again:
the rule judges what was recorded, and answers "unknown" where the record does not decide.
docs/labels.md has the rule in words.
"""

import re
from dataclasses import dataclass
from typing import Literal

Status = Literal["positive", "negative", "equivocal", "indeterminate"]
Label = Literal["positive", "negative"]

RULES = {
    "asco-cap": "IHC by its score, ISH for what IHC leaves open; contradictions are unknown",
    "ihc-only": "the IHC status as recorded",
    "ihc-then-fish": "the IHC status; where it is neither positive nor negative, the FISH status",
    "fish-then-ihc": "the FISH status; where it is neither positive nor negative, the IHC status",
    "rest-negative": "IHC status positive against everything else, unknown included; only to "
    "repeat published counts",
}

_WORDS: dict[str, Status] = {
    **dict.fromkeys(("positive", "pos", "+", "amplified"), "positive"),
    **dict.fromkeys(("negative", "neg", "-", "not amplified", "non-amplified"), "negative"),
    **dict.fromkeys(("equivocal", "borderline"), "equivocal"),
    **dict.fromkeys(("indeterminate", "inconclusive"), "indeterminate"),
}
_NOTHING = frozenset({"", "na", "n/a", "nan", "none", "null", ".", "not evaluated", "unknown"})
_BRACKETED = re.compile(r"^\[.*\]$")
_SCORE = re.compile(r"^([0-3])\s*\+?$")
_PERCENT = re.compile(r"^(<|>=?)?\s*(\d+(?:\.\d+)?)\s*(?:-\s*\d+(?:\.\d+)?)?\s*%?$", re.A)
# HER2/CEP17 ratios from 1.8 to 2.2 were equivocal in 2007; today 2.0 decides together with the
# HER2 copies a cell, which such tables do not state reliably
_RATIO_NEGATIVE, _RATIO_POSITIVE = 1.8, 2.2


class UnreadableCellError(ValueError):
    """A cell that states something, but nothing known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Her2Record:
    """HER2 as recorded; None where nothing is stated.

    ``ihc_score`` is 0 to 3 (for 0, 1+, 2+, 3+); ``ratio`` is HER2 to centromere 17 signals.
    """

    ihc_status: Status | None = None
    ihc_score: int | None = None
    ish_status: Status | None = None
    ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HormoneRecord:
    """PR or ER as recorded; ``least_percent`` is the lower end of the stated share of cells."""

    status: Status | None = None
    least_percent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """A label, or None for unknown, and what decided; one of few phrases, to be counted by."""

    label: Label | None
    reason: str


def read_status(cell: str) -> Status | None:
    """Read a status; None for nothing stated (blank, ``[Not Evaluated]``, any bracketed word)."""
    text = cell.strip().casefold()
    if text in _NOTHING or _BRACKETED.match(text):
        return None
    if text not in _WORDS:
        raise UnreadableCellError("a status (Positive, Negative, Equivocal, Indeterminate)")
    return _WORDS[text]


def read_score(cell: str) -> int | None:
    """Read an IHC score: ``3+`` -> 3."""
    text = cell.strip().casefold()
    if text in _NOTHING or _BRACKETED.match(text):
        return None
    found = _SCORE.match(text)
    if found is None:
        raise UnreadableCellError("an IHC score (0, 1+, 2+, 3+)")
    return int(found[1])


def read_least_percent(cell: str) -> float | None:
    """Read a share of cells: ``10-19%`` -> 10, ``<10%`` -> 0 (it may be any number below)."""
    text = cell.strip().casefold()
    if text in _NOTHING or _BRACKETED.match(text):
        return None
    found = _PERCENT.match(text)
    if found is None:
        raise UnreadableCellError("a share of cells (<10%, 10-19%)")
    return 0.0 if found[1] == "<" else float(found[2])


def read_ratio(cell: str) -> float | None:
    """Read a HER2/CEP17 ratio; words and bounds (``>2.2``) are no ratio and say nothing."""
    try:
        ratio = float(cell.strip())
    except ValueError:
        return None
    return ratio if 0 < ratio < 100 else None


def rule_her2(record: Her2Record, rule: str) -> Ruling:
    """Give the HER2 status of a record by one of :data:`RULES`."""
    ihc, ish = record.ihc_status, record.ish_status
    if rule == "ihc-only":
        return _as_recorded("IHC", ihc)
    if rule == "ihc-then-fish":
        return _first_of(("IHC", ihc), ("ISH", ish))
    if rule == "fish-then-ihc":
        return _first_of(("ISH", ish), ("IHC", ihc))
    if rule == "rest-negative":
        return _rest_negative(ihc)
    return _asco_cap_her2(record)


def rule_hormone(record: HormoneRecord, rule: str) -> Ruling:
    """Give the PR or ER status of a record by one of :data:`RULES`; only IHC measures these."""
    if rule == "rest-negative":
        return _rest_negative(record.status)
    if rule != "asco-cap":
        return _as_recorded("IHC", record.status)
    status, percent = record.status, record.least_percent
    # positive from 1 % of cells on; "<10%" does not say on which side of that
    if status == "negative" and percent is not None and percent >= 1:
        return Ruling(label=None, reason="IHC negative against 1 % or more of cells")
    if status == "indeterminate" and percent is not None:
        return Ruling(label=None, reason="IHC indeterminate")
    if status is None and percent is not None and percent >= 1:
        return Ruling(label="positive", reason="1 % or more of cells, no status")
    return _as_recorded("IHC", status)


def _as_recorded(test: str, status: Status | None) -> Ruling:
    if status == "positive" or status == "negative":
        return Ruling(label=status, reason=f"{test} {status}")
    return Ruling(label=None, reason=f"{test} {status or 'not stated'}")


def _first_of(first: tuple[str, Status | None], second: tuple[str, Status | None]) -> Ruling:
    rulings = _as_recorded(*first), _as_recorded(*second)
    decided = next((r for r in rulings if r.label is not None), None)
    return decided or Ruling(label=None, reason=", ".join(r.reason for r in rulings))


def _rest_negative(status: Status | None) -> Ruling:
    if status == "positive":
        return Ruling(label="positive", reason="IHC positive")
    reason = f"IHC {status or 'not stated'}"
    return Ruling(label="negative", reason=reason if status == "negative" else f"rest: {reason}")


def _asco_cap_her2(record: Her2Record) -> Ruling:
    ihc, words = _ihc_finding(record)
    ish = _ish_finding(record)
    if ish == "positive":
        if ihc == "negative":
            return Ruling(label="positive", reason=f"ISH positive (discordant: {words})")
        return Ruling(label="positive", reason=f"ISH positive ({words})")
    if ihc == "positive":
        if ish != "negative":
            return Ruling(label="positive", reason=words)
        # 3+ stands whatever ISH shows; "positive" without a score may have been a 2+
        if record.ihc_score is None:
            return Ruling(label=None, reason=f"{words} against ISH negative")
        return Ruling(label="positive", reason=f"{words} (discordant: ISH negative)")
    if ish == "negative":
        return Ruling(label="negative", reason=f"ISH negative ({words})")
    if ihc == "negative":
        return Ruling(label="negative", reason=words)
    return Ruling(label=None, reason=f"{words}, ISH {_words_of_ish(record)}")


def _ihc_finding(record: Her2Record) -> tuple[Status | None, str]:
    """Give what IHC found, and in words: the score decides, unless the status denies it."""
    status, score = record.ihc_status, record.ihc_score
    if score is None:
        words = f"IHC {status or 'not stated'}"
        return status, f"{words}, no score" if status in ("positive", "negative") else words
    by_score: Status = "positive" if score == 3 else "equivocal" if score == 2 else "negative"
    words = {"positive": "IHC 3+", "equivocal": "IHC 2+", "negative": "IHC 0 or 1+"}[by_score]
    if status is None or status == by_score:
        return by_score, words
    return "equivocal", f"{words} called {status}"


def _ish_finding(record: Her2Record) -> Status | None:
    """Give what ISH found: the status, or a ratio clear of the grey zone where there is none."""
    status, ratio = record.ish_status, record.ratio
    by_ratio: Status | None = None
    if ratio is not None and not _RATIO_NEGATIVE <= ratio <= _RATIO_POSITIVE:
        by_ratio = "positive" if ratio > _RATIO_POSITIVE else "negative"
    if status not in ("positive", "negative"):
        return by_ratio or status
    return status if by_ratio in (None, status) else "indeterminate"


def _words_of_ish(record: Her2Record) -> str:
    if record.ish_status in ("positive", "negative"):
        return f"{record.ish_status} against a ratio of {record.ratio:g}"
    return record.ish_status or "not stated"
