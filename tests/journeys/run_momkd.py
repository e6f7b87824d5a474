"""Run the command line as a user does: a real process, its exit code and what it prints."""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from select import select

_CAN_FORK = sys.platform.startswith("linux")


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


def momkd(
    *args: object, cwd: Path | None = None, timeout_s: float = 300, afresh: bool = False
) -> Answer:
    """Run momkd and wait; it is forked from a process that has it imported, unless ``afresh``.

    In another environment than the one that process was started in, it starts afresh too.
    """
    if not afresh and _CAN_FORK:
        server = _Server.running()
        if server.environment == _told(environment()):
            return server.run(tuple(map(str, args)), cwd or Path.cwd(), timeout_s)
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


def _told(variables: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in variables.items() if not k.startswith("PYTEST_")}


@dataclass
class _Server:
    """The process that momkd is forked from; one a test process."""

    environment: dict[str, str] = field(default_factory=lambda: _told(environment()))

    @classmethod
    def running(cls) -> "_Server":
        if not _STARTED:
            _STARTED.append(cls())
        return _STARTED[0]

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.journeys.momkd_server"],
            cwd=Path(__file__).parents[2],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._process.kill)
        assert self._answer(120)["threads_lost"] == 0

    def run(self, args: tuple[str, ...], cwd: Path, timeout_s: float) -> Answer:
        with tempfile.TemporaryDirectory() as place:
            files = {name: str(Path(place) / name) for name in ("stdout", "stderr")}
            asked = {"args": args, "cwd": str(cwd), **files}
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            number = self._answer(60)["pid"]
            try:
                code = self._answer(timeout_s)["code"]
            except TimeoutError:
                os.kill(number, 9)
                self._answer(60)
                raise
            out, err = (Path(f).read_text(encoding="utf-8") for f in files.values())
            return Answer(code, out, err)

    def _answer(self, timeout_s: float) -> dict[str, int]:
        assert self._process.stdout is not None
        if not select([self._process.stdout], [], [], timeout_s)[0]:
            raise TimeoutError(f"no answer in {timeout_s:g} s")
        found: dict[str, int] = json.loads(self._process.stdout.readline())
        return found


_STARTED: list[_Server] = []
