"""Lines of a text file, plain or gzipped, in UTF-8 or UTF-16, decoded as they are asked for.

A matrix of 60,000 genes and 1,000 samples is half a gigabyte of text: nothing here holds it whole.
"""

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from momkd.errors import DataError, MomkdError

_UTF16 = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_NOT_TEXT = {b"PK\x03\x04": "an Excel or zip file", b"\xd0\xcf\x11\xe0": "an old Excel file"}
_GZIP = b"\x1f\x8b"
_BUFFER_BYTES = 1 << 20


class TextLines(Iterator[str]):
    """Lines with their ends, each asked for once; lines can be put back.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    n_read
        Lines given so far: the number of the line last given, the first being 1.

    Raises
    ------
    DataError
        O16 it cannot be read, is no text or is damaged; while lines are asked for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_read = 0
        self._source = self._decode()
        self._ahead: list[str] = []

    def __next__(self) -> str:
        line = self._ahead.pop() if self._ahead else next(self._source)
        self.n_read += 1
        return line

    def put_back(self, lines: Sequence[str]) -> None:
        """Give these lines once more, in this order, before the others."""
        self._ahead.extend(reversed(lines))
        self.n_read -= len(lines)

    def _decode(self) -> Iterator[str]:
        encoding = "utf-8"
        try:
            with self.path.open("rb") as raw:
                zipped = raw.read(2) == _GZIP
                raw.seek(0)
                plain = gzip.GzipFile(fileobj=raw) if zipped else raw
                with io.BufferedReader(plain, _BUFFER_BYTES) as stream:
                    encoding = self._encoding(stream.peek(4)[:4])
                    yield from io.TextIOWrapper(stream, encoding, newline="")
        except UnicodeDecodeError as error:
            line = self.n_read + bytes(error.object[: error.start]).count(b"\n") + 1
            what = f"line {line} is not {encoding.removesuffix('-sig').upper()} text"
            raise DataError.of("O16", str(self.path), what, "save it as UTF-8") from None
        except (OSError, EOFError, zlib.error) as error:
            raise unreadable(self.path, error) from None

    def _encoding(self, head: bytes) -> str:
        kind = _NOT_TEXT.get(head)
        if kind is not None:
            what = f"is {kind}, not text"
            raise DataError.of("O16", str(self.path), what, "save the sheet as csv")
        if b"\x00" in head[:2] and head[:2] not in _UTF16:
            return "utf-16-be" if head[:1] == b"\x00" else "utf-16-le"
        return _UTF16.get(head[:2], "utf-8-sig")


def unreadable(path: Path, error: Exception) -> MomkdError:
    """Say that a file cannot be read, as O16."""
    what = f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return DataError.of("O16", str(path), what, "check the path and the file")
