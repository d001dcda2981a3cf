"""Videos chosen by what is known of them, in the words of SQL: `motion > 2 and text_area < 0.02`."""

import math
from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa

from vdit.types import InputError

__all__ = ["select"]


def select(rows: Sequence[Mapping[str, object]], where: str) -> list[bool]:
    """Which rows a condition holds for; where a value is missing that it asks for, it does not.

    Args:
        rows: by column; a row may lack some.
        where: a condition of DuckDB's SQL. It sees nothing but the rows: no files, no network.

    Raises:
        InputError: it is no condition, or names a column that there is none of.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    table = pa.table({_PLACE: pa.array(range(len(rows)), pa.int64()), **columns})
    with duckdb.connect(config={"enable_external_access": "false", "lock_configuration": "true"}) as base:
        base.register("clips", table)
        try:
            found = base.sql("FROM clips").project(f'"{_PLACE}", ({where}) AS chosen').order(f'"{_PLACE}"')
            kind, chosen = str(found.types[1]), [value for _, value in found.fetchall()]
        except duckdb.Error as error:
            raise InputError(
                f"where: {where!r} cannot be understood ({str(error).splitlines()[0]}); "
                f"the columns are {', '.join(names)}"
            ) from error
    if len(chosen) != len(rows):
        raise InputError(f"where: {where!r} gives {len(chosen)} answers for {len(rows)} videos, not one each")
    if kind != "BOOLEAN":
        raise InputError(f"where: {where!r} is no condition, for it gives a value ({kind}); compare it")
    return [value is True for value in chosen]


_PLACE = " place"
"""A column that no list can have: the names of theirs do not begin with a space."""


def _column(values: Sequence[object]) -> pa.Array:
    """Numbers where all are, texts where not; an empty text and what is not a number are missing."""
    values = [None if value == "" else value for value in values]
    there = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in there):
        return pa.array(values, pa.bool_())
    numbers = [_number(value) for value in values]
    if all(number is not None for number, value in zip(numbers, values, strict=True) if value is not None):
        return pa.array([None if n is None or math.isnan(n) else n for n in numbers], pa.float64())
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _number(value: object) -> float | None:
    if not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
