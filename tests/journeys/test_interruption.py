"""A run that is killed ends with the same bytes as one that is not."""

import hashlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.journeys.run_momkd import command, environment, momkd, refused

_OUTPUTS = ("model.safetensors", "config.json", "history.csv", "panel.json", "predictions.csv")


def _bytes_of(run: Path) -> dict[str, str]:
    return {
        str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(run.rglob("*"))
        if p.name in _OUTPUTS
    }


def _start(config: Path, run: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("crossval", "-c", config, "--model", "momkd", "-o", run, "--workers", 1),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _kill_and_resume(config: Path, run: Path, n_kills: int, seed: int, whole_s: float) -> int:
    """Kill the run ``n_kills`` times at random instants; give how many struck while it ran."""
    rng = random.Random(seed)
    struck = 0
    for _ in range(n_kills):
        process = _start(config, run)
        time.sleep(rng.uniform(0.3, 1.0) * whole_s)
        if process.poll() is None:
            struck += 1
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return struck


@pytest.fixture(scope="module")
def whole(
    made_cohort: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, str], float]:
    run = tmp_path_factory.mktemp("whole") / "run"
    started = time.monotonic()
    process = _start(made_cohort / "momkd.yaml", run)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return _bytes_of(run), time.monotonic() - started


def _check(made: Path, tmp: Path, whole: tuple[dict[str, str], float], kills: int) -> None:
    expected, whole_s = whole
    run = tmp / "run"
    struck = _kill_and_resume(made / "momkd.yaml", run, kills, seed=kills, whole_s=0.8 * whole_s)
    assert struck >= 1, "no kill struck a running process"
    answer = momkd(
        *("crossval", "-c", made / "momkd.yaml", "--model", "momkd", "-o", run, "--workers", 1)
    )
    assert answer.code == 0, answer.err
    assert _bytes_of(run) == expected


def test_killed_runs_end_with_the_same_bytes(
    made_cohort: Path, tmp_path: Path, whole: tuple[dict[str, str], float]
) -> None:
    _check(made_cohort, tmp_path, whole, kills=3)


@pytest.mark.slow
def test_twenty_kills_end_with_the_same_bytes(
    made_cohort: Path, tmp_path: Path, whole: tuple[dict[str, str], float]
) -> None:
    _check(made_cohort, tmp_path, whole, kills=20)


def test_a_signal_saves_and_exits_75(
    made_cohort: Path, tmp_path: Path, whole: tuple[dict[str, str], float]
) -> None:
    expected, whole_s = whole
    run = tmp_path / "run"
    process = _start(made_cohort / "momkd.yaml", run)
    deadline = time.monotonic() + 10 * whole_s
    while not list(run.rglob("checkpoint/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert "Traceback" not in err
    answer = momkd(
        *("crossval", "-c", made_cohort / "momkd.yaml", "--model", "momkd", "-o", run),
        *("--workers", 1),
    )
    assert answer.code == 0, answer.err
    assert _bytes_of(run) == expected


def test_a_folder_in_use_is_refused(made_cohort: Path, tmp_path: Path) -> None:
    from momkd.storage import lock_folder

    with lock_folder(tmp_path / "run"):
        answer = momkd("crossval", "-c", made_cohort / "momkd.yaml", "-o", tmp_path / "run")
    refused(answer, 6, "[X01]", str(os.getpid()))


def test_another_configuration_is_refused(
    finished_run: Path, made_cohort: Path, tmp_path: Path
) -> None:
    answer = momkd(
        *("crossval", "-c", made_cohort / "momkd.yaml", "-o", finished_run),
        *("--set", "fit.lr=0.5"),
    )
    refused(answer, 2, "[T14]", "fit.lr")
