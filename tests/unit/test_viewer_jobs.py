"""Work in processes of its own: how it is told, and how it ends, also where it is killed."""

import os
import time
from functools import partial
from pathlib import Path

import pytest

from momkd.errors import MachineError
from momkd.viewer.absence import NotServedError
from momkd.viewer.jobs import JobQueue, without_folders
from tests.viewer_parts import die, fail, finish, linger, refuse


@pytest.fixture
def jobs(tmp_path):
    queue = JobQueue(most_waiting=2, folders=[Path("/srv/private")])
    yield queue
    queue.close()


def wait_for(job, *states, most_s=60.0):
    end = time.monotonic() + most_s
    while job.state not in states:
        assert time.monotonic() < end, job.told()
        time.sleep(0.02)
    return job.told()


def test_jobs_end_with_an_answer_or_one_line_and_the_next_one_runs(jobs, capfd):
    kept = []
    good = jobs.put("good", partial(finish, {"n": 7}), lambda a: kept.append(a) or {"n": a["n"]})
    told = wait_for(good, "done")
    assert kept == [{"n": 7}]
    assert told["answer"] == {"n": 7}
    assert told["lines"] == []

    refused = wait_for(jobs.put("refused", refuse, dict), "failed")
    assert refused["lines"] == ["error[S08] a.svs: no tissue; look at it"]
    assert refused["answer"] == {}

    killed = wait_for(jobs.put("killed.svs", die, dict), "failed")
    assert killed["lines"] == [
        "error[D11] killed.svs: its process was ended by SIGKILL before it was done (memory ran "
        "out, or somebody ended it); start it again"
    ]
    assert (killed["done"], killed["total"]) == (1.0, 3.0)

    ours = wait_for(jobs.put("ours", fail, dict), "failed")
    assert ours["lines"] == [
        "our own fault: ZeroDivisionError; its traceback stands where momkd serve runs"
    ]
    assert "ZeroDivisionError: x" in capfd.readouterr().err
    assert [j.name for j in jobs.all()] == ["ours", "killed.svs", "refused", "good"]


def test_a_job_is_cancelled_whether_it_runs_or_waits_and_no_more_wait_than_allowed(jobs):
    running = jobs.put("running", linger, dict)
    while running.step != "lingering":
        wait_for(running, "running")
        time.sleep(0.02)
    process = running.process
    waiting = [jobs.put(f"w{i}", linger, dict) for i in range(2)]
    with pytest.raises(MachineError, match="D12"):
        jobs.put("one too many", linger, dict)
    assert jobs.cancel(waiting[0].key).state == "cancelled"
    jobs.put("in its place", linger, dict)
    jobs.cancel(running.key)
    assert wait_for(running, "cancelled")["lines"] == []
    process.join(10)
    assert not process.is_alive()
    wait_for(waiting[1], "running")
    jobs.cancel(waiting[1].key)
    assert jobs.cancel(waiting[1].key).state == "cancelled"
    with pytest.raises(NotServedError):
        jobs.get("absent")
    with pytest.raises(NotServedError):
        jobs.cancel("absent")


def test_closing_ends_what_runs(tmp_path):
    queue = JobQueue()
    job = queue.put("running", linger, dict)
    while job.process is None or job.step != "lingering":
        time.sleep(0.02)
    pid = job.process.pid
    queue.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(MachineError):
        queue.put("late", linger, dict)


def test_folders_are_cut_from_lines(tmp_path):
    inner = tmp_path / "deep"
    line = f"error[S08] {inner}/a.svs: no tissue ({tmp_path}/b)"
    assert without_folders(line, [tmp_path, inner]) == "error[S08] a.svs: no tissue (b)"
