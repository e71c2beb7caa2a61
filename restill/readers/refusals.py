"""Why a file is refused: what was found where, and what was expected."""

import contextlib
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from restill.errors import DataRejected

SHOWN_COLUMNS = 30  # what is no table may have a million columns, or one as long as the file
SHOWN_CHARACTERS = 80


def refusal(name: str, where: str, found: str, expected: str) -> DataRejected:
    """Return the refusal of a file for one place in it."""
    return DataRejected(f"{name}, {where}: {found}.", hint=f"Expected: {expected}. Correct it and retry.")


def missing_columns(name: str, where: str, absent: Sequence[str], found: Sequence[str], note: str = "") -> DataRejected:
    """Return the refusal of a file that lacks columns; `note` says what was tried."""
    has = ", ".join(repr(column[:SHOWN_CHARACTERS]) for column in found[:SHOWN_COLUMNS]) or "none"
    if len(found) > SHOWN_COLUMNS:
        has += f" and {len(found) - SHOWN_COLUMNS:,} more"
    return DataRejected(
        f"{name}, {where}: there is no column {' or '.join(map(repr, absent))}. Its columns{note}: {has}.",
        hint="Say which columns hold the pairs: --text-a, --text-b and --label, or data.columns in restill.toml.",
    )


def shown_name(path: PurePath) -> str:
    """Return a file's name as text that can be stored and shown, also if its bytes are not UTF-8."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn what a truncated or damaged file raises into its refusal. For reading only: a full disk is no such thing.

    Raises: DataRejected.
    """
    name = shown_name(path)
    try:
        yield
    except FileNotFoundError as error:
        raise DataRejected(f"There is no file {path.parent / name}.", hint="Check the path.") from error
    except (OSError, EOFError, zlib.error) as error:
        # gzip says BadGzipFile or EOFError, Arrow's zstd says OSError; only the system's own errors have a number.
        system = error.strerror if isinstance(error, OSError) and error.errno is not None else None
        raise DataRejected(
            f"{name} cannot be read: {system or str(error).rstrip('.')}.",
            hint="Check the path, its permissions and its disk."
            if system
            else "It is truncated, damaged, or not in the format that its name says. Make or copy it again.",
        ) from error
