"""``momkd pack``: a cohort's feature files as packed bags, which training maps into memory."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from momkd.data.packed_cache import PackedCache, Precision
from momkd.errors import ConfigError
from momkd.workflows.audit import audit_cohort, require_few_skipped
from momkd.workflows.console import count_files, say
from momkd.workflows.settings import load_settings, packed_folder

_SAID = {
    "kept": "kept",
    "new": "new",
    "stale": "made again (stale)",
    "damaged": "made again (damaged)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What became of a cohort's slides, and the bytes they take."""

    folder: Path
    precision: str
    counts: Mapping[str, int]
    n_bytes: int

    def line(self) -> str:
        """Say it in one line."""
        said = ", ".join(f"{n} {_SAID[state]}" for state, n in sorted(self.counts.items()))
        return f"wrote {self.folder}: {self.precision}, {self.n_bytes / 2**20:.1f} MiB; {said}"


def pack(
    config: Path | str | Sequence[Path | str],
    *,
    output: Path | str | None = None,
    precision: str = "float16",
    set_: Sequence[str] = (),
    max_skip: float = 0.0,
    workers: int = 1,
) -> Packed:
    """Pack the slides of a cohort; entries that are there, whole and of today are kept.

    Every file is examined first, as ``momkd check`` does.

    Parameters
    ----------
    config
        One or more YAML files.
    output
        Folder of the cache; default ``data.cache_dir``, else ``<configuration>.packed``, where
        training looks for it.
    precision
        What float32 embeddings become: ``float16`` or ``float32``. float16 files stay as they are.
    max_skip
        Share of slides that may be skipped at their door.

    Raises
    ------
    ConfigError
        G04 an unknown precision.
    MachineError
        X10 an entry cannot be written.
    MomkdError
        Every fault of every door, together.
    """
    if precision not in (known := get_args(Precision)):
        what = f"got {precision!r}, wanted {' or '.join(known)}"
        raise ConfigError.of("G04", "--precision", what)
    files = [Path(config)] if isinstance(config, str | Path) else [Path(c) for c in config]
    settings = load_settings(files, set_)
    folder = Path(output) if output is not None else settings.data.cache_dir or packed_folder(files)
    with count_files("examining feature files") as counter:
        audited = audit_cohort(
            settings.data,
            manifest=files[0].with_suffix(".features.csv"),
            n_workers=workers,
            on_start=counter.start,
            on_file=counter.advance,
        )
    for note in audited.notes:
        say(note)
    slides = audited.audit.cohort.slides
    wanted: Precision = "float32" if precision == "float32" else "float16"
    cache = PackedCache(folder, precision=wanted, neighbours=settings.data.neighbours)
    cache.declare()
    counts: Counter[str] = Counter()
    n_bytes = 0
    with count_files("packing") as counter:
        counter.start(len(slides))
        for file in slides.values():
            counts[cache.update(file)] += 1
            n_bytes += cache.path_of(file).stat().st_size
            counter.advance()
    require_few_skipped(audited.audit.n_skipped, audited.audit.n_listed, max_skip)
    return Packed(folder=folder, precision=precision, counts=counts, n_bytes=n_bytes)
