"""The form of a refusal: one clear line a fault, and an exit code a kind of fault.

A bad input is turned away at a door (config, feature file, table, cohort, predictor) with a
:class:`Problem`; doors that see many faults collect them and raise once. Behind the doors there is
no defensive code.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

LINE_LIMIT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault of one input.

    Parameters
    ----------
    code
        Catalogue code, a letter and two digits (F feature file, O expression, L clinical table,
        K folds, M comparison of models, P prediction, C predictor files, T training,
        X concurrency, G configuration, D the viewer's requests and jobs).
    where
        The file, slide, table or key path at fault.
    what
        What is wrong: what was got and what was wanted.
    remedy
        How to mend it; empty only where nothing can be done.
    row, column, value
        The place inside a table, where there is one. ``row`` is the line in the file, header = 1.
    """

    code: str
    where: str
    what: str
    remedy: str = ""
    row: int | None = None
    column: str | None = None
    value: str | None = None

    def line(self) -> str:
        """Give the one line a user reads, at most 300 characters and without line breaks."""
        place = self.where
        if self.row is not None:
            place += f" row {self.row}"
        if self.column is not None:
            place += f" column {self.column}"
        head = f"[{self.code}] {place}: {self.what}"
        text = f"{head}; {self.remedy}" if self.remedy else head
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
        return text if len(text) <= LINE_LIMIT else text[: LINE_LIMIT - 3] + "..."


class MomkdError(Exception):
    """Base of every refusal; carries one or more problems and an exit code.

    Raised as is only by nothing: use the subclass that says whose fault it is.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, *problems: Problem) -> None:
        if not problems:
            raise ValueError("a refusal names at least one problem")
        self.problems = problems
        super().__init__("\n".join(p.line() for p in problems))

    def __reduce__(self) -> tuple[type["MomkdError"], tuple[Problem, ...]]:
        """Travel between processes with the problems intact."""
        return type(self), self.problems

    @classmethod
    def of(cls, code: str, where: str, what: str, remedy: str = "") -> "MomkdError":
        """Make a refusal of a single problem."""
        return cls(Problem(code=code, where=where, what=what, remedy=remedy))


class ConfigError(MomkdError):
    """Wrong usage: a command, option or configuration key that cannot be obeyed (exit 2)."""

    exit_code = 2


class DataError(MomkdError):
    """Bad input: a feature file, table or cohort that cannot be used (exit 3)."""


class ModelError(MomkdError):
    """A predictor and an input, or a model and a cohort, that do not fit each other (exit 3)."""


class TooManyDroppedError(MomkdError):
    """The work is done, but more was left out than the options allow (exit 4)."""

    exit_code = 4


class IntegrityError(MomkdError):
    """Refused for safety or integrity: hostile file, changed bytes, leakage (exit 5)."""

    exit_code = 5


class MachineError(MomkdError):
    """The environment failed: disk, memory, lock, a killed worker (exit 6)."""

    exit_code = 6


class InterruptedRunError(MomkdError):
    """Stopped, on request or by a process's end; the same command goes on (exit 75)."""

    exit_code = 75


class Problems:
    """Collects the faults of one door, so that a user sees them all at once."""

    def __init__(self, found: Iterable[Problem] = ()) -> None:
        self.found: list[Problem] = list(found)

    def add(self, problem: Problem) -> None:
        """Add a problem."""
        self.found.append(problem)

    def refuse(self, kind: type[MomkdError]) -> None:
        """Raise ``kind`` with everything found; do nothing when nothing was."""
        if self.found:
            raise kind(*self.found)
