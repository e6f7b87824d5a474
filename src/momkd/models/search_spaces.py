"""What a search tries, by model: small spaces around the published numbers, written down as data.

A list holds values; ``low`` and ``high`` end a range. Every space holds the published default of
its model. Learning rate, weight decay and dropout are searched of all that learn by steps; beside
them stand widths and numbers that are the model's own, and what weighs its RNA terms.
"""

from collections.abc import Mapping
from typing import Any

_STEPS: dict[str, Any] = {
    "fit.lr": {"low": 5e-5, "high": 1e-3, "log": True},
    "fit.weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
    "model.dropout": {"low": 0.0, "high": 0.6},
}

SEARCH_SPACES: dict[str, Mapping[str, Any]] = {
    "momkd": {
        **_STEPS,
        "model.dim_shared": [64, 128, 256],
        "model.n_slots": [8, 16, 32],
        "model.temperature": {"low": 0.05, "high": 1.0, "log": True},
        "model.weights.align_wsi": {"low": 0.05, "high": 0.8, "log": True},
        "model.weights.align_omics": {"low": 0.0125, "high": 0.2, "log": True},
    },
    "abmil": {**_STEPS, "model.dim": [256, 512], "model.dim_attention": [128, 256]},
    "dsmil": {**_STEPS, "model.dim_query": [64, 128, 256]},
    "transmil": {**_STEPS, "model.dim": [256, 512], "model.n_landmarks": [64, 128, 256]},
    "dtfd_mil": {**_STEPS, "model.dim": [256, 512], "model.n_bags": [2, 4, 8]},
    "wikg": {**_STEPS, "model.dim": [256, 512], "model.n_neighbours": [4, 6, 8]},
    "tdc": {
        **_STEPS,
        "model.weight_kl": {"low": 0.1, "high": 10.0, "log": True},
        "model.weight_contrast": {"low": 0.005, "high": 0.5, "log": True},
    },
    "mkd": {
        **_STEPS,
        "model.dim": [128, 256],
        "model.temperature": {"low": 1.0, "high": 8.0, "log": True},
        "model.weights.relations": {"low": 0.1, "high": 10.0, "log": True},
    },
    "g_hanet": {
        **_STEPS,
        "model.n_groups": [4, 6, 8],
        "model.weight_reconstruction": {"low": 0.03, "high": 3.0, "log": True},
    },
    "mean_logistic": {"model.C": {"low": 1e-3, "high": 1e3, "log": True}},
}
