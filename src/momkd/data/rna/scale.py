"""What the numbers of an RNA table are: counts, TPM, RSEM, logs or z-scores; told case by case."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32

from momkd.errors import DataError

LINEAR = ("counts", "tpm", "rsem")
_LOG_MAX = 30.0  # log2 of anything counted stays below
_DECLARED_LOG_MAX = 100.0
_CENTRED = 1.5
_GAP = 5.0
_EXACT = 1e-3  # TPM sum to a million to the rounding of the file; nothing else does
_ENOUGH_GENES = 50  # fewer say too little about a single case


def find_scale(
    path: Path,
    values: Float32[np.ndarray, "n_cases n_genes"],
    declared: str = "auto",
    case_ids: Sequence[str] = (),
) -> str:
    """Give the scale of a table: as declared, if that can be true, or as detected.

    Signed values are z-scores if centred, else logs of small numbers; non-negative ones up to 30
    are logs, cases that sum to a million are TPM, whole numbers counts, the rest RSEM.

    Parameters
    ----------
    case_ids
        Names of the rows, for messages.

    Raises
    ------
    DataError
        O07 negative values on a linear scale, O08 a declared scale that cannot be, or cases on
        different scales (tables of 50 genes and more).
    """
    low, high = float(values.min()), float(values.max())
    if declared in LINEAR and low < 0:
        what = f"declared {declared}, but holds negative values (least {low:g})"
        remedy = "already log or z-scored? set data.rna_scale"
        raise DataError.of("O07", str(path), what, remedy)
    if declared == "log2" and high > _DECLARED_LOG_MAX:
        what = f"declared log2, but reaches {high:g}"
        raise DataError.of("O08", str(path), what, "not logged yet? set data.rna_scale")
    if declared == "zscore" and low >= 0 and high > 0:
        what = "declared zscore, but no value is negative"
        raise DataError.of("O08", str(path), what, "not centred yet? set data.rna_scale")
    if declared in ("log2", "zscore"):
        return declared
    if values.shape[1] >= _ENOUGH_GENES:
        _require_one_scale(path, values, case_ids)
    return declared if declared != "auto" else _detect(path, values, low, high)


def doubt(values: Float32[np.ndarray, "n_cases n_genes"], scale: str) -> str | None:
    """Say why a scale may be wrong though it is possible."""
    high = float(values.max())
    if scale == "log2" and high > _LOG_MAX:
        return f"RNA: log2 values reach {high:g}, more than a count can: are they logged?"
    return None


def _detect(
    path: Path, values: Float32[np.ndarray, "n_cases n_genes"], low: float, high: float
) -> str:
    if low < 0:
        centred = abs(float(np.median(values))) < _CENTRED
        if not centred and high > _DECLARED_LOG_MAX:
            what = f"reaches {high:g}, but holds negative values (least {low:g})"
            raise DataError.of("O07", str(path), what, "what are they? set data.rna_scale")
        return "zscore" if centred else "log2"
    if high <= _LOG_MAX:
        return "log2"
    if bool(_per_million(values).all()):
        return "tpm"
    return "counts" if bool(_whole(values).all()) else "rsem"


def _require_one_scale(
    path: Path, values: Float32[np.ndarray, "n_cases n_genes"], case_ids: Sequence[str]
) -> None:
    top = values.max(axis=1)
    whole, fractional = _whole(values), _mostly_fractional(values)
    signed = values.min(axis=1) < 0
    exactly = np.abs(values.sum(axis=1, dtype=np.float64) / 1e6 - 1) < _EXACT
    linear = ~signed & (top > _LOG_MAX)
    logged = ~signed & ~linear & ~whole
    # the greatest values of cases on one scale run into each other; logs and what they stand for
    # lie far apart
    if logged.any() and linear.any() and top[linear].min() < _GAP * top[logged].max():
        logged[:] = False
    groups = {
        "hold negative values": (signed, linear),
        "look logged": (logged, linear),
        "hold whole numbers": (whole & linear, fractional & linear),
        "sum to a million": (exactly & fractional, linear & ~_per_million(values)),
    }
    for words, (one, other) in groups.items():
        if one.any() and other.any():
            what = f"{int(one.sum())} cases {words} and {int(other.sum())} do not"
            if len(case_ids):
                first = [case_ids[int(np.flatnonzero(group)[0])] for group in (one, other)]
                what += f" (first: {first[0]}, {first[1]})"
            raise DataError.of("O08", str(path), what, "bring all cases to one scale")


def _per_million(values: Float32[np.ndarray, "n_cases n_genes"]) -> Bool[np.ndarray, " n_cases"]:
    return np.abs(values.sum(axis=1, dtype=np.float64) / 1e6 - 1) < 0.2


def _whole(values: Float32[np.ndarray, "n_cases n_genes"]) -> Bool[np.ndarray, " n_cases"]:
    return (values == np.floor(values)).all(axis=1)


def _mostly_fractional(
    values: Float32[np.ndarray, "n_cases n_genes"],
) -> Bool[np.ndarray, " n_cases"]:
    n_fractional = (values != np.floor(values)).sum(axis=1)
    return n_fractional * 2 > (values != 0).sum(axis=1)
