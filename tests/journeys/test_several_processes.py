"""A training shared by two processes survives the end of one of them, to the bit."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.journeys.run_momkd import Answer, command, environment, refused
from tests.journeys.test_interruption import _bytes_of, _wait_for_training

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

_WORK = ("--devices", 2, "--set", "fit.epochs=12", "--set", "fit.checkpoint_every_s=0.05")


def _start(config: Path, run: Path, work: Sequence[object] = _WORK) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("train", "-c", config, "-o", run, "--model", "momkd", *work),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _answer(process: subprocess.Popen[str]) -> Answer:
    try:
        out, err = process.communicate(timeout=100)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return Answer(process.returncode, out, err)


def _members(parent: int) -> list[int]:
    """Give the processes that share the training, in the order they were started."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
    own = [c for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
    return sorted(map(int, own))


def _kill(victim: int, config: Path, run: Path) -> None:
    process = _start(config, run)
    assert _wait_for_training(process, run), _answer(process).err
    members = _members(process.pid)
    assert len(members) == 2
    os.kill(members[victim], signal.SIGKILL)
    answer = _answer(process)
    refused(answer, 75, "[T19] momkd seed 0 fold 0", f"process {victim + 1} of 2 was killed")
    assert len(answer.error_lines) == 1
    assert not any(Path(f"/proc/{member}").exists() for member in members)


def _whole(config: Path, run: Path) -> dict[str, str]:
    answer = _answer(_start(config, run))
    assert answer.code == 0, answer.err
    assert "fit.devices 2: each training is shared by 2 processes" in answer.out + answer.err
    return _bytes_of(run)


@pytest.mark.slow
def test_a_killed_member_ends_all_and_the_run_goes_on(made_cohort: Path, tmp_path: Path) -> None:
    config, run = made_cohort / "momkd.yaml", tmp_path / "run"
    _kill(1, config, run)
    assert _whole(config, run) == _whole(config, tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_writer_and_a_signal(made_cohort: Path, tmp_path: Path) -> None:
    config, run = made_cohort / "momkd.yaml", tmp_path / "run"
    _kill(0, config, run)
    process = _start(config, run)
    assert _wait_for_training(process, run), _answer(process).err
    process.send_signal(signal.SIGTERM)
    refused(_answer(process), 75, "[T02]", "the same command goes on")
    assert _whole(config, run) == _whole(config, tmp_path / "whole")


@pytest.mark.slow
def test_a_parent_that_is_killed_leaves_no_orphans(made_cohort: Path, tmp_path: Path) -> None:
    process = _start(made_cohort / "momkd.yaml", tmp_path / "run")
    assert _wait_for_training(process, tmp_path / "run"), _answer(process).err
    members = _members(process.pid)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{member}").exists() for member in members):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.05)
