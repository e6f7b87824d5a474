"""The leakage sheet: each way in which test patients reach a result, what bars it, and the proof.

The types are those of Kapoor and Narayanan (Patterns 4:100804, 2023), in our own words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CAPTION = (
    "Ways in which test patients can leak into a result (types after Kapoor and Narayanan, "
    "Patterns 4:100804, 2023), and what stands against each here"
)
TYPES = ("L1.1", "L1.2", "L1.3", "L1.4", "L2", "L3.1", "L3.2", "L3.3")
NOT_EXAMINED = "not examined"
_ENFORCED = "enforced"
_VERIFIED = "verified"
_READER = "for the reader"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way of leakage: its type, what bars it, what is known of this run, and how surely.

    ``status`` is ``verified`` (checked on these folds), ``enforced`` (a run cannot be made
    otherwise), ``for the reader`` (figures stand here, their meaning is a judgement), ``not
    recorded`` or ``not examined``.
    """

    type: str
    leak: str
    done: str
    known: str
    status: str

    def row(self) -> dict[str, str]:
        """Give it as a row of a table."""
        return {
            "type": self.type,
            "leak": self.leak,
            "what stands against it": self.done,
            "in this run": self.known,
            "status": self.status,
        }


def leakage_sheet(
    manifest: Mapping[str, Any], n_panels: int, configuration: Mapping[str, Any]
) -> list[Way]:
    """Give, for each way of leakage, what is done, what is known of this run, and how surely."""
    proof = manifest.get("proof") or {}
    statements = [str(s) for s in proof.get("statements", ())]
    return [
        *_test_side(manifest, statements, proof.get("digest")),
        *_learnt_on_training(manifest, n_panels, configuration),
        *_duplicates(statements, configuration),
        *_features(manifest),
        *_distribution(statements),
    ]


def _test_side(manifest: Mapping[str, Any], statements: list[str], digest: str | None) -> list[Way]:
    apart = _apart(statements)
    tested = _said(statements, "each of", "of ")
    by_digest = f"digest of the folds {digest[:12]}" if digest else ""
    known = "; ".join(s for s in (apart, tested, by_digest) if s)
    if manifest["folds"] and not any(
        row["side"] == "test" and row["cases"] for row in manifest["folds"]
    ):
        known, apart = "no case was kept for testing: nothing was scored", ""
    return [
        Way(
            type="L1.1",
            leak="no test side, or one that was trained on",
            done="test cases of a fold are scored by the model of that fold alone",
            known=known,
            status=_VERIFIED if apart else "not recorded",
        )
    ]


def _learnt_on_training(
    manifest: Mapping[str, Any], n_panels: int, configuration: Mapping[str, Any]
) -> list[Way]:
    panels = (
        f"{n_panels} gene panels recorded"
        if n_panels
        else "no gene panel is recorded: no finished training here reads RNA"
    )
    impute = (configuration.get("data") or {}).get("impute")
    scaled = f"{panels}, each with its own scaling" if n_panels else panels
    if n_panels and impute == "train_median":
        scaled += " and its own medians for missing values"
    return [
        Way(
            type="L1.2",
            leak="scaling or imputing with test patients",
            done="learnt from training cases inside each fold; refused where a held-out case had a "
            "part in it (K07)",
            known=scaled,
            status=_ENFORCED,
        ),
        Way(
            type="L1.2",
            leak="choosing epoch, calibration or threshold on test patients",
            done="chosen on validation and saved before the test side is opened (K08)",
            known=_decided(manifest),
            status=_ENFORCED,
        ),
        Way(
            type="L1.3",
            leak="choosing genes with test patients",
            done="a panel is fitted on the training cases of one fold; refused where a held-out "
            "case had a part in it (K07)",
            known=panels,
            status=_ENFORCED,
        ),
    ]


def _duplicates(statements: list[str], configuration: Mapping[str, Any]) -> list[Way]:
    apart = _apart(statements)
    aliases = (configuration.get("data") or {}).get("patient_alias")
    return [
        Way(
            type="L1.4",
            leak="one slide file under two patients",
            done="files are compared by SHA-256 (K12)",
            known=apart,
            status=_VERIFIED if apart else "not recorded",
        ),
        Way(
            type="L1.4",
            leak="one patient under two names",
            done="joined where data.patient_alias names them",
            known="such a table was given"
            if aliases
            else "no such table was given; other than by equal files it cannot be seen",
            status=_VERIFIED if aliases else NOT_EXAMINED,
        ),
    ]


def _features(manifest: Mapping[str, Any]) -> list[Way]:
    named = [str(n) for n in manifest["notes"] if "define the label" in n]
    labels = [*named, *map(str, manifest.get("target_notes", ()))]
    return [
        Way(
            type="L2",
            leak="the label, or what is not known at prediction, among the inputs",
            done="at prediction a model reads the slide alone; RNA teaches in training only, and "
            "the saved predictor has no part that takes it",
            known="; ".join(labels) or "no note of it",
            status=_READER,
        ),
        Way(
            type="L2",
            leak="a tile encoder that was itself trained on these slides",
            done="encoders come as they are",
            known="see what its authors say it was trained on",
            status=NOT_EXAMINED,
        ),
    ]


def _distribution(statements: list[str]) -> list[Way]:
    sites = _said(statements, "no site", "sites cross", "sites are unknown")
    only = _said(statements, "recognising the site", "warning: sites")
    balance = _said(statements, "a test side holds")
    return [
        Way(
            type="L3.1",
            leak="training on later patients than are tested",
            done="dates are not read",
            known="",
            status=NOT_EXAMINED,
        ),
        Way(
            type="L3.2",
            leak="training and test patients that are not independent: of the same hospitals, or "
            "slides of one patient on two sides",
            done="a case and all its slides stand on one side; sites are kept apart if asked for",
            known="; ".join(s for s in (_apart(statements), sites, only) if s),
            status=_READER if sites else NOT_EXAMINED,
        ),
        Way(
            type="L3.3",
            leak="test patients who are not like those the claim is about",
            done="test sides are drawn from the cohort; whom the cohort stands for is not known "
            "here",
            known=balance,
            status=NOT_EXAMINED,
        ),
    ]


def _decided(manifest: Mapping[str, Any]) -> str:
    held = [int(row["cases"]) for row in manifest["folds"] if row["side"] == "val"]
    if not held:
        return ""
    low, high = min(held), max(held)
    return f"validation sides of {low if low == high else f'{low} to {high}'} cases"


def _apart(statements: list[str]) -> str:
    return next((s for s in statements if "two sides of a fold" in s), "")


def _said(statements: list[str], *beginnings: str) -> str:
    return next((s for s in statements if s.startswith(beginnings)), "")
