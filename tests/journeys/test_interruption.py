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


def _finish(process: subprocess.Popen[str], run: Path, expected: dict[str, str]) -> None:
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert _bytes_of(run) == expected


def _kill_until(
    n_kills: int, config: Path, folder: Path, expected: dict[str, str], whole_s: float
) -> int:
    """Strike running trainings at random instants; give how many runs were needed for it.

    Only a kill that finds the process alive and a training begun counts. A run that ends before
    its next kill must hold the expected bytes; then the next one is begun.
    """
    rng = random.Random(n_kills)
    struck, n_runs = 0, 1
    for _ in range(8 * n_kills):
        run = folder / f"run{n_runs}"
        process = _start(config, run)
        if _wait_for_training(process, run):
            time.sleep(rng.uniform(0.0, whole_s / 6))
        if process.poll() is None:
            struck += 1
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        else:
            _finish(process, run, expected)
            n_runs += 1
        if struck == n_kills:
            break
    assert struck == n_kills, f"only {struck} kills struck a training"
    _finish(_start(config, folder / f"run{n_runs}"), folder / f"run{n_runs}", expected)
    return n_runs


def _wait_for_training(process: subprocess.Popen[str], run: Path) -> bool:
    """Wait until this very process has written a checkpoint; False if it ends before."""

    def newest_ns() -> int:
        return max((p.stat().st_mtime_ns for p in run.rglob("state.ckpt")), default=0)

    before = newest_ns()
    while process.poll() is None:
        try:
            if newest_ns() > before:
                return True
        except FileNotFoundError:  # a fold ended while we looked
            return True
        time.sleep(0.02)
    return False


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


def test_killed_runs_end_with_the_same_bytes(
    made_cohort: Path, tmp_path: Path, whole: tuple[dict[str, str], float]
) -> None:
    assert _kill_until(3, made_cohort / "momkd.yaml", tmp_path, *whole) >= 1


@pytest.mark.slow
def test_twenty_kills_end_with_the_same_bytes(
    made_cohort: Path, tmp_path: Path, whole: tuple[dict[str, str], float]
) -> None:
    assert _kill_until(20, made_cohort / "momkd.yaml", tmp_path, *whole) >= 1


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
