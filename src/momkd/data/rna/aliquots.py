"""One sample a case: tumour only, and of several aliquots the one that the published rule takes.

Analyte H before R before T, then the later plate, then the highest barcode: how the Broad's
Firehose pipeline chose among replicate samples of TCGA (its "replicate samples" reports).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from momkd.data.barcodes import SAMPLE_TYPES, Barcode, parse_barcode
from momkd.data.rna.options import RnaOptions
from momkd.data.rna.raw_table import RawTable, shown
from momkd.errors import DataError, MomkdError

_ANALYTES = ("T", "R", "H")  # the last is preferred
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutSample:
    """A sample of the table that does not stand for its case, and why."""

    id: str
    case_id: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChosenSamples:
    """One row a case, what was left out, and how many samples of each type there were."""

    case_ids: list[str]
    values: NDArray[np.float32]
    left_out: list[LeftOutSample]
    types: dict[str, int]
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    row: int
    id: str
    case_id: str
    sample_type: str | None
    barcode: Barcode | None

    @property
    def rank(self) -> tuple[int, str, str]:
        """What the published rule compares; equal where barcodes say nothing to choose by."""
        code = self.barcode
        if code is None:
            return -1, "", ""
        analyte = _ANALYTES.index(code.analyte) if code.analyte in _ANALYTES else -1
        parts = (code.sample_type, code.vial, code.portion, code.analyte, code.plate, code.centre)
        return analyte, code.plate or "", "-".join(p or "" for p in parts)


def choose_samples(table: RawTable, options: RnaOptions) -> ChosenSamples:
    """Give each case its sample.

    Samples of other types than asked are left out (O03), samples that repeat one with equal values
    too (O01), then types less preferred, then the aliquots that the rule passes over (O02).

    Raises
    ------
    DataError
        O02 samples that differ and no rule to choose by, O03 no tumour sample.
    """
    samples = [_sample(i, text, table.known) for i, text in enumerate(table.ids)]
    types = Counter(s.sample_type or "not stated" for s in samples)
    by_case: dict[str, list[_Sample]] = defaultdict(list)
    left: list[LeftOutSample] = []
    for sample in samples:
        if sample.sample_type is None or sample.sample_type in options.sample_types:
            by_case[sample.case_id].append(sample)
        else:
            left.append(_left(sample, "O03", _why_type(sample.sample_type)))
    if not by_case:
        counted = ", ".join(f"{n} of type {t}" for t, n in sorted(types.items()))
        what = f"no tumour sample is left ({counted})"
        remedy = (
            f"give samples of type {' or '.join(options.sample_types)}, or set data.sample_types"
        )
        raise DataError.of("O03", str(table.path), what, remedy)
    rows = [_settle(case, table.values, options, left) for case in by_case.values()]
    undecided = [c for c, r in zip(by_case, rows, strict=True) if r is None]
    if undecided:
        raise _undecided(table.path, undecided, table.ids)
    return ChosenSamples(
        case_ids=list(by_case),
        values=np.stack([r for r in rows if r is not None]),
        left_out=left,
        types=dict(sorted(types.items())),
        notes=_notes(left, samples),
    )


def _sample(row: int, text: str, known: Mapping[str, tuple[str, str | None]]) -> _Sample:
    barcode = parse_barcode(text)
    if text in known:
        case_id, sample_type = known[text]
    elif barcode is not None:
        case_id, sample_type = barcode.case_id, barcode.sample_type
    else:
        case_id, sample_type = text, None
    return _Sample(row=row, id=text, case_id=case_id, sample_type=sample_type, barcode=barcode)


def _settle(
    samples: Sequence[_Sample],
    values: NDArray[np.float32],
    options: RnaOptions,
    left: list[LeftOutSample],
) -> NDArray[np.float32] | None:
    """Give the values of one case, or None where its samples differ and nothing decides."""
    open_: list[_Sample] = []
    for sample in samples:
        twin = next((s for s in open_ if _equal(values[s.row], values[sample.row])), None)
        if twin is None:
            open_.append(sample)
        else:
            left.append(_left(sample, "O01", f"repeats a sample with equal values ({twin.id})"))
    if len(open_) > 1:
        order = (*options.sample_types, None)
        best = min(order.index(s.sample_type) for s in open_)
        for other in [s for s in open_ if order.index(s.sample_type) != best]:
            why = f"another type is preferred ({order[best]} to {other.sample_type})"
            left.append(_left(other, "O02", why))
        open_ = [s for s in open_ if order.index(s.sample_type) == best]
    if len(open_) == 1:
        return values[open_[0].row]
    if options.aliquots == "mean":
        left += [_left(s, "O02", f"averaged with {open_[0].id} (mean)") for s in open_[1:]]
        return values[[s.row for s in open_]].mean(axis=0, dtype=np.float64).astype(np.float32)
    ranks = {s.rank for s in open_}
    if options.aliquots == "refuse" or (
        options.aliquots == "published" and len(ranks) < len(open_)
    ):
        return None
    chosen = open_[0] if options.aliquots == "first" else max(open_, key=lambda s: s.rank)
    why = f"another aliquot of its case is taken ({chosen.id}, {options.aliquots} rule)"
    left += [_left(s, "O02", why) for s in open_ if s is not chosen]
    return values[chosen.row]


def _equal(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return np.array_equal(one, other, equal_nan=True)


def _left(sample: _Sample, code: str, reason: str) -> LeftOutSample:
    return LeftOutSample(id=sample.id, case_id=sample.case_id, code=code, reason=reason)


def _why_type(sample_type: str) -> str:
    kind = SAMPLE_TYPES.get(sample_type)
    if kind is not None:
        return f"sample type {sample_type} is not asked for ({kind}; data.sample_types)"
    if sample_type.isdigit():
        kind = "normal tissue" if sample_type < "20" else "a control"
        return f"sample type {sample_type} is no tumour ({kind})"
    return f"sample type {sample_type!r} is not asked for"


def _undecided(path: Path, cases: Sequence[str], ids: Sequence[str]) -> MomkdError:
    lengths = ", ".join(str(n) for n in sorted({len(t) for t in ids}))
    what = f"{len(cases)} cases have several samples that differ and nothing to choose by "
    what += f"({shown(cases, _SHOWN)}; id lengths {lengths})"
    remedy = "keep one aliquot a case, or set data.aliquots: mean or first"
    return DataError.of("O02", str(path), what, remedy)


def _notes(left: Sequence[LeftOutSample], samples: Sequence[_Sample]) -> list[str]:
    notes = []
    by_id = {s.id: s.sample_type for s in samples}
    other = Counter(by_id[s.id] for s in left if s.code == "O03")
    if other:
        counted = ", ".join(f"{n} of type {t}" for t, n in sorted(other.items(), key=str))
        notes.append(f"RNA: samples of other types are left out: {counted}")
    n_equal = sum(s.code == "O01" for s in left)
    if n_equal:
        notes.append(f"RNA: {n_equal} rows repeat a case with equal values: collapsed")
    passed = [s for s in left if s.code == "O02"]
    if passed:
        n_cases = len({s.case_id for s in passed})
        text = f"RNA: {n_cases} cases have several samples; {len(passed)} are passed over by rule"
        notes.append(f"{text} ({shown([s.id for s in passed], _SHOWN)}; dropped.csv says why)")
    return notes
