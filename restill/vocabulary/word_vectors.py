"""Pretrained word vectors in word2vec's text format: a word and its numbers a line, with single spaces between.

A first line `count dimension` is optional; a name that ends in .gz is read through gzip. Files of many gigabytes are
streamed, and only what is asked for is kept. https://code.google.com/archive/p/word2vec/
"""

import gzip
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from restill.errors import ConfigurationError

_LONGEST_LINE = 1 << 20  # bytes; a line without end must not fill the memory


class WordVectors:
    """A file of word vectors, opened anew for each pass.

    Attributes:
        path: the file.
        dimension: numbers per word.
    """

    def __init__(self, path: Path) -> None:
        """Look at the first lines of a file.

        Raises: ConfigurationError if it is missing, damaged, or not in word2vec's text format.
        """
        self.path = path
        self._declared: int | None = None
        with self._open() as file:
            first = self._line(file, 1).split()
            if len(first) == 2 and all(field.isdigit() and len(field) < 10 for field in first):
                self._declared, self.dimension = int(first[0]), int(first[1])
            else:
                self.dimension = len(first) - 1
        if self.dimension < 1:
            self._refuse(1, "it has no numbers")

    def words(self) -> Iterator[str]:
        """Yield every word as the file writes it, in the file's order; the same word may come again.

        Raises: ConfigurationError, naming the line, where the file is not what it should be.
        """
        for _, word, _ in self._rows():
            yield word

    def read(
        self, wanted: Collection[str], *, fold: Callable[[str], str] = lambda word: word
    ) -> dict[str, NDArray[np.float32]]:
        """Return the vectors of the words asked for, float32 ``[dimension]`` each; words without one are left out.

        Args:
            wanted: words as `fold` gives them.
            fold: applied to the file's words before they are compared. Where two become one, the first stays: files
                are sorted by frequency.
        Raises: ConfigurationError, naming the line, where the file is not what it should be.
        """
        wanted = frozenset(wanted)
        vectors: dict[str, NDArray[np.float32]] = {}
        for number, word, fields in self._rows():
            name = word if word in wanted else fold(word)
            if name not in wanted or name in vectors:
                continue
            try:
                with np.errstate(over="ignore"):  # 1e99 is a number, but no float32: refused below
                    vector = np.array(fields, np.float64).astype(np.float32)
            except ValueError:
                self._refuse(number, "one of its numbers is not a number")
            if not np.isfinite(vector).all():
                self._refuse(number, "one of its numbers is not finite")
            vectors[name] = vector
        return vectors

    def _rows(self) -> Iterator[tuple[int, str, list[bytes]]]:
        """Yield line number, word and its numbers, still as text: of most lines nobody wants them."""
        rows = 0
        with self._open() as file:
            number = 0
            while line := self._line(file, number + 1):
                number += 1
                if number == 1 and self._declared is not None:
                    continue
                fields = line.rstrip(b" \t\r\n").split(b" ")
                if fields == [b""]:
                    continue
                word = b" ".join(fields[: -self.dimension])
                if not word:
                    self._refuse(number, f"it has {len(fields) - 1} numbers after the word, not {self.dimension}")
                # Some files have words with spaces (GloVe's `. . .`); a number more is no word.
                if len(fields) > self.dimension + 1 and _is_number(fields[-self.dimension - 1]):
                    self._refuse(number, f"it has {len(fields) - 1} numbers after the word, not {self.dimension}")
                try:
                    text = word.decode("utf-8")
                except UnicodeDecodeError:
                    self._refuse(number, "its word is not UTF-8")
                rows += 1
                yield number, text, fields[-self.dimension :]
        if self._declared is not None and rows < self._declared:
            self._refuse(number, f"the file ends after {rows} of {self._declared} words")

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        try:
            with gzip.open(self.path) if self.path.suffix == ".gz" else self.path.open("rb") as file:
                yield cast(BinaryIO, file)
        except (OSError, EOFError, zlib.error) as error:
            raise ConfigurationError(
                f"The word vectors {self.path} cannot be read: {error}", hint="Look at student.word_vectors."
            ) from error

    def _line(self, file: BinaryIO, number: int) -> bytes:
        line = file.readline(_LONGEST_LINE)
        if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            self._refuse(number, "it is longer than a megabyte")
        return line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line

    def _refuse(self, number: int, reason: str) -> NoReturn:
        raise ConfigurationError(
            f"The word vectors {self.path} are not in word2vec's text format: line {number}: {reason}.",
            hint="A line is a word and its numbers, separated by single spaces.",
        )


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
