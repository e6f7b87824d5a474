"""momkd: biomarkers from slides alone, taught by RNA.

Every verb of the command line is a function here; nothing is imported before it is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Bag": "momkd.types",
    "Cohort": "momkd.types",
    "MomkdError": "momkd.errors",
    "load_predictor": "momkd.predictor",
    "check": "momkd.workflows.check",
    "compare": "momkd.workflows.compare",
    "crossval": "momkd.workflows.crossval",
    "demo": "momkd.workflows.demo",
    "doctor": "momkd.workflows.doctor",
    "evaluate": "momkd.workflows.evaluate",
    "from_pretrained": "momkd.predictor",
    "heatmap": "momkd.workflows.heatmap",
    "init": "momkd.workflows.init",
    "inspect": "momkd.workflows.inspect",
    "memory": "momkd.workflows.memory",
    "predict": "momkd.workflows.predict",
    "report": "momkd.workflows.report",
    "reproduce": "momkd.workflows.reproduce",
    "simulate": "momkd.workflows.simulate",
    "train": "momkd.workflows.train",
}

__all__ = [
    "Bag",
    "Cohort",
    "MomkdError",
    "__version__",
    "check",
    "compare",
    "crossval",
    "demo",
    "doctor",
    "evaluate",
    "from_pretrained",
    "heatmap",
    "init",
    "inspect",
    "load_predictor",
    "memory",
    "predict",
    "report",
    "reproduce",
    "simulate",
    "train",
]

if TYPE_CHECKING:
    from momkd.errors import MomkdError
    from momkd.predictor import from_pretrained, load_predictor
    from momkd.types import Bag, Cohort
    from momkd.workflows.check import check
    from momkd.workflows.compare import compare
    from momkd.workflows.crossval import crossval
    from momkd.workflows.demo import demo
    from momkd.workflows.doctor import doctor
    from momkd.workflows.evaluate import evaluate
    from momkd.workflows.heatmap import heatmap
    from momkd.workflows.init import init
    from momkd.workflows.inspect import inspect
    from momkd.workflows.memory import memory
    from momkd.workflows.predict import predict
    from momkd.workflows.report import report
    from momkd.workflows.reproduce import reproduce
    from momkd.workflows.simulate import simulate
    from momkd.workflows.train import train


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'momkd' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
