"""Keys of the built-in probes in the configuration."""

from typing import Annotated, Any

from pydantic import Field

from mlopsd.units import Seconds

Moment = Annotated[Seconds, Field(gt=0)]
Ratio = Annotated[float, Field(ge=0, le=1)]


def key(default: Any, unit: str, why: str) -> Any:
    """Declare a configuration key: its default, its unit, and its meaning in one line."""
    return Field(default=default, description=why, json_schema_extra={"unit": unit})
