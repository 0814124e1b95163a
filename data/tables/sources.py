"""From bytes to a table: CSV, JSON (see `documents`), Parquet or a log, told by their looks."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import polars as pl

from warmscaler.data.tables.aws_lambda import (
    is_report_text,
    of_insights,
    reports_in_rows,
    reports_in_text,
)
from warmscaler.data.tables.documents import DEEPEST, table_of_json
from warmscaler.data.tables.table import Table
from warmscaler.data.trace import TraceError

_SEPARATORS = ",;\t|"
_UNKNOWN = (
    "no known trace: CSV with a header, JSON lines, Parquet or a log is wanted; see scaler trace"
    " formats"
)
_PACKED = {
    b"PK\x03\x04": ("zip", "unzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -d"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"Rar!": ("rar", "unrar x"),
    b"7z\xbc\xaf": ("7z", "7z x"),
}
"""How a file packed otherwise begins, and what unpacks it."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""As PowerShell and spreadsheets begin theirs."""
_WSK = (b"activations", b"ok: got activation ")
"""What OpenWhisk's `wsk activation list --full` and `get` print before records, on a line."""
_DECIMAL_COMMA = r"^\s*-?\d+(,\d+)?\s*$"
_NULLS = ["NULL", "null", "\\N"]
"""What databases export where there is no value."""


def table_of(content: bytes, where: str, name: str) -> Table:
    """What `content` holds, by its looks; gzip is unpacked.

    `where` stands first in errors, `name` for an app that no line names ("" has none). Raises
    TraceError.
    """
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise TraceError(f"{where}: not a whole gzip file ({error}); get it again") from None
    if content[:4] == b"PAR1":
        return _parquet(content, where)
    for begins, (kind, unpack) in _PACKED.items():
        if content.startswith(begins):
            raise TraceError(f"{where}: packed with {kind}; unpack it first: {unpack} {where}")
    if content[257:262] == b"ustar":
        raise TraceError(f"{where}: a tar archive; unpack it first, and give one file: tar -xf")
    if content[:2] in _UTF_16:
        content = content.decode("utf-16", errors="replace").encode()
    content = content.removeprefix(b"\xef\xbb\xbf")
    if content.startswith(b"Datetime ") and b"Activation ID" in content[:100]:
        raise TraceError(
            f"{where}: a list to be read by people; get the records: wsk activation list --full"
        )
    if content.lstrip().startswith(_WSK):
        content = b"\n".join(
            b"" if line.startswith(_WSK) else line for line in content.split(b"\n")
        )
    if not content.strip():
        raise TraceError(f"{where}: empty; get it again")
    first = content.lstrip()[:1]
    if first in (b"{", b"["):
        return table_of_json(content, where, name)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TraceError(
            f"{where}:{line}: not text in UTF-8; save it so, if it is text; else {_UNKNOWN}"
        ) from None
    if is_report_text(content):
        header = next(csv.reader([text.lstrip().splitlines()[0]]), [])
        if not {"message", "@message"} & {each.strip() for each in header}:
            return reports_in_text(where, name, text)
    return _csv(text, where, name)


def table_of_files(files: Sequence[Path], where: str) -> Table:
    """Of Parquet files that together are one table. Raises TraceError, for the first that is none."""
    frames = [_parquet(file.read_bytes(), str(file)).frame for file in files]
    try:
        return Table(where, pl.concat(frames, how="diagonal_relaxed"))
    except pl.exceptions.PolarsError as error:
        reason = (str(error).splitlines() or [""])[0]
        raise TraceError(f"{where}: its files do not fit together ({reason}); give one") from None


def _parquet(content: bytes, where: str) -> Table:
    try:
        return Table(where, flat_frame(pl.read_parquet(io.BytesIO(content))))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise TraceError(f"{where}: not a whole Parquet file ({reason}); get it again") from None


def flat_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """Nested fields as columns with dotted names; lists are left out, they are no column."""
    for _ in range(DEEPEST):
        nested = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Struct)]
        if not nested:
            break
        frame = frame.unnest(nested, separator=".")
    return frame.select(pl.selectors.exclude(pl.selectors.nested(), pl.selectors.object()))


def _csv(text: str, where: str, name: str) -> Table:
    if "\n" not in text:
        text = text.replace("\r", "\n")  # as a spreadsheet may still end its lines
    first = text.lstrip("\r\n").splitlines()[0]
    separator = max(_SEPARATORS, key=first.count)
    header = [each.strip() for each in next(csv.reader([first], delimiter=separator))]
    if len(header) == 1:
        raise TraceError(f"{where}: {_UNKNOWN}")
    # No column is called by a number, and a row of a trace has one.
    headless = any(_is_number(each) for each in header)
    if len(header) != len(set(header)):
        twice = next(each for each in header if header.count(each) > 1)
        raise TraceError(
            f"{where}:1: two columns are called `{twice}`; give each a name of its own"
        )
    try:
        frame = pl.read_csv(
            io.BytesIO(text.encode()),
            separator=separator,
            has_header=not headless,
            infer_schema=False,
            null_values=_NULLS,
        )
    except pl.exceptions.PolarsError:
        raise TraceError(_ragged(text, separator, where)) from None
    frame.columns = [str(n + 1) for n in range(frame.width)] if headless else header
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))  # lines without anything
    if frame.is_empty():
        raise TraceError(f"{where}: no rows after the header in it")
    line_of = _csv_lines(text, separator, headless)
    frame, notes = _decimal_points(frame) if separator != "," else (frame, ())
    table = Table(where, frame, line_of, notes=notes)
    if found := of_insights(table):
        return found
    if {"message", "@message"} & set(header):
        rows = ((line_of(n), row) for n, row in enumerate(frame.iter_rows(named=True)))
        if lambdas := reports_in_rows(where, name, header, rows):
            return lambdas
    return table


def _decimal_points(frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Columns whose values all are numbers, some with a decimal comma, with a point; and a note."""
    with_commas = [
        each.name
        for each in frame
        if each.str.contains(",", literal=True).any() and each.str.contains(_DECIMAL_COMMA).all()
    ]
    if not with_commas:
        return frame, ()
    said = f"commas in {', '.join(f'`{each}`' for each in with_commas)} taken as decimal points"
    return frame.with_columns(pl.col(with_commas).str.replace(",", ".", literal=True)), (said,)


def _csv_lines(text: str, separator: str, headless: bool) -> Callable[[int], int]:
    @cache
    def lines() -> Sequence[int]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        ends = [reader.line_num for row in reader if any(row)]
        return ends if headless else ends[1:]

    def line_of(row: int) -> int:
        return lines()[row] if row < len(lines()) else row + 2

    return line_of


def _ragged(text: str, separator: str, where: str) -> str:
    """Why a CSV file could not be read: which row has more fields than the header. Slow."""
    wanted = None
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        for row in reader:
            wanted = wanted or len(row)
            if row and len(row) > wanted:
                return (
                    f"{where}:{reader.line_num}: {len(row)} fields where the first line has {wanted};"
                    " put text that holds a separator in double quotes"
                )
    except csv.Error as error:
        return f"{where}:{reader.line_num}: not CSV ({error}); mend the quotes"
    return f"{where}: cannot be read as CSV separated by {separator!r}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
