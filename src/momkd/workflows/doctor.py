"""``momkd doctor``: what this machine has, and the exact line that mends what it lacks."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import momkd

_CORE = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "h5py", "safetensors", "pydantic")
_FOR_CARDS = {"cuda": ("triton", "graph attention compiled for this card")}
_EXTRAS = {
    "xgb": ("xgboost", "genes selected by XGBoost importance, as published"),
    "fast": ("numba", "graph attention compiled on this machine: faster, in less memory"),
    "slides": ("openslide", "slides are read, and embedded by the default encoder"),
    "encoders": ("timm", "foundation models as encoders"),
    "onnx": ("onnxruntime", "the encoder lavlab-shell"),
    "excel": ("openpyxl", "clinical tables as .xlsx workbooks"),
    "search": ("optuna", "options tried on the inner split of each fold"),
    "zarr": ("zarr", "WSIData stores as feature files; Python 3.11 or newer"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor: what, how it stands, and how to mend it if it is not well."""

    what: str
    state: str
    well: bool = True
    remedy: str = ""


def doctor(folder: Path | str = ".") -> list[Finding]:
    """Examine versions, cores, memory, accelerator, disk and optional extras."""
    found = [
        Finding(what="momkd", state=momkd.__version__),
        Finding(what="python", state=f"{platform.python_version()} on {platform.platform()}"),
    ]
    found += [Finding(what=name, state=importlib.metadata.version(name)) for name in _CORE]
    found += [_cores(), _memory(), _accelerator(), _disk(Path(folder))]
    extras = {**_EXTRAS, **(_FOR_CARDS if _card() else {})}
    for extra, (module, purpose) in extras.items():
        there = importlib.util.find_spec(module) is not None
        found.append(
            Finding(
                what=f"extra {extra}",
                state=purpose if there else f"absent: {purpose}",
                well=there,
                remedy="" if there else f'pip install "momkd[{extra}]"',
            )
        )
    return found


def _cores() -> Finding:
    return Finding(what="cores", state=str(os.cpu_count()))


def _memory() -> Finding:
    total_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return Finding(
        what="memory",
        state=f"{total_gib:.1f} GiB",
        well=total_gib >= 4,
        remedy="" if total_gib >= 4 else "large bags need more: use one worker",
    )


def _accelerator() -> Finding:
    return Finding(what="accelerator", state=_card() or "none; everything runs on the CPU")


def _card() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


def _disk(folder: Path) -> Finding:
    free_gib = shutil.disk_usage(folder).free / 2**30
    return Finding(
        what="free disk here",
        state=f"{free_gib:.1f} GiB",
        well=free_gib >= 2,
        remedy="" if free_gib >= 2 else "free some space, or give -o on another disk",
    )
