"""The protocol of a run as it was frozen: opened, and held against what the folder now holds.

``protocol.json`` is never written again; what came later stands in ``amendments.json``, in order,
each entry with the digest of what went before. ``run.json`` records both digests.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from momkd.data.fold_proof import folds_digest
from momkd.data.split_table import SIDES
from momkd.errors import IntegrityError, Problem, Problems
from momkd.storage import canonical_json, digest_bytes
from momkd.types import Fold
from momkd.workflows.run_folder import differing_keys
from momkd.workflows.settings import without_folders

PROTOCOL, AMENDMENTS = "protocol.json", "amendments.json"
NOT_FROZEN = "no protocol was frozen before the first test evaluation of this run"
_BLOCKS = {"cohort", "folds", "models", "comparison", "primary_endpoint", "configuration"}
_REMEDY = "put the file back as it was, or run again into another -o"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenProtocol:
    """What was laid down before anything was tested, and what was added since.

    Parameters
    ----------
    content
        Of ``protocol.json``; docs/protocols.md says what stands in it.
    sha256
        Digest of that file.
    frozen
        When its digest was recorded, ISO 8601; empty before that.
    amendments
        Of ``amendments.json``, the oldest first.
    """

    content: Mapping[str, Any]
    sha256: str
    frozen: str = ""
    amendments: tuple[Mapping[str, Any], ...] = ()

    @property
    def method(self) -> str:
        """The model named beforehand."""
        return str(self.content["comparison"]["method"])

    @property
    def models(self) -> dict[str, Mapping[str, Any]]:
        """What was laid down of each model, by its label; added ones too."""
        entries = [m for part in (self.content, *self.amendments) for m in part["models"]]
        return {str(entry["label"]): entry for entry in entries}

    @property
    def folds(self) -> dict[int, str]:
        """Digest of the folds of each seed; added ones too."""
        parts = (self.content["folds"]["seeds"], *(a["seeds"] for a in self.amendments))
        return {int(seed): str(digest) for part in parts for seed, digest in part.items()}

    @property
    def head(self) -> str:
        """Digest of the last amendment, or of the protocol: it stands for all before it."""
        return amendment_digest(self.amendments[-1]) if self.amendments else self.sha256

    def added_late(self) -> list[str]:
        """Give the models that came when test predictions existed."""
        late = [a for a in self.amendments if a["after_test_predictions"]]
        return [str(m["label"]) for a in late for m in a["models"]]

    def record(self) -> dict[str, Any]:
        """Give what ``run.json`` and ``metrics.json`` keep."""
        return {
            "sha256": self.sha256,
            "frozen": self.frozen,
            "method": self.method,
            "amendments": len(self.amendments),
            "head": self.head,
        }

    def facts(self) -> list[tuple[str, str]]:
        """Give names and words for a page."""
        words = f"frozen {self.frozen}, before the first test evaluation; SHA-256 {self.sha256}"
        found = [("protocol file", words), ("method named beforehand", self.method)]
        return found + [
            (f"amendment {i}", f"{a['date']}: {a['what']}")
            for i, a in enumerate(self.amendments, start=1)
        ]

    def require_scored(self, models: Sequence[str], where: Path) -> None:
        """Refuse predictions that lack a model of the protocol.

        Raises
        ------
        IntegrityError
            K17 there are none of it: no model is taken out once results can be known.
        """
        lacking = [name for name in self.models if name not in models]
        if lacking:
            what = f"lacks {', '.join(lacking)}, which the protocol names"
            remedy = "no model is taken out after freezing: run momkd crossval with all of them"
            raise IntegrityError.of("K17", str(where), what, remedy)


def open_protocol(
    folder: Path, manifest: Mapping[str, Any] | None, *, unrecorded: bool = False
) -> FrozenProtocol | None:
    """Open the protocol of a run, and make sure that the run is still what was frozen.

    Parameters
    ----------
    manifest
        Content of ``run.json``; None before there is one.
    unrecorded
        Whether a protocol may stand there whose digest ``run.json`` has not recorded: where a run
        is begun.

    Returns
    -------
    FrozenProtocol or None
        None where none was ever frozen, as in runs of older versions.

    Raises
    ------
    IntegrityError
        K16 a file of the protocol is gone, changed or damaged since; K17 configuration, folds,
        cohort, models or trainings are no longer those of the protocol; all that was found.
    """
    recorded = None if manifest is None else manifest.get("protocol")
    path = folder / PROTOCOL
    if not path.exists():
        if recorded is None:
            return None
        raise IntegrityError.of("K16", str(path), "is gone since it was frozen", _REMEDY)
    content, sha256 = _read(path)
    if not isinstance(content, dict) or not content.keys() >= _BLOCKS:
        raise IntegrityError.of("K16", str(path), "is no protocol of a run", _REMEDY)
    if recorded is None and not unrecorded:
        what = "its digest was never recorded in run.json"
        raise IntegrityError.of("K16", str(path), what, "momkd crossval with the same -o goes on")
    if recorded is not None and recorded["sha256"] != sha256:
        was, now = recorded["sha256"][:12], sha256[:12]
        what = f"was changed after it was frozen (SHA-256 was {was}, now {now})"
        raise IntegrityError.of("K16", str(path), what, _REMEDY)
    found = FrozenProtocol(
        content=content,
        sha256=sha256,
        frozen="" if recorded is None else recorded["frozen"],
        amendments=_read_amendments(folder / AMENDMENTS, sha256, recorded),
    )
    problems = Problems([*_of_config(folder, found), *_of_folds(folder, found)])
    if manifest is not None:
        problems.found += [*_of_manifest(folder, found, manifest)]
    problems.refuse(IntegrityError)
    return found


def amendment_digest(amendment: Mapping[str, Any]) -> str:
    """SHA-256 of an amendment; it holds the digest of what went before, so it stands for that."""
    return digest_bytes(canonical_json(dict(amendment)).encode())


def laid_down(folder: Path) -> dict[str, Any]:
    """Give what ``config.yaml`` says for all models of a run, without this machine's folders."""
    content = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    content = content if isinstance(content, dict) else {}
    return {k: v for k, v in without_folders(content).items() if k != "model"}


def seed_digests(folds: Sequence[Fold]) -> dict[str, str]:
    """Give the digest of the folds of each seed."""
    seeds = sorted({f.seed for f in folds})
    by_index = sorted(folds, key=lambda f: f.index)
    return {str(s): folds_digest([f for f in by_index if f.seed == s]) for s in seeds}


def _read(path: Path) -> tuple[Any, str]:
    try:
        raw = path.read_bytes()
        return json.loads(raw), digest_bytes(raw)
    except (OSError, ValueError) as error:
        raise IntegrityError.of("K16", str(path), f"cannot be read: {error}", _REMEDY) from None


def _read_amendments(
    path: Path, sha256: str, recorded: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any], ...]:
    """Read the amendments and follow their digests from the protocol to what was recorded.

    One more than was recorded is no fault: a run may end between the two writes.
    """
    amendments = _read(path)[0] if path.exists() else []
    chain = [sha256]
    for amendment in amendments:
        if not isinstance(amendment, dict) or amendment.get("previous") != chain[-1]:
            break
        chain.append(amendment_digest(amendment))
    n_known, head = (0, sha256) if recorded is None else (recorded["amendments"], recorded["head"])
    if len(chain) != len(amendments) + 1 or len(chain) <= n_known or chain[n_known] != head:
        what = "is not what was recorded: an amendment was changed, moved or taken out"
        raise IntegrityError.of("K16", str(path), what, _REMEDY)
    return tuple(amendments)


def _of_config(folder: Path, of: FrozenProtocol) -> Iterator[Problem]:
    path = folder / "config.yaml"
    if not path.exists():
        return
    try:
        now = laid_down(folder)
    except (yaml.YAMLError, ValueError):
        return  # who reads it says so
    keys = differing_keys(of.content["configuration"], now)
    if keys:
        what = f"is not the configuration that was frozen (differs in {', '.join(keys[:5])})"
        yield Problem(code="K17", where=str(path), what=what, remedy=_REMEDY)


def _of_folds(folder: Path, of: FrozenProtocol) -> Iterator[Problem]:
    path = folder / "folds.csv"
    if not path.exists():
        return
    now = seed_digests(_stored_folds(path))
    changed = [
        seed for seed, digest in of.folds.items() if now.get(str(seed)) not in (None, digest)
    ]
    gone = [seed for seed in of.folds if str(seed) not in now]
    # seeds of an amendment may be missing where a run ended before it wrote them
    frozen = {int(seed) for seed in of.content["folds"]["seeds"]}
    bad = sorted({*changed, *(s for s in gone if s in frozen)})
    if bad:
        seeds = ", ".join(map(str, bad[:5]))
        what = f"holds other folds than were frozen (seed {seeds})"
        yield Problem(code="K17", where=str(path), what=what, remedy=_REMEDY)


def _stored_folds(path: Path) -> list[Fold]:
    """Read ``folds.csv`` as it stands; a table that is none gives no folds."""
    held: dict[tuple[int, int], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                place = int(row["seed"]), int(row["fold"])
                held[place][row["split"]].add(row["case_id"])
        return [
            Fold(
                index=fold,
                seed=seed,
                **{side: tuple(sorted(held[seed, fold][side])) for side in SIDES},
            )
            for seed, fold in sorted(held)
        ]
    except (KeyError, ValueError, TypeError):
        return []


def _of_manifest(
    folder: Path, of: FrozenProtocol, manifest: Mapping[str, Any]
) -> Iterator[Problem]:
    where = str(folder / "run.json")
    if manifest.get("cohort") != of.content["cohort"]["sha256"]:
        what = "is of another cohort than the protocol"
        yield Problem(code="K17", where=where, what=what, remedy=_REMEDY)
    known = manifest.get("models", ())
    first = [str(entry["label"]) for entry in of.content["models"]]
    gone = [name for name in first if name not in known]
    if gone:
        what = f"lacks {', '.join(gone)}, which the protocol names"
        remedy = "no model is taken out after freezing"
        yield Problem(code="K17", where=where, what=what, remedy=remedy)
    for job in manifest.get("jobs", ()):
        path = folder / job / "done.json"
        under = _protocol_of(path)
        if under is not None and under != of.sha256:
            what = "its predictions were made under another protocol, or none"
            yield Problem(code="K17", where=str(path), what=what, remedy=_REMEDY)


def _protocol_of(path: Path) -> str | None:
    """Give the digest that a finished training noted; None where it is open or unreadable."""
    if not path.exists():
        return None
    try:
        done = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # the report names it
    return str(done.get("protocol")) if isinstance(done, dict) else None
