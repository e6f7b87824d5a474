"""TDC: a teacher of slide and RNA, then a student of the slide taught by it and by its own mean.

Xing, Zhu, Chen, Yuan, Medical Image Analysis 91 (2024) 102990, "Comprehensive learning and adaptive
teaching"; after its published code. ``docs/models/tdc.md`` says what was adapted to slide bags.
"""

from momkd.models.tdc.model import TDC
from momkd.models.tdc.options import TDCOptions

__all__ = ["TDC", "TDCOptions"]
