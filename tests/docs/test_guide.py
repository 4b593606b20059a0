"""What the guide for authors shows besides the package that it is made of."""

import logging
import re
from pathlib import Path
from typing import Any, cast

import pytest

from mlopsd.probe import Context, HttpError, HttpRequest, Instruments, Options, declared_routes

GUIDE = (Path(__file__).parents[2] / "docs/extending/writing-a-probe.md").read_text("utf-8")


async def test_the_process_of_the_guide_answers(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```python\n(import sys\n.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/extending/writing-a-probe.md", "exec"), names)
    context = Context("loud", tmp_path, logging.getLogger("test"), {}, cast("Instruments", None))
    assert await names["louder"](context, b"anybody there?") == b"ANYBODY THERE?"


async def test_the_routes_of_the_guide_answer(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```python\n([^`]*?class Locks.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/extending/writing-a-probe.md", "exec"), names)
    context = Context("hall", tmp_path, logging.getLogger("test"), {}, cast("Instruments", None))
    show, unlock = declared_routes(names["Locks"](Options(), context))
    request = HttpRequest(parameters={"lock": "front"}, body=b"a visit")
    assert (await show.handler(request)).body == b"shut\n"
    assert (await unlock.handler(request)).code == 200
    assert (await show.handler(request)).body == b"open\n"
    with pytest.raises(HttpError, match="send a reason"):
        await unlock.handler(HttpRequest(parameters={"lock": "front"}))
