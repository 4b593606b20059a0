"""The keys of ``[probes.system]``: what they take, and what they say to a mistake."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from mlopsd_probes.system.options import CEILINGS, FLOORS, SystemOptions


@pytest.mark.parametrize(
    ("text", "number"),
    [("500MB", 500_000_000), ("16GiB", 16 * 2**30), ("1.5 tb", 1_500_000_000_000), ("7", 7), (12345, 12345)],
)
def test_a_size_is_bytes_or_text(text: object, number: int) -> None:
    assert SystemOptions(disk_free_enough=text).disk_free_enough == number  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("2m", 120.0), ("1h", 3600.0), (3, 3.0)])
def test_a_duration_is_seconds_or_text(text: object, seconds: float) -> None:
    assert SystemOptions(stuck_after=text).stuck_after == seconds  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ({"disk_free_enough": "many"}, "not a size; write bytes or text like"),
        ({"disk_free_enough": -1}, "greater than or equal to 0"),
        ({"disk_free_enough": "1.5b"}, "fractional part"),
        ({"path_timeout": "1 fortnight"}, "not a duration; write seconds or text like"),
        ({"path_timeout": 0}, "greater than 0"),
        (
            {"path_timeout": "5s"},
            "use up the check's timeout of 5 s and lose every other finding; write at most 4 s",
        ),
        ({"paths": ["var"]}, "'var' is not an absolute path; it must start with /"),
        ({"paths": ["/var/", "//var"]}, "paths lists '/var' twice"),
        ({"paths": ["/a\0b"]}, "contains a NUL"),
        ({"pids_degraded": 80}, "less than or equal to 1"),
        ({"load_degraded": float("nan")}, "finite"),
        ({"disc_free_degraded": 0.1}, "Extra inputs"),
    ],
)
def test_a_mistake_is_named(mistake: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        SystemOptions(**mistake)


@pytest.mark.parametrize("key", CEILINGS + FLOORS)
def test_a_degraded_limit_beyond_the_unhealthy_one_is_refused_by_both_names(key: str) -> None:
    unit = 100 if key == "temperature" else 1
    low, high = 0.3 * unit, 0.5 * unit
    mild, hard = (high, low) if key in CEILINGS else (low, high)
    with pytest.raises(ValidationError, match=f"{key}_degraded .* must not be .* than {key}_unhealthy"):
        SystemOptions.model_validate({f"{key}_degraded": mild, f"{key}_unhealthy": hard})
    assert SystemOptions.model_validate({f"{key}_degraded": hard, f"{key}_unhealthy": mild})
    assert SystemOptions.model_validate({f"{key}_degraded": mild, f"{key}_unhealthy": mild})


def test_every_limit_of_the_model_is_in_one_of_the_two_lists() -> None:
    limits = {key.rpartition("_")[0] for key in SystemOptions.model_fields if key.endswith("_degraded")}
    assert limits == {*CEILINGS, *FLOORS}
    assert all(f"{name}_unhealthy" in SystemOptions.model_fields for name in limits)


def test_paths_are_written_as_one_would() -> None:
    assert SystemOptions(paths=("//var/lib/../cache/", "/")).paths == ("/var/cache", "/")


def test_every_key_says_its_unit_and_its_reason() -> None:
    for key, field in SystemOptions.model_fields.items():
        assert field.description, key
        assert isinstance(field.json_schema_extra, dict), key
        assert field.json_schema_extra["unit"], key
