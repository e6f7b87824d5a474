"""Class evidence: which tiles speak for the positive class, and which against it.

For one slide with embeddings e_i and the model's logits l, tile i is given

    c_i = sum_d e_id * d(l_1 - l_0) / d e_id        # gradient x input

the first-order share of the tile in the difference of the logits. Of a linear model that averages
tiles, the c_i add up to that difference without its intercept; of others they do so only near the
slide at hand. It is a reading of the model and no measurement of tissue.

Source: Shrikumar, Greenside, Kundaje, "Learning important features through propagating activation
differences", 2017 (gradient x input is the simplest of the rules compared there).
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32

from momkd.models.base import BagClassifier
from momkd.types import Bag

MOST_TILES = 50_000
"""A backward pass keeps what the forward pass made: about 28 kB a tile of MoMKD."""


def class_evidence(model: BagClassifier, bag: Bag) -> Float32[np.ndarray, " n_tiles"] | None:
    """Give each tile's share of the logit of the positive class over the other.

    Returns
    -------
    array or None
        In logits, before calibration, in the order of the bag. None where the model's answer has no
        gradient at the embeddings (DTFD-MIL takes it on purpose), or the slide is very large.
    """
    if len(bag) > MOST_TILES:
        return None
    model.eval()
    device = next(iter(model.state_dict().values())).device
    bag = bag.to(device)
    embeddings = bag.embeddings.detach().float().clone().requires_grad_(True)
    with torch.enable_grad():
        logits = model(replace(bag, embeddings=embeddings)).logits
        difference = logits[1] - logits[0]
    if not difference.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(difference, embeddings)
    return (gradient * embeddings.detach()).sum(dim=1).cpu().numpy()
