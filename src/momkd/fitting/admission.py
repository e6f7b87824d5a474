"""What is asked of a training before it begins."""

from momkd.errors import ConfigError, ModelError
from momkd.fitting.division import require_divisible
from momkd.fitting.fit_options import FitOptions
from momkd.models.base import BagClassifier
from momkd.nn.processes import Processes
from momkd.types import SampleSource


def require_company(model: BagClassifier, options: FitOptions, processes: Processes) -> None:
    """Refuse processes that are not those of the options, or a batch they cannot share.

    Raises
    ------
    ConfigError
        G18 either.
    """
    if options.devices != processes.size:
        what = f"{options.devices} processes wanted, and this call is made by {processes.size}"
        raise ConfigError.of("G18", "fit.devices", what, "momkd train starts as many as wanted")
    require_divisible(type(model).__name__, type(model), options.devices)


def require_scorable(model: BagClassifier, val: SampleSource, options: FitOptions) -> None:
    """Refuse a validation side without a score, which no epoch could be chosen by.

    Raises
    ------
    ModelError
        T07 it is empty, or a class is missing that the score needs.
    """
    present = {key.label for key in val.keys}
    missing = set(range(model.dims.n_classes)) - present
    if not present or (missing and options.select == "auroc"):
        what = f"{len(val.keys)} samples, none of class {', '.join(map(str, sorted(missing)))}"
        remedy = "hold out more cases for validation, or set fit.select: loss"
        raise ModelError.of("T07", "validation side", what, remedy)
