"""How a model is trained: every choice that steers the one loop."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from momkd.config import Options
from momkd.fitting.device import Precision
from momkd.fitting.optimizers import OptimizerName
from momkd.fitting.schedules import ScheduleName

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class FitOptions(Options):
    """How a model is trained.

    ``smoothing`` is the weight of the past in the smoothed validation score; ``patience`` the
    number of epochs without a better one after which training stops. ``select`` names the score:
    the AUROC over validation cases, or their negative log-likelihood. ``clip_norm`` bounds the
    gradient's norm. ``optimizer`` and ``schedule`` are explained in :mod:`momkd.fitting.optimizers`
    and :mod:`momkd.fitting.schedules`; ``lr_final`` belongs to the schedules ``cosine`` and
    ``linear``, ``step_epoch`` to ``step``. ``balanced`` draws cases of all classes equally often.
    Half precision with a loss scale (``16-mixed``) is not offered: its scale is state that the data
    drive. ``threads`` is how many of them torch computes with; on few cores more than one is rarely
    faster. ``devices`` is how many processes share each batch, each with one device. It, the
    ``kernels``, the precision ``fast``, ``keep_memory`` and ``device_cache_gib`` are explained in
    docs/speed.md.
    """

    epochs: int = Field(100, ge=1)
    patience: int = Field(10, ge=1)
    smoothing: float = Field(0.4, ge=0.0, lt=1.0)
    select: Literal["auroc", "loss"] = "auroc"
    optimizer: OptimizerName = "adamw"
    lr: float = Field(2e-4, gt=0.0, allow_inf_nan=False)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: float = Field(1e-4, ge=0.0, allow_inf_nan=False)
    batch_size: int = Field(1, ge=1)
    clip_norm: float | None = Field(16.0, gt=0.0)
    schedule: ScheduleName = "plateau"
    plateau_factor: float = Field(0.2, gt=0.0, lt=1.0)
    plateau_patience: int = Field(5, ge=0)
    lr_final: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    step_epoch: int = Field(100, ge=1)
    balanced: bool = True
    precision: Precision = "32-true"
    device: str = Field("cpu", pattern=r"^(cpu|auto|mps|cuda(:\d+)?)$")
    stop_on_collapse: bool = True
    checkpoint_every_s: float = Field(120.0, gt=0.0)
    threads: int = Field(1, ge=1)
    kernels: Literal["auto", "torch", "numba", "triton"] = "auto"
    keep_memory: bool = True
    device_cache_gib: float | None = Field(None, ge=0.0)
    devices: int = Field(1, ge=1)

    @field_validator("devices")
    @classmethod
    def _find_work(cls, devices: int, info: Any) -> int:
        size, device = info.data.get("batch_size", devices), info.data.get("device", "cpu")
        if size < devices:
            raise ValueError(
                f"a batch is divided by sample: {devices} processes find no work in a batch of "
                f"{size}; set fit.batch_size to {devices} or more"
            )
        if devices > 1 and device not in ("cpu", "cuda", "auto"):
            raise ValueError(
                f"{devices} processes cannot share {device}: set fit.device to cpu, or to cuda "
                "for one device each"
            )
        return devices
