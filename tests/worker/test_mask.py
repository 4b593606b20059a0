"""The secrets of a probe's options are masked in everything that leaves the probe."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretBytes, SecretStr

from mlopsd.probe import HttpError, HttpRequest, ProbeError, ReloadRefused
from mlopsd.worker.mask import MASKED, SecretMask
from mlopsd.worker.worker import ProbeRaised
from tests import fakes
from tests.running import GIVE_UP
from tests.worker.watching import watching

SECRET = 'open "sésame"/7'


class Nested(BaseModel):
    keys: Sequence[SecretStr] = (SecretStr("first-key"),)
    by_name: dict[str, SecretStr] = {"a": SecretStr("second-key")}
    raw: SecretBytes = SecretBytes(b"third-key")
    short: SecretStr = SecretStr("abc")
    plain: str = "visible"


class Outer(BaseModel):
    inner: Nested = Nested()


def test_every_secret_of_the_options_is_found_wherever_it_is() -> None:
    masked = SecretMask.of([Outer()]).text("first-key second-key third-key visible abc")
    assert masked == f"{MASKED} {MASKED} {MASKED} visible abc"


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        repr([SECRET]),
        json.dumps({"token": SECRET}),
        json.dumps({"token": SECRET}, ensure_ascii=False),
        "https://host/?token=open%20%22s%C3%A9same%22%2F7",
        "https://host/?token=open+%22s%C3%A9same%22%2F7",
    ],
)
def test_a_secret_is_found_as_texts_quote_it(text: str) -> None:
    masked = SecretMask([SECRET]).text(text)
    assert MASKED in masked
    assert "same" not in masked


def test_a_longer_secret_is_masked_before_one_that_it_begins_with() -> None:
    assert SecretMask(["token", "token-of-mine"]).text("token-of-mine") == MASKED


@pytest.mark.parametrize("error", [ProbeError, ReloadRefused])
def test_an_error_of_the_contract_stays_one(error: type[Exception]) -> None:
    masked = SecretMask(["hunter22"]).error(error("with hunter22"))
    assert type(masked) is error
    assert str(masked) == f"with {MASKED}"


def test_any_other_error_keeps_its_type_in_words() -> None:
    masked = SecretMask(["hunter22"]).error(KeyError("hunter22"))
    assert isinstance(masked, ProbeRaised)
    assert str(masked) == f"KeyError: '{MASKED}'"
    same = KeyError("x")
    assert SecretMask(["hunter22"]).error(same) is same


@pytest.mark.parametrize(
    ("probe", "isolation"),
    [("Teller", "thread"), ("Teller", "process"), ("AsyncTeller", "loop"), ("AsyncTeller", "process")],
)
async def test_no_secret_leaves_a_probe(
    probe: str, isolation: str, strange_path: Path, tmp_path: Path
) -> None:
    import telling

    kind = getattr(telling, probe)
    table: dict[str, Any] = {"token": "hunter22"}
    async with watching(kind, isolation, tmp_path, fakes.Account(), patience=GIVE_UP, **table) as watch:
        told = (await watch.check()).reading
        failed = (await watch.check()).reading
        for reading in (told, failed):
            assert MASKED in reading.summary
            assert "hunter22" not in repr(reading)
        with pytest.raises(ProbeRaised, match="LookupError: no door for"):
            await watch.start_reload(dry_run=False, force=False).done
        assert "hunter22" not in str(watch.reload and watch.reload.done.exception())


async def test_no_secret_leaves_a_route(strange_path: Path, tmp_path: Path) -> None:
    import telling

    async with watching(telling.RouteTeller, "thread", tmp_path, fakes.Account(), token="hunter22") as watch:
        await watch.check()
        (route,) = watch.routes or ()
        with pytest.raises(HttpError) as refused:
            await route.handler(HttpRequest())
        assert refused.value.detail == f"no door for {MASKED}"
        assert (refused.value.code, refused.value.retry_after) == (409, 7)
