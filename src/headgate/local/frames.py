"""pandas data frames, for hooks and estimators that want them. The only place that imports pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.core.errors import MissingExtra
from headgate.core.operations import Table
from headgate.local.plain import plain
from headgate.local.targets import Scores

if TYPE_CHECKING:
    import pandas as pd


def require_pandas(feature: str) -> None:
    """Raises MissingExtra."""
    try:
        import pandas  # noqa: F401
    except ImportError:
        raise MissingExtra(feature, "sklearn") from None


def frame_of(table: Table) -> pd.DataFrame:
    """Numbers stay numbers; a missing value is NaN, also in a column that has nothing else."""
    import pandas as pd

    frame = pd.DataFrame(dict(zip(table.columns, table.data, strict=True)), columns=list(table.columns))
    empty = [name for name in frame if frame[name].isna().all()]
    return frame.astype(dict.fromkeys(empty, "float64")) if empty else frame


def table_of(frame: pd.DataFrame) -> Table:
    """Plain Python values, column by column."""
    return Table(
        tuple(str(name) for name in frame.columns),
        tuple(_values(frame.iloc[:, position]) for position in range(frame.shape[1])),
    )


def _values(column: pd.Series[Any]) -> list[Any]:
    values = column.tolist()
    return plain(values) if column.dtype.kind not in "biuf" else values


def is_frame(value: Any) -> bool:
    import pandas as pd

    return isinstance(value, pd.DataFrame)


def scores_of(output: Any) -> Scores | None:
    """A hook's output: a DataFrame, a Series, or an array or a list of at most two dimensions.

    Columns that pandas numbered by itself count as unnamed. None: the output is something else.
    """
    import numpy as np
    import pandas as pd

    if isinstance(output, pd.Series):
        output = output.to_frame()
    if isinstance(output, pd.DataFrame):
        table = table_of(output)
        unnamed = output.columns.equals(pd.RangeIndex(output.shape[1]))
        return Scores(None if unnamed else table.columns, table.data)
    if not isinstance(output, list | tuple | np.ndarray):
        return None
    try:
        array = np.asarray(output)
    except ValueError:  # rows of different lengths
        return None
    if array.ndim == 1:
        array = array.reshape(-1, 1)
    if array.ndim != 2:
        return None
    return Scores(None, tuple(column.tolist() for column in array.T))
