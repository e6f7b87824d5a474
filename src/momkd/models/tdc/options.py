"""Hyper-parameters of both stages of TDC."""

from pydantic import Field

from momkd import config


class TeacherOptions(config.Options):
    """How the teacher is trained (stage 1).

    Parameters
    ----------
    epochs, lr, weight_decay, batch_size
        Adam with an L2 penalty; the rate falls linearly to 0 over the epochs.
    patience
        Epochs without a better one after which the teacher's training ends.
    holdout
        Share of the paired training cases kept aside to choose the teacher's epoch.
    l1
        Weight of the sum of absolute weights of the RNA net.
    consistency
        Weight of each divergence from the teacher's own moving average.
    masking
        Learn from masked inputs too, from the second epoch on.
    masked_tiles, masked_genes
        Share of a slide's tiles, and number of genes, that are set to 0: those whose gradient
        raises the loss most.
    """

    epochs: int = Field(30, ge=1)
    patience: int = Field(10, ge=1)
    lr: float = Field(5e-4, gt=0)
    weight_decay: float = Field(4e-4, ge=0)
    batch_size: int = Field(16, ge=2)
    holdout: float = Field(0.2, gt=0, lt=1)
    l1: float = Field(3e-4, ge=0)
    consistency: float = Field(1.0, ge=0)
    masking: bool = True
    masked_tiles: float = Field(0.01, ge=0, lt=1)
    masked_genes: int = Field(5, ge=0)


class ContrastOptions(config.Options):
    """The contrastive terms (stage 2): P positives, K negatives, temperature, memory momentum."""

    n_positives: int = Field(6, ge=1)
    n_negatives: int = Field(4096, ge=1)
    temperature: float = Field(0.07, gt=0)
    momentum: float = Field(0.5, ge=0, lt=1)


class TDCOptions(config.Options):
    """Hyper-parameters of TDC.

    Parameters
    ----------
    dim, dim_attention, dim_feature
        Widths of an encoded tile, inside the attention, and of the feature that is distilled.
    dropout
        Rate in the slide net, its attention and the fusion.
    weight_kl, weight_contrast
        Weights of each divergence and of each contrastive term.
    momentum_mean
        Upper bound of the moving averages' decay, min(1 - 1/(t + 1), .).
    refine, refine_threshold
        Weigh the four terms by the agreement of their gradients; cosines above the threshold
        count, or, without one, positive cosines are summed.
    teacher, contrast
        Stage 1, and the contrastive terms.
    """

    dim: int = Field(512, ge=1)
    dim_attention: int = Field(256, ge=1)
    dim_feature: int = Field(128, ge=1)
    dropout: float = Field(0.25, ge=0, lt=1)
    weight_kl: float = Field(1.0, ge=0)
    weight_contrast: float = Field(0.05, ge=0)
    momentum_mean: float = Field(0.99, ge=0, lt=1)
    refine: bool = True
    refine_threshold: float | None = 0.25
    teacher: TeacherOptions = Field(default_factory=TeacherOptions)
    contrast: ContrastOptions = Field(default_factory=ContrastOptions)
