"""A comparison as rows, as files of a run folder, and as a part of its report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from momkd.evaluation.claims import Claims, format_p, metric_words
from momkd.evaluation.comparison import Comparison, Pair
from momkd.evaluation.estimate import Estimate
from momkd.storage import digest_file, spreadsheet, write_json, write_text
from momkd.workflows.run_folder import describe_machine

NAIVE_WARNING = (
    "naive p: the usual paired t over folds. It takes overlapping training sides for independent "
    "draws and finds differences where there are none (docs/results/type-one-error.md): a warning, "
    "not a result"
)
_FILE = "comparison.json"
_FORMAT_VERSION = 1


def comparison_rows(of: Comparison, *, show_naive: bool = False) -> list[dict[str, str]]:
    """Give one row a comparison, as a person reads it."""
    return [_row(of, pair, show_naive) for pair in of.pairs]


def describe_comparison(of: Comparison) -> list[str]:
    """Say what was compared, how, and what each column means."""
    where = f"{of.n_cases} cases ({of.n_positive} positive), {of.n_folds} folds"
    repeats = f" in {of.n_repeats} repeats" if of.n_repeats > 1 else ""
    level = f"{of.level:.0%}"
    return [
        f"{metric_words(of.metric)} of {of.method} against {len(of.pairs)} others; {where}"
        f"{repeats}; {of.test}",
        f"difference: {of.method} minus the other, with its {level} interval, not adjusted for the "
        "number of comparisons; Holm p is; P(equal): that the true difference is within "
        f"{of.rope}; detectable: the least difference that would have been significant here",
        f"bootstrap: {level} interval over cases, of these trained models; with cross-validated "
        "scores it covers somewhat less than it says (docs/results/type-one-error.md)",
    ]


def write_comparison(
    folder: Path,
    of: Comparison,
    claims: Claims,
    notes: Sequence[str],
    *,
    predictions: Path | None = None,
    show_naive: bool = False,
) -> None:
    """Write ``comparison.json`` and ``comparison.csv``.

    Parameters
    ----------
    predictions
        The table of a run folder that was compared: its digest tells later whether the
        comparison is still of what the folder holds.
    """
    pairs = [_flat(of, pair, show_naive) for pair in of.pairs]
    content = {k: v for k, v in asdict(of).items() if k != "pairs"} | {
        "format_version": _FORMAT_VERSION,
        "pairs": pairs,
        "table": comparison_rows(of, show_naive=show_naive),
        "about": [*describe_comparison(of), *notes],
        "may_claim": list(claims.may),
        "may_not_claim": list(claims.may_not),
        "predictions_sha256": None if predictions is None else digest_file(predictions),
        "machine": describe_machine(),
    }
    write_json(folder / _FILE, content)
    write_text(folder / "comparison.csv", spreadsheet(pairs))


def read_comparison(folder: Path) -> Mapping[str, Any] | None:
    """Give what ``momkd compare`` wrote of these very predictions; None where nothing."""
    path = folder / _FILE
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["predictions_sha256"] != digest_file(folder / "predictions.csv"):
        return None
    return content


def _row(of: Comparison, pair: Pair, show_naive: bool) -> dict[str, str]:
    found = pair.verdict
    row = {
        "against": pair.other,
        of.method: _number(pair.score),
        "other": _number(pair.score_other),
        "difference": _with_signs(found),
        "p": format_p(found.p),
        "Holm p": format_p(pair.p_holm),
        "P(equal)": _number(pair.posterior.within),
        "detectable": _number(found.minimum_detectable),
        "bootstrap": _bounds(pair.bootstrap),
    }
    if show_naive:
        row["naive p (warning)"] = format_p(pair.p_naive)
    return row


def _number(value: float) -> str:
    return "n/a" if value != value else f"{value:.3f}"


def _with_signs(found: Estimate) -> str:
    return "n/a" if found.value != found.value else f"{found.value:+.3f} {_bounds(found)}"


def _bounds(found: Estimate) -> str:
    return "n/a" if found.low != found.low else f"[{found.low:+.3f}, {found.high:+.3f}]"


def _flat(of: Comparison, pair: Pair, show_naive: bool) -> dict[str, Any]:
    found = pair.verdict
    row: dict[str, Any] = {
        "method": of.method,
        "other": pair.other,
        "metric": of.metric,
        "score": pair.score,
        "score_other": pair.score_other,
        "test": of.test,
        "n_folds": pair.n_folds,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "p_holm": pair.p_holm,
        "p_below_rope": pair.posterior.below,
        "p_within_rope": pair.posterior.within,
        "p_above_rope": pair.posterior.above,
        "minimum_detectable": found.minimum_detectable,
        "why_undefined": found.why_undefined,
    }
    for name in ("corrected", "delong", "bootstrap"):
        other: Estimate | None = getattr(pair, name)
        for key in ("low", "high", "p"):
            row[f"{name}_{key}"] = None if other is None else getattr(other, key)
    if show_naive:
        row["naive_p"] = pair.p_naive
    return row
