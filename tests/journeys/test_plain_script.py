"""The public functions, called by a script that has no ``if __name__ == "__main__":``."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.journeys.run_momkd import environment

_SCRIPT = """
import momkd

print("begun")
print(momkd.{call})
"""


def _run(folder: Path, call: str) -> subprocess.CompletedProcess[str]:
    script = folder / "my study.py"
    script.write_text(_SCRIPT.format(call=call), encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_a_script_without_guard_trains_in_two_processes(cohort: Path) -> None:
    done = _run(cohort, "crossval('momkd.yaml', 'run', model='mean_logistic', workers=2)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begun") == 1
    assert "Traceback" not in done.stderr
    assert (cohort / "run" / "metrics.json").exists()


def test_a_refusal_reaches_the_script_once(cohort: Path) -> None:
    slide = next((cohort / "features").glob("*.h5"))
    slide.write_bytes(b"no feature file")
    done = _run(cohort, "check('momkd.yaml')")
    assert done.returncode == 1
    assert done.stdout == "begun\n"
    assert done.stderr.count("Traceback") == 1
    assert "DataError: [F03]" in done.stderr
