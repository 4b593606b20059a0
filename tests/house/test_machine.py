"""No test asserts how quick the machine is that it runs on."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CLOCKS = {"monotonic", "perf_counter", "process_time", "time"}
LEAST = 30  # seconds: a shorter bound is a claim about the machine, and not about a hang
WAITS = {"timeout", "wait_for", "communicate", "run"}


def faults(text: str) -> list[str]:
    """Find assertions that something took less than a number of seconds, and short bounds of a hang."""
    nodes = list(ast.walk(ast.parse(text)))
    measured = {name for node in nodes if isinstance(node, ast.Assign) for name in _measured(node)}
    expected = {id(inner) for node in nodes if _must_raise(node) for inner in ast.walk(node)}
    found = [
        node
        for node in nodes
        if (isinstance(node, ast.Assert) and _is_timed(node, measured))
        or (isinstance(node, ast.Call) and id(node) not in expected and _is_short(node))
    ]
    return [f"line {node.lineno}: {ast.unparse(node)}" for node in found]


def _must_raise(node: ast.AST) -> bool:
    """Whether *node* is a block of `pytest.raises`: what is waited for there never comes."""
    calls = [item.context_expr for item in node.items] if isinstance(node, ast.With | ast.AsyncWith) else []
    return any(isinstance(call, ast.Call) and _name(call) == "raises" for call in calls)


def _measured(node: ast.Assign) -> Iterator[str]:
    """Name the variables that are given a difference of two readings of a clock."""
    if _is_duration(node.value, set()):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _is_timed(node: ast.Assert, measured: set[str]) -> bool:
    """Whether *node* asserts that a measured time is below a number."""
    return any(
        _is_duration(smaller, measured) and isinstance(greater, ast.Constant)
        for part in ast.walk(node.test)
        if isinstance(part, ast.Compare)
        for smaller, greater in _ordered(part)
    )


def _ordered(node: ast.Compare) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Pair what is compared in *node*, the smaller first."""
    sides = [node.left, *node.comparators]
    for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
        if isinstance(operator, ast.Lt | ast.LtE):
            yield left, right
        elif isinstance(operator, ast.Gt | ast.GtE):
            yield right, left


def _is_duration(node: ast.expr, measured: set[str]) -> bool:
    if isinstance(node, ast.Name):
        return node.id in measured
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub)):
        return False
    return any(isinstance(side, ast.Call) and _name(side) in CLOCKS for side in (node.left, node.right))


def _is_short(node: ast.Call) -> bool:
    """Whether *node* is a wait that gives up after fewer seconds than `LEAST`."""
    if _name(node) not in WAITS:
        return False
    bounds = [keyword.value for keyword in node.keywords if keyword.arg == "timeout"]
    bounds += {"timeout": node.args, "wait_for": node.args[1:]}.get(_name(node), [])
    values = [one.value for one in bounds if isinstance(one, ast.Constant)]
    return any(isinstance(value, int | float) and value < LEAST for value in values)


def _name(node: ast.Call) -> str:
    called = node.func
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def test_no_assertion_is_about_the_pace_of_the_machine() -> None:
    files = [path for path in sorted(TESTS.rglob("*.py")) if "packages" not in path.parts]
    found = {str(path.relative_to(TESTS)): faults(path.read_text("utf-8")) for path in files}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "text",
    [
        "assert time.monotonic() - began < 20",
        "assert 8 < loop.time() - began <= 20",
        "took = perf_counter() - began\nassert took < 0.5",
        "assert 20 > time.time() - began",
        "async def test():\n    async with asyncio.timeout(5):\n        await it()",
        "subprocess.run(command, timeout=10)",
    ],
)
def test_one_that_is_would_be_found(text: str) -> None:
    assert len(faults(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "assert time.monotonic() < deadline",
        "assert time.monotonic() - began >= 0.3",
        "assert time.monotonic() - began < GIVE_UP",
        "assert took < other",
        "with pytest.raises(TimeoutError):\n    asyncio.timeout(0.2)",
        "asyncio.timeout(60)",
    ],
)
def test_one_that_waits_for_an_event_is_none(text: str) -> None:
    assert faults(text) == []
