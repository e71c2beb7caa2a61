"""Incoming files, read strictly and as a stream: every row is read as declared, or the file is refused whole.

CSV and TSV follow RFC 4180: a quote that opens a field must close it, so nothing is ever merged or lost unseen. Memory
does not grow with the file: rows come in chunks, and a line or row longer than any pair is refused, not collected.
"""

from restill.readers.columns import CHUNK_ROWS, RAW_SCHEMA, TEXT_COLUMNS
from restill.readers.opening import COMPRESSIONS, FORMATS, Detected, Reading, is_known, open_file
from restill.readers.refusals import shown_name

__all__ = [
    "CHUNK_ROWS",
    "COMPRESSIONS",
    "FORMATS",
    "RAW_SCHEMA",
    "TEXT_COLUMNS",
    "Detected",
    "Reading",
    "is_known",
    "open_file",
    "shown_name",
]
