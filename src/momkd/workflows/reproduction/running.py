"""Arms trained: each once, whoever asks for it; a finished one is used as it is."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from momkd.errors import ConfigError, Problem, Problems, TooManyDroppedError
from momkd.storage import write_json
from momkd.workflows.console import say
from momkd.workflows.crossval import crossval
from momkd.workflows.reproduction.arms import Arm, Plan, base_arm
from momkd.workflows.run_folder import claim_config

_NOTE = "arm.json"


def unique_arms(arms: Sequence[Arm]) -> list[Arm]:
    """Give each arm once, in the order of their first mention."""
    return list({arm.name: arm for arm in arms}.values())


def require_own_runs(plan: Plan, arms: Sequence[Arm]) -> None:
    """Turn away, before anything is trained, a folder that holds arms of other settings.

    Raises
    ------
    ConfigError
        T14 a run folder of another configuration or of other options, each of them.
    """
    problems = Problems()
    for arm in arms:
        folder = plan.run_of(arm)
        note = _read_note(folder)
        if note is None and (folder / "config.yaml").exists():
            problems.add(_other(folder, "holds a run that momkd reproduce did not make"))
        elif note is not None and note["signature"] != arm.signature:
            problems.add(_other(folder, f"holds {arm.choice.name} with other options"))
        elif (folder / "config.yaml").exists():
            try:
                claim_config(folder, plan.settings_of(arm))
            except ConfigError as error:
                for problem in error.problems:
                    problems.add(problem)
    problems.refuse(ConfigError)


class Bench:
    """Runs arms as targets ask for them, each of them once.

    Attributes
    ----------
    too_many_dropped
        S20 of the first arm that left out more slides than allowed; its work is done all the same.
    """

    def __init__(self, plan: Plan, arms: Sequence[Arm]) -> None:
        self._plan = plan
        self._names = [arm.name for arm in unique_arms(arms)]
        self._seen: set[str] = set()
        self.too_many_dropped: TooManyDroppedError | None = None

    def run(self, arms: Sequence[Arm]) -> None:
        """Cross-validate those of the arms that are not finished.

        Raises
        ------
        MomkdError
            As :func:`momkd.workflows.crossval.crossval`; the same command goes on.
        """
        for arm in unique_arms(arms):
            if arm.name in self._seen:
                continue
            self._seen.add(arm.name)
            head = f"arm {self._names.index(arm.name) + 1} of {len(self._names)}, {arm.name}"
            if _is_finished(self._plan, arm):
                say(f"{head}: finished before, used as it is")
                continue
            say(f"{head}: {self._plan.run_of(arm)}")
            try:
                _train(self._plan, arm)
            except TooManyDroppedError as error:
                self.too_many_dropped = self.too_many_dropped or error


def _train(plan: Plan, arm: Arm) -> None:
    folder = plan.run_of(arm)
    note: dict[str, Any] = {"signature": arm.signature, "model": arm.choice.label}
    before = _read_note(folder) or {"seeds": 0}
    write_json(folder / _NOTE, note | {"seeds": before["seeds"]})
    crossval(
        plan.files,
        folder,
        seeds=plan.seeds,
        workers=plan.workers,
        set_=[*plan.set_, arm.assignment],
        max_skip=plan.max_skip,
        method=base_arm(plan).choice.label,
    )
    write_json(folder / _NOTE, note | {"seeds": max(plan.seeds, before["seeds"])})


def _is_finished(plan: Plan, arm: Arm) -> bool:
    folder = plan.run_of(arm)
    note = _read_note(folder)
    return (
        note is not None
        and note["seeds"] >= plan.seeds
        and (folder / "predictions.csv").exists()
        and (folder / "folds.csv").exists()
    )


def _read_note(folder: Path) -> dict[str, Any] | None:
    path = folder / _NOTE
    if not path.exists():
        return None
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return {"signature": str(note["signature"]), "seeds": int(note["seeds"])}
    except (ValueError, KeyError, TypeError):
        what = f"{_NOTE} is damaged"
        raise ConfigError.of(
            "T14", str(folder), what, "delete the run folder, or its arm.json"
        ) from (None)


def _other(folder: Path, what: str) -> Problem:
    return Problem(code="T14", where=str(folder), what=what, remedy="choose another -o")
