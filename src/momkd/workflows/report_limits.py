"""The limits of a run in plain words: the same for all, and those that its own figures show."""

from collections.abc import Mapping
from typing import Any

from momkd.reporting.words import sentence

_ALWAYS = (
    "Research software, not a medical device. No figure here supports a decision about a patient.",
    "Valid for slides like those it was taught on: same encoder, tile size and resolution.",
    "Intervals express the sampling of patients, not the choice of a model after seeing results.",
    "How many of those called positive are positive depends on how common the class is: with other "
    "shares of positives, AUPRC, net benefit and calibration are other ones.",
)
_FEW = 100


def tell_limits(manifest: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> list[str]:
    """Say what the figures do not show."""
    limits = list(_ALWAYS)
    proof = manifest.get("proof") or {}
    statements = list(proof.get("statements", ()))
    if manifest["folds"]:
        limits.append(
            "Folds of one cohort say nothing of another hospital, scanner or laboratory; score an "
            "external cohort (momkd evaluate RUN --external) before use."
        )
        limits += [_of_validation(manifest["folds"])]
    limits += [s for s in statements if s.startswith(("sites cross", "sites are unknown"))]
    limits += [s for s in statements if s.startswith(("recognising the site", "warning: sites"))]
    if metrics is not None:
        limits += _of_numbers(metrics)
    limits += [
        f"{note}: for this label the RNA that teaches holds the label's own definition"
        for note in manifest["notes"]
        if "define the label" in note
    ]
    return [sentence(limit) for limit in limits]


def _of_validation(folds: Any) -> str:
    held = [int(row["positives"]) for row in folds if row["side"] == "val"] or [0]
    few = f"{min(held)} to {max(held)}" if min(held) < max(held) else str(held[0])
    return (
        f"Epoch, calibration and threshold of a fold rest on {few} positive validation cases: the "
        "thresholds of folds differ by chance."
    )


def _of_numbers(metrics: Mapping[str, Any]) -> list[str]:
    told = []
    fewest = min(
        (
            min(
                sum(row["n_positive"] for row in entry["per_fold"] if row["seed"] == seed)
                for seed in {row["seed"] for row in entry["per_fold"]}
            )
            for entry in metrics["models"].values()
        ),
        default=0,
    )
    if fewest < _FEW:
        told.append(f"Only {fewest} positive patients were tested: every figure of them is rough.")
    below = [
        name
        for name, entry in metrics["models"].items()
        if _value(entry, "accuracy") < _value(entry, "majority_rate")
    ]
    if below:
        told.append(
            f"The accuracy of {', '.join(below)} lies below the majority rate: at its threshold "
            "the model is right less often than calling everybody the commoner class."
        )
    return told


def _value(entry: Mapping[str, Any], key: str) -> float:
    value = entry["mean_over_folds"][key]["value"]
    return float("nan") if value is None else float(value)
