"""Name the part of a request that does not fit a model, without quoting its values.

MLflow's messages quote the request. So each column is checked by MLflow again on its own. This is slow, and
is only done for a rejected request.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from .libraries import model_utils, models, pandas, scoring_server, types
from .libraries import schema as schemas
from .request import Request

Table = Mapping[str, Sequence[Any]]
MOST_NAMES = 20


def of_request(request: Request, schema: Any, error: BaseException) -> str:
    """Explain why MLflow could not parse *request*, which raised *error*."""
    if shape := _shape(request.document):
        return shape
    table = _table(request)
    if schema is not None and table is not None and (fault := _of_columns(table, schema)):
        return fault
    if schema is None:
        return f"the body cannot be read as a table or an array ({type(error).__name__})"
    return _not_the_signature(schema)


def of_question(
    model: Any, data: Any, params: Any, error: BaseException | None, *, hinted: bool
) -> str | None:
    """Explain why *data* and *params* do not fit *model*; return None if they fit: the model is at fault."""
    metadata = model.metadata
    if not hinted and (schema := metadata.get_input_schema()) is not None:
        try:
            models.validate_schema(data, schema)
        except Exception:  # noqa: BLE001  # pandas and numpy may raise anything
            table = _columns_of(data)
            return (_of_columns(table, schema) if table is not None else None) or _not_the_signature(schema)
    if fault := _of_params(params, metadata.get_params_schema()):
        return fault
    if hinted and getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE":
        return "'inputs' is not of the type that the model's type hint says"
    return None


def _of_columns(table: Table, schema: Any) -> str | None:
    if not schema.has_input_names() or schema.is_tensor_spec():
        return None
    if missing := [name for name in schema.required_input_names() if name not in table]:
        takes = ", ".join(map(str, schema.input_names()[:MOST_NAMES]))
        return f"{_named(missing)} missing; the model takes {takes}"
    for spec in schema.inputs:
        if spec.name in table and not _fits(spec, table[spec.name]):
            return f"column {spec.name!r} is not of the type {_type(spec)} that the model takes"
    return None


def _fits(spec: Any, values: Sequence[Any]) -> bool:
    alone = types.Schema([spec])
    split = {"columns": [spec.name], "data": [[value] for value in values]}
    try:
        data = scoring_server.infer_and_parse_data({"dataframe_split": split}, alone)
        models.validate_schema(data, alone)
    except Exception:  # noqa: BLE001  # pandas and numpy may raise anything
        return False
    return True


def _of_params(params: Any, schema: Any) -> str | None:
    try:
        model_utils._enforce_params_schema(params, schema)  # noqa: SLF001  # as pyfunc.predict calls it
    except Exception:  # noqa: BLE001  # numpy may raise anything for a caller's value
        if not isinstance(params, dict):
            return "params must be an object"
        for spec in schema.params:
            if spec.name in params and not _is_param(params[spec.name], spec):
                return f"param {spec.name!r} is not of the type {_type(spec, 'dtype')} that the model takes"
        return "params do not fit the model's signature"
    return None


def _is_param(value: Any, spec: Any) -> bool:
    try:
        schemas.ParamSpec.validate_param_spec(value, spec)
    except Exception:  # noqa: BLE001  # numpy may raise anything for a caller's value
        return False
    return True


def _shape(document: Any) -> str | None:
    """Return the fault in the form of a JSON request that no model would take."""
    if not isinstance(document, dict):
        return None
    if "dataframe_split" in document:
        return _shape_of_split(document["dataframe_split"])
    if "dataframe_records" in document:
        records = document["dataframe_records"]
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            return "dataframe_records must be a list of objects, one a row"
    return None


def _shape_of_split(split: Any) -> str | None:
    if not isinstance(split, dict) or "data" not in split or set(split) - {"columns", "data", "index"}:
        return "dataframe_split must be an object with data, and may have columns and index"
    data, columns, index = split["data"], split.get("columns"), split.get("index")
    if not isinstance(data, list) or not all(isinstance(row, list) for row in data):
        return "data in dataframe_split must be a list of rows, each a list"
    if columns is not None and not isinstance(columns, list):
        return "columns in dataframe_split must be a list of names"
    if isinstance(columns, list):
        for number, row in enumerate(data, 1):
            if len(row) != len(columns):
                return f"row {number} of dataframe_split has {len(row)} values for {len(columns)} columns"
    if isinstance(index, list) and len(index) != len(data):
        return f"dataframe_split has an index of {len(index)} for {len(data)} rows"
    return None


def _table(request: Request) -> Table | None:
    """Return the columns of *request* with their original values."""
    if isinstance(request.document, str):
        try:
            return _columns_of(pandas.read_csv(io.StringIO(request.document), dtype=object))
        except Exception:  # noqa: BLE001  # pandas may raise anything
            return None
    if not isinstance(request.document, dict):
        return None
    if isinstance(split := request.document.get("dataframe_split"), dict):
        columns = split.get("columns") or []
        return {str(name): [row[at] for row in split["data"]] for at, name in enumerate(columns)}
    for key in ("dataframe_records", "instances", "inputs"):
        if (value := request.document.get(key)) is not None:
            return _columns_of(value)
    return None


def _columns_of(data: Any) -> Table | None:
    if isinstance(data, pandas.DataFrame):
        return {name: data[name].tolist() for name in data.columns} if data.columns.is_unique else None
    if isinstance(data, dict):
        return {name: _listed(value) for name, value in data.items()}
    if isinstance(data, list) and data and all(isinstance(record, dict) for record in data):
        shared = [name for name in data[0] if all(name in record for record in data)]
        return {name: [record[name] for record in data] for name in shared}
    return None


def _listed(value: Any) -> list[Any]:
    value = value.tolist() if hasattr(value, "tolist") else value
    return value if isinstance(value, list) else [value]


def _not_the_signature(schema: Any) -> str:
    if schema.is_tensor_spec():
        wanted = "; ".join(
            f"{_type(spec)} of shape {tuple(spec.shape)}" for spec in schema.inputs[:MOST_NAMES]
        )
        return f"the input does not fit the model's signature: {wanted}"
    wanted = ", ".join(f"{spec.name or 'a column'} ({_type(spec)})" for spec in schema.inputs[:MOST_NAMES])
    return f"the input does not fit the model's signature: {wanted}"


def _named(names: Sequence[Any]) -> str:
    listed = ", ".join(repr(name) for name in names[:MOST_NAMES])
    return f"column {listed} is" if len(names) == 1 else f"columns {listed} are"


def _type(spec: Any, attribute: str = "type") -> str:
    kind = getattr(spec, attribute)
    return str(getattr(kind, "name", None) or kind)
