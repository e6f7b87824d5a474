"""A run folder: what it must hold, who may write it, and how its predictions come together."""

import json
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

import momkd
from momkd.errors import ConfigError, DataError, MachineError
from momkd.fitting.search import SearchOptions
from momkd.storage import write_json, write_text
from momkd.workflows.settings import Settings, dump_settings

FORMAT_VERSION = 1


def describe_machine() -> dict[str, Any]:
    """Give versions and machine facts for a manifest."""
    return {
        "momkd": momkd.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _name_processor(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _name_processor() -> str:
    """Name the processor and its vector instructions: sums round otherwise with others."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or "unnamed"
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def claim_config(folder: Path, settings: Settings) -> None:
    """Write ``config.yaml``, or make sure that the folder's own says the same.

    Models may be added to a run, so the ``model`` block is not compared.

    Raises
    ------
    ConfigError
        T14 the folder holds a run of another configuration; the keys that differ are named.
    """
    path = folder / "config.yaml"
    if path.exists():
        old = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(old, dict):  # it may have been written before there was a search
            old.setdefault("search", SearchOptions().model_dump(mode="json"))
        new = settings.model_dump(mode="json")
        keys = [k for k in differing_keys(old, new) if not k.startswith("model")]
        if keys:
            what = f"holds a run of another configuration (differs in {', '.join(keys[:5])})"
            raise ConfigError.of("T14", str(folder), what, "choose another -o, or the old -c")
        return
    write_text(path, dump_settings(settings))


def write_manifest_of_run(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``run.json``; ``started`` of an earlier call is kept."""
    path = folder / "run.json"
    started = time.strftime("%Y-%m-%dT%H:%M:%S")
    if path.exists():
        started = json.loads(path.read_text(encoding="utf-8"))["started"]
    base = {"format_version": FORMAT_VERSION, "started": started, "machine": describe_machine()}
    write_json(path, base | dict(content))


def read_run(folder: Path) -> dict[str, Any]:
    """Read ``run.json``.

    Raises
    ------
    DataError
        P13 no run folder.
    """
    path = folder / "run.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "is no run folder (no run.json)"
        raise DataError.of("P13", str(folder), what, "give what momkd crossval -o wrote") from None
    except ValueError as error:
        raise DataError.of("P13", str(path), f"is damaged: {error}") from None


def read_predictions(folder: Path) -> pd.DataFrame:
    """Read ``predictions.csv`` of a run.

    Raises
    ------
    DataError
        P14 the run has none yet.
    """
    path = folder / "predictions.csv"
    if not path.exists():
        what = "has no predictions.csv: the cross-validation is not finished"
        raise DataError.of("P14", str(folder), what, "run momkd crossval again, it goes on")
    return read_rows(path)


def read_rows(path: Path) -> pd.DataFrame:
    """Read a table of a run whose rows are cases or slides; a case called NULL or 007 is one."""
    text = dict.fromkeys(("case_id", "slide_id", "model"), str)
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])


def read_side_ratio(folder: Path) -> float:
    """Give cases tested over cases trained on in a fold of a run, from its ``folds.csv``.

    Only cases that some fold tests are counted: those without a slide train everywhere and make no
    fold's training side less like another's.

    Raises
    ------
    DataError
        P13 no ``folds.csv``.
    """
    try:
        table = read_rows(folder / "folds.csv")
    except FileNotFoundError:
        what = "has no folds.csv"
        raise DataError.of("P13", str(folder), what, "give what momkd crossval -o wrote") from None
    tested = set(table.loc[table["split"] == "test", "case_id"])
    sides = table[table["case_id"].isin(tested)]["split"].value_counts()
    return float(sides["test"] / sides["train"])


def gather_predictions(folder: Path, job_folders: Sequence[Path]) -> None:
    """Join the jobs' tables to one ``predictions.csv``, in a fixed order.

    Raises
    ------
    MachineError
        X06 a finished job's table vanished.
    """
    lines: list[str] = []
    for job in job_folders:
        try:
            text = (job / "predictions.csv").read_text(encoding="utf-8")
        except FileNotFoundError:
            what = "vanished while the run went on"
            remedy = f"delete {job.name} and run again"
            raise MachineError.of("X06", str(job / "predictions.csv"), what, remedy) from None
        header, *rows = text.splitlines()
        lines += rows if lines else [header, *rows]
    write_text(folder / "predictions.csv", "\n".join(lines) + "\n")


def differing_keys(old: Any, new: Any, at: str = "") -> list[str]:
    """Give the paths of the keys in which two mappings differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        found = [differing_keys(old.get(k), new.get(k), f"{at}.{k}" if at else k) for k in keys]
        return [key for part in found for key in part]
    return [] if old == new else [at]
