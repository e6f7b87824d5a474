"""What the trainings behind docs/results/headroom.md gave: a line each, kept in the repository.

A work folder holds gigabytes and lives on one machine. What the page needs of a training is a few
numbers: with them, more seeds and arms may be added on another machine, and the page written again.

Lines of 2026-11-26 without truths, and those of several seeds, were read back from the page and its
figure, whose points have six decimals, after their work folder was gone.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gate_runs import Job, Plan, mean_truths, read_scored, read_truths
from gate_verdicts import Outcome

_TOLD = 5e-4  # a figure that is printed with three digits has moved


@dataclass(frozen=True)
class Line:
    """What one training gave; of several seeds together, where only their means are known."""

    scenario: str
    arm: str
    seeds: tuple[int, ...]
    outcome: Outcome | None = None
    truths: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> "Line":
        """Read a line of the file."""
        found = json.loads(text)
        outcome = Outcome(**found["outcome"]) if found["outcome"] else None
        seeds = tuple(found["seeds"])
        return cls(found["scenario"], found["arm"], seeds, outcome, found["truths"])


class Record:
    """The lines of trainings of one plan."""

    def __init__(self, plan: Plan, lines: Iterable[Line] = ()) -> None:
        self.plan = plan
        self._lines = {(x.scenario, x.arm, x.seeds): x for x in lines}

    @classmethod
    def load(cls, path: Path, plan: Plan) -> "Record":
        """Read a file, of a plan that may have more arms now.

        Raises
        ------
        SystemExit
            The file holds results of other settings.
        """
        if not path.exists():
            return cls(plan)
        head, *rest = path.read_text(encoding="utf-8").splitlines()
        lines = [Line.read(text) for text in rest]
        kept, wanted = json.loads(head), json.loads(json.dumps(asdict(plan)))
        moved = sorted({x.arm for x in lines if not _same(kept, wanted, x.arm)})
        if moved:
            what = f"{', '.join(moved)}: recorded with other settings"
            raise SystemExit(f"{path}: {what}; choose another --record")
        return cls(plan, lines)

    def save(self, path: Path) -> None:
        """Write the plan and a line a training, in order."""
        lines = [json.dumps(asdict(self.plan), sort_keys=True)]
        lines += [json.dumps(asdict(self._lines[key])) for key in sorted(self._lines)]
        new = path.with_name(f"{path.name}.new")
        new.write_text("\n".join(lines) + "\n", encoding="utf-8")
        new.replace(path)

    def add(self, jobs: Iterable[Job], work: Path) -> list[str]:
        """Add what is finished in a work folder; what was recorded stands, and what moved is told.

        No training is drawn again until it pleases: another machine rounds otherwise.
        """
        said = []
        for scenario, models in read_scored(jobs, work).items():
            for arm, seeds in models.items():
                for seed, scored in seeds.items():
                    key, outcome = (scenario, arm, (seed,)), scored.outcome()
                    old = self._lines.get(key)
                    if old and old.outcome:
                        was, now = old.outcome.auroc, outcome.auroc
                        if abs(was - now) > _TOLD:
                            what = f"{was:.4f} recorded, which stands; {now:.4f} here"
                            said.append(f"{scenario} seed {seed} {arm}: {what}")
                        continue
                    outcome = replace(outcome, auroc=round(outcome.auroc, 8))
                    truths = read_truths(Job(scenario, seed, arm), work)
                    truths = {what: round(value, 5) for what, value in truths.items()}
                    self._lines[key] = Line(scenario, arm, (seed,), outcome, truths)
        return said

    def outcomes(self) -> dict[str, dict[str, dict[int, Outcome]]]:
        """Give AUROCs: scenario -> arm -> seed."""
        found: dict[str, dict[str, dict[int, Outcome]]] = {}
        for scenario, arm, seeds in sorted(self._lines):
            outcome = self._lines[scenario, arm, seeds].outcome
            if outcome:
                found.setdefault(scenario, {}).setdefault(arm, {})[seeds[0]] = outcome
        return found

    def truths(self, scenario: str) -> dict[str, dict[str, float]]:
        """Give an arm's means over seeds, none counted twice."""
        found: dict[str, list[tuple[int, Mapping[str, float]]]] = {}
        counted: dict[str, set[int]] = {}
        known = [x for x in self._lines.values() if x.scenario == scenario and x.truths]
        for line in sorted(known, key=lambda x: -len(x.seeds)):
            seen = counted.setdefault(line.arm, set())
            if not seen & {*line.seeds}:
                seen |= {*line.seeds}
                found.setdefault(line.arm, []).append((len(line.seeds), line.truths))
        return {arm: mean_truths(parts) for arm, parts in found.items()}


def _same(kept: Mapping[str, Any], wanted: Mapping[str, Any], arm: str) -> bool:
    """Whether an arm is trained today as it was."""
    common = all(kept[k] == v for k, v in wanted.items() if k != "arms")
    return common and kept["arms"].get(arm) == wanted["arms"].get(arm)


def missing(
    record: Mapping[str, Mapping[str, Mapping[int, Outcome]]], jobs: Sequence[Job]
) -> list[Job]:
    """Give the trainings of which nothing is known."""
    return [j for j in jobs if j.seed not in record.get(j.scenario, {}).get(j.model, {})]
