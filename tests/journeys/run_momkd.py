"""Run the command line as a user does: a real process, its exit code and what it prints."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error[")]


def command(*args: object) -> list[str]:
    """Give the command line of a momkd call."""
    return [sys.executable, "-m", "momkd.cli", *(str(a) for a in args)]


def environment() -> dict[str, str]:
    """Give an environment with one thread, so that results repeat."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def momkd(*args: object, cwd: Path | None = None, timeout_s: float = 300) -> Answer:
    """Run momkd and wait."""
    done = subprocess.run(
        command(*args),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def refused(answer: Answer, code: int, *needles: str) -> None:
    """Assert one clear line a fault, the exit code, no traceback."""
    assert answer.code == code, (answer.code, answer.out, answer.err)
    assert "Traceback" not in answer.err
    assert answer.error_lines, answer.err
    assert all(len(line) <= 310 for line in answer.error_lines)
    for needle in needles:
        assert any(needle in line for line in answer.error_lines), (needle, answer.err)
