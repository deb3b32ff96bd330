"""Tables with the schema of a run directory, from the columns that matter."""

import pyarrow as pa


def table_of(schema, rows, **columns):
    """A table of a schema; columns that are not given are null."""
    unknown = columns.keys() - set(schema.names)
    assert not unknown, f"not in the schema: {unknown}"
    return pa.table(
        {field.name: columns.get(field.name, pa.nulls(rows, field.type)) for field in schema}, schema=schema
    )
