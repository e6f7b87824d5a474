"""The door of slides: opened by content, and refused with one line each for what is wrong."""

from collections.abc import Callable
from pathlib import Path

from momkd.errors import DataError, MachineError
from momkd.slides.formats import kind_of, name_note
from momkd.slides.reader import Slide, SlideRules
from momkd.slides.resolution import require_size, settle_mpp


def open_slide(path: Path, rules: SlideRules | None = None) -> Slide:
    """Open a slide by its content.

    Raises
    ------
    DataError
        S01 no resolution; S02 an impossible one; S03 no slide; S04 truncated; S07 too large; S09
        too large to be read whole; S11 not RGB of 8 bits; S13 companions missing; S15 several
        scenes; F28, F29 not a readable file.
    MachineError
        E01 the libraries that read slides are not installed.
    """
    rules = rules or SlideRules()
    _require_readable(path)
    slide = _open(path, rules)
    try:
        require_size(slide, rules)
        settle_mpp(slide, rules)
    except DataError:
        slide.close()
        raise
    return slide


def import_backends() -> None:
    """Import what reads slides; it is not needed before, and takes a moment.

    Raises
    ------
    MachineError
        E01 a library is not installed.
    """
    try:
        import momkd.slides.flat
        import momkd.slides.openslide
        import momkd.slides.tiff  # noqa: F401
    except ImportError as error:
        line = "pip install 'momkd[slides]'"
        raise MachineError.of("E01", str(error.name), "not installed", line) from None


def _open(path: Path, rules: SlideRules) -> Slide:
    import_backends()
    from momkd.slides.flat import FlatSlide
    from momkd.slides.openslide import OpenSlideSlide, require_companions, vendor_of
    from momkd.slides.tiff import TiffSlide, require_whole

    kind = kind_of(path)
    require_companions(path)
    makers: dict[str, Callable[[Path, SlideRules], Slide]] = {"jpeg": FlatSlide, "png": FlatSlide}
    make = makers.get(kind)
    if make is None or path.suffix.lower() == ".mrxs":
        vendor = vendor_of(path)
        if kind == "tiff":
            # what OpenSlide calls generic it reads when tiled; OME pyramids and strips need ours
            is_ome = require_whole(path)
            ours = vendor is None or (vendor == "generic-tiff" and is_ome)
            make = TiffSlide if ours else OpenSlideSlide
        elif vendor is not None:
            make = OpenSlideSlide
    if make is None:
        what = f"is no slide that can be read (holds {kind})"
        raise DataError.of("S03", str(path), what, "give a slide: SVS, NDPI, MRXS, TIFF, JPEG, PNG")
    slide = make(path, rules)
    if note := name_note(path, kind):
        slide.notes.append(note)
    return slide


def _require_readable(path: Path) -> None:
    remedy = "mend the path"
    try:
        if not path.is_file():
            what = "is a folder, not a slide" if path.is_dir() else "no such file"
            raise DataError.of("F28", str(path), what, remedy)
        with path.open("rb"):
            pass
    except PermissionError:
        raise DataError.of("F29", str(path), "no permission to read it", "chmod u+r") from None
    except OSError as error:
        raise DataError.of("F28", str(path), f"cannot be read: {error.strerror}", remedy) from None
