"""Freed memory stays with the process, and only where it is asked for."""

import subprocess
import sys

import pytest

from momkd.fitting import allocator

COUNT_FAULTS = """
import resource
import torch
from momkd.fitting.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(6):
        torch.zeros(4, 1 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
before = faults()
print(keep_freed_memory(), before, [faults() for _ in range(8)][-1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc's")
def test_large_tensors_come_from_kept_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True
    )
    kept, before, after = done.stdout.split()
    if kept == "False":
        pytest.skip("this system's C library has no such setting")
    # after a while every tensor finds pages that another one left
    assert int(after) < int(before) / 10


def test_the_environment_leaves_the_allocator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    allocator.keep_freed_memory.cache_clear()
    monkeypatch.setenv("MOMKD_MALLOPT", "0")
    try:
        assert allocator.keep_freed_memory() is False
    finally:
        allocator.keep_freed_memory.cache_clear()


def test_other_systems_have_no_such_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    allocator.keep_freed_memory.cache_clear()
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    try:
        assert allocator.keep_freed_memory() is False
    finally:
        allocator.keep_freed_memory.cache_clear()
