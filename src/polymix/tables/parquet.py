"""Parquet tables: a few bytes may stand for any number of cells, so that they are counted first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polymix.errors import DataError, MissingExtraError
from polymix.tables.room import PACKED, check_bytes, check_cells, check_columns, check_text


def read_parquet(path: Path) -> pd.DataFrame:
    """A Parquet file's cells.

    Raises:
        DataError: it is none, or unfolds to more than its size calls for.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError(
            f'reading Parquet needs pyarrow ({error}): pip install "polymix[parquet]"'
        ) from None
    try:
        # Opened here: a path need not be UTF-8, and a folder such as `a=1` is no column of it.
        with path.open("rb") as file:
            about = parquet.read_metadata(file)
            check_columns(path, about.num_columns)
            groups = [about.row_group(i) for i in range(about.num_row_groups)]
            parts = [group.column(i) for group in groups for i in range(group.num_columns)]
            size = path.stat().st_size
            cells = max(sum(part.num_values for part in parts), about.num_rows * about.num_columns)
            check_cells(path, cells, PACKED * size)
            check_bytes(path, sum(part.total_uncompressed_size for part in parts), size)
            # A text that many rows share stays one text.
            texts = sorted({p.path_in_schema for p in parts if p.physical_type == "BYTE_ARRAY"})
            file.seek(0)
            table = parquet.read_table(file, read_dictionary=texts)
            check_text(path, sum(_characters(column) for column in table.columns))
            frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    except (
        ValueError, OSError, LookupError, ArithmeticError, NotImplementedError, TypeError,
        MemoryError,
    ) as error:  # fmt: skip
        raise DataError(f"{path} cannot be read as Parquet: {str(error)[:200]}") from None
    return frame.set_axis([str(c) for c in frame.columns], axis=1)


def _characters(column: Any) -> int:
    """Bytes of all texts of a column, however they are nested."""
    import pyarrow as pa
    from pyarrow import compute

    total = 0
    for chunk in column.chunks:
        while pa.types.is_list(chunk.type) or pa.types.is_large_list(chunk.type):
            chunk = chunk.flatten()
        if not pa.types.is_dictionary(chunk.type):
            continue
        lengths = compute.binary_length(chunk.dictionary).fill_null(0).to_numpy()
        places = chunk.indices.drop_null().to_numpy()
        total += int(lengths.astype(np.int64)[places].sum())
    return total
