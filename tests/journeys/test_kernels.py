"""Whatever is wrong with numba, everything runs, on torch, and says so."""

import json
import os
from pathlib import Path

from tests.journeys.run_momkd import momkd

BROKEN = """
__version__ = "9.9"


class types:
    uint16 = float32 = None


def njit(*args, **kwargs):
    raise SystemError("LLVM is not what it was")
"""


def test_a_broken_numba(cohort: Path, tmp_path: Path, monkeypatch) -> None:
    planted = tmp_path / "planted"
    (planted / "numba").mkdir(parents=True)
    (planted / "numba" / "__init__.py").write_text(BROKEN)
    (planted / "numba" / "extending.py").write_text("def overload(f): return lambda g: g\n")
    monkeypatch.setenv("PYTHONPATH", f"{planted}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    answer = momkd(
        *("train", "-c", cohort / "momkd.yaml", "-o", tmp_path / "run"),
        *("--set", "fit.epochs=1", "--set", "fit.precision=fast"),
    )
    assert answer.code == 0, answer.err
    said = [line for line in (answer.out + answer.err).splitlines() if "graph kernels" in line]
    assert len(said) == 1, (answer.out, answer.err)
    assert "torch (the numba kernels do not compile" in said[0]
    assert "products are exact" in said[0]
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["kernels"] in said[0]
    assert json.loads((tmp_path / "run" / "done.json").read_text())["kernels"] == "torch"
