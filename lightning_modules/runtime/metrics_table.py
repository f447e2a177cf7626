"""A table of metrics in a CSV file that survives a kill at any moment, and continues where a run is resumed."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_modules.parts.files import naming, replace_file

STEP = "step"
TEST = "test/"


class MetricsTable:
    """A CSV file to which rows are appended, and columns where a row has new ones.

    A last line without an end was torn by a kill while it was written: its last number may be cut short, so the line is
    removed.

    Args:
        path: The file; existing rows are kept.
        batches: Batches of the checkpoint that a run is resumed from: later rows are removed, because the resumed run
            writes them again. ``None`` keeps all.
    """

    def __init__(self, path: Path, batches: int | None = None) -> None:
        self.path = path
        torn = self._end_the_line()
        self._columns, rows = self._read()
        kept = rows if batches is None else [row for row in rows if _is_before(row, batches)]
        if torn or len(kept) < len(rows):
            self._write(kept)

    def append(self, row: Mapping[str, Any]) -> None:
        """Writes one row; missing cells stay empty.

        Raises:
            OSError: If the disk is full; the error names the file.
        """
        if new := [column for column in row if column not in self._columns]:
            _, rows = self._read()
            self._columns = [*self._columns, *new]
            self._write(rows)
        with naming(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _write(self, rows: list[dict[str, str]]) -> None:
        content = io.StringIO(newline="")
        writer = csv.DictWriter(content, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        replace_file(self.path, content.getvalue().encode())

    def _end_the_line(self) -> bool:
        """Removes what follows the last complete line; returns whether there was anything."""
        if not self.path.is_file():
            return False
        content = self.path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1].replace(b"\0", b"")  # a power failure may leave zeros
        if complete == content:
            return False
        replace_file(self.path, complete)
        return True

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        if not self.path.is_file():
            return [], []
        with self.path.open(newline="", encoding="utf-8", errors="replace") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            return columns, [{key: row[key] or "" for key in columns} for row in reader]


def _is_before(row: Mapping[str, str], batches: int) -> bool:
    """Whether a row was written before the checkpoint of so many batches; the first batch has step 0.

    The result of a test that followed the checkpoint is at its number of batches.
    """
    try:
        step = float(row.get(STEP) or -1)
    except ValueError:  # half a line
        return False
    filled = [key for key, value in row.items() if value and key not in (STEP, "epoch")]
    tested = bool(filled) and all(key.startswith(TEST) for key in filled)
    return step < batches or (step == batches and tested)
