import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import h5py
import numpy as np
import pytest

from momkd.child_processes import (
    KeptChild,
    LostChildError,
    answer_until_alone,
    own_context,
    run_in_child,
)
from momkd.data.expression import read_expression
from momkd.data.rna import annotated
from momkd.data.rna.options import RnaOptions
from momkd.errors import DataError
from tests.dying_work import die, give, hang, refuse

_LOOK = """
import sys
from momkd.child_processes import own_context

print("main")
child = own_context().Process(target=print, args=("child",), daemon=True)
child.start()
child.join()
print(child.exitcode, __file__, sys.modules["__main__"].__spec__)
"""


def test_a_child_answers_refuses_or_is_lost() -> None:
    values = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(run_in_child(give, values, timeout_s=60.0), values)
    with pytest.raises(DataError, match=r"\[O28\] a\.h5: is damaged; write it again"):
        run_in_child(refuse, "a.h5", timeout_s=60.0)
    with pytest.raises(LostChildError, match="crashed"):
        run_in_child(die, timeout_s=60.0)
    with pytest.raises(LostChildError, match=r"took over 0\.5 s"):
        run_in_child(hang, timeout_s=0.5)


def test_a_child_does_not_run_the_script_and_the_script_keeps_its_name(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_LOOK)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["main", "child", f"0 {script} None"]


def test_what_cannot_be_started_leaves_the_script_as_it_was() -> None:
    before = dict(sys.modules["__main__"].__dict__)
    child = own_context().Process(target=lambda: None)
    with pytest.raises(Exception, match=r"pickle|lambda"):
        child.start()
    assert sys.modules["__main__"].__dict__.keys() == before.keys()
    assert sys.modules["__main__"].__spec__ is before["__spec__"]


def test_an_annotated_matrix_is_read_in_a_child_whose_death_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rna.h5ad"
    with h5py.File(path, "w") as file:
        file["X"] = np.full((2, 3), 2.0, dtype=np.float32)
        for name, words in (("obs", ["a-1", "b-1"]), ("var", ["ERBB2", "ESR1", "PGR"])):
            file[f"{name}/_index"] = np.array(words, dtype=h5py.string_dtype())
            file[name].attrs["_index"] = "_index"
    reading = read_expression(path, RnaOptions(rna_scale="log2"))
    assert reading.expression.values.tolist() == [[2.0] * 3] * 2
    with monkeypatch.context() as patched:
        patched.setattr(annotated, "read_annotated", die)
        with pytest.raises(DataError, match=r"\[F27\].*rna\.h5ad: the reader crashed"):
            read_expression(path)
    monkeypatch.setattr(annotated, "read_annotated", hang)
    monkeypatch.setattr(annotated, "_TIMEOUT_S", 0.5)
    with pytest.raises(DataError, match=r"\[F27\].*took over 0\.5 s"):
        read_expression(path)


def _double(pipe: Connection) -> None:
    answer_until_alone(pipe, lambda number: 2 * number)


def test_a_kept_child_is_started_again_and_leaves_stopping_to_its_parent() -> None:
    child = KeptChild(_double)
    assert not child.is_running

    def ask(number: int) -> int:
        pipe = child.ready()
        pipe.send(number)
        assert pipe.poll(60)
        answer: int = pipe.recv()
        return answer

    try:
        assert ask(2) == 4
        first = child._process
        assert first is not None
        assert first.pid is not None
        os.kill(first.pid, signal.SIGINT)
        assert ask(3) == 6
        assert child._process is first
        first.kill()
        first.join()
        assert ask(4) == 8
        assert child._process is not first
    finally:
        child.stop()
    assert not child.is_running
