"""The figures of the house, counted from the source.

``make figures`` prints them all, and test_house.py holds most of them.
"""

import ast
import re
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from tests.house.source import (
    BESIDE,
    PRODUCT,
    ROOT,
    Function,
    SourceFile,
    circles_of,
    imports_between,
    longest_chain_of,
    read_sources,
)

LONG_FUNCTION = 40  # lines
MANY_PARAMETERS = 6
INVERTED_WORDS = ("What", "Who", "Whether", "How", "Where", "Why", "When", "Which")
INVERTED = re.compile(rf"({'|'.join(INVERTED_WORDS)})\b")
LONG_SENTENCE = 25  # words
PARAGRAPH = re.compile(r"\n\s*\n")
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n\s*(?=- |[*\w]+: )")  # an item of a list is a sentence too
MODEL = "mlopsd_probes.model."
MODEL_ELSEWHERE = ("mlopsd_probes.model.mlopsd_host", "mlopsd_probes.model.demo")  # other processes
BROAD = frozenset({"Exception", "BaseException"})
NOQA = re.compile(r"noqa(: *[A-Z]+[0-9]+(, *[A-Z]+[0-9]+)*)?")
FOR_TOOLS = re.compile(rf"{NOQA.pattern}|type: ignore\[[-\w, ]+\]")


@dataclass(frozen=True, slots=True)
class HouseFigure:
    """A row of the table.

    Attributes:
        before: the figure at e8f882e, before the house was rebuilt.
        now: the figure of this tree as a number that grows when the tree gets worse.
        text: the figure in words.
        places: the offenders, for the message of a test that fails.
    """

    name: str
    before: str
    target: str
    now: int
    text: str
    places: Sequence[str] = ()


def measure(root: Path = ROOT) -> Sequence[HouseFigure]:
    """Count every figure in the repository at *root*."""
    product = read_sources(PRODUCT, root)
    beside = read_sources(BESIDE, root)
    return [
        count_lines(product),
        count_files(product),
        find_repeated_names(product),
        find_repeated_names([*product, *beside], "bench and chaos included", "45", "0"),
        find_inverted_docstrings(product),
        find_long_sentences(product),
        find_longest_chain(product),
        find_circles(product),
        find_wide_constructors(product),
        find_callbacks(product),
        find_unexplained_excepts(product),
        find_unexplained_noqas([*product, *beside, *read_sources(["tests"], root)]),
        find_long_functions(product),
    ]


def count_lines(product: Sequence[SourceFile]) -> HouseFigure:
    lines = sum(source.text.count("\n") for source in product)
    name = "source lines (Python, core + probes; C is not counted)"
    return HouseFigure(name, "25,284", "at most 22,500", lines, f"{lines:,}")


def count_files(product: Sequence[SourceFile]) -> HouseFigure:
    name = "Python files in mlopsd/ + probes/"
    return HouseFigure(name, "257", "at most 210", len(product), str(len(product)))


def find_repeated_names(
    sources: Sequence[SourceFile], where: str = "mlopsd + probes", before: str = "22", target: str = "0"
) -> HouseFigure:
    repeated = {name: places for name, places in _class_places(sources).items() if len(places) > 1}
    places = [f"{name}: {', '.join(found)}" for name, found in sorted(repeated.items())]
    name = f"class names used more than once, {where}"
    return HouseFigure(name, before, target, len(places), str(len(places)), places)


def _class_places(sources: Sequence[SourceFile]) -> dict[str, list[str]]:
    places = defaultdict(list)
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(source.where(node))
    return places


def find_inverted_docstrings(product: Sequence[SourceFile]) -> HouseFigure:
    docstrings = list(_docstrings(product))
    places = [place for place, text in docstrings if INVERTED.match(text)]
    text = f"{len(places)} of {len(docstrings)} ({len(places) / max(len(docstrings), 1):.0%})"
    name = "docstrings that begin " + "/".join(INVERTED_WORDS)
    return HouseFigure(name, "353 of 1807 (20%)", "0", len(places), text, places)


def find_long_sentences(product: Sequence[SourceFile]) -> HouseFigure:
    places = [
        f"{place}: {words}"
        for place, text in _docstrings(product)
        for sentence in _sentences(text)
        if (words := len(sentence.split())) > LONG_SENTENCE
    ]
    name = f"sentences of docstrings over {LONG_SENTENCE} words"
    return HouseFigure(name, "39", "0", len(places), str(len(places)), places)


def _docstrings(product: Sequence[SourceFile]) -> Iterator[tuple[str, str]]:
    """Yield the place and the text of each docstring."""
    for source in product:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Module | ast.ClassDef | Function) and (text := ast.get_docstring(node)):
                yield f"{source.path}:{node.body[0].lineno}", text


def _sentences(docstring: str) -> Iterator[str]:
    """Yield the sentences of *docstring*, without literal blocks, which follow a double colon."""
    is_literal = False
    for paragraph in PARAGRAPH.split(docstring):
        is_literal = is_literal and paragraph.startswith(" ")
        if not is_literal:
            yield from SENTENCE.split(paragraph)
        is_literal = is_literal or paragraph.endswith("::")


def find_longest_chain(product: Sequence[SourceFile]) -> HouseFigure:
    """Count the files of the longest path over imports that run at import."""
    chain = longest_chain_of(imports_between(product, at_import_only=True))
    name = "longest import chain (files, by imports that run at import)"
    return HouseFigure(name, "16", "at most 10", len(chain), str(len(chain)), [" > ".join(chain)])


def find_circles(product: Sequence[SourceFile]) -> HouseFigure:
    circles = circles_of(imports_between(product, at_import_only=False))
    name = "import circles, also within functions and TYPE_CHECKING"
    return HouseFigure(name, "1", "0", len(circles), str(len(circles)), [", ".join(one) for one in circles])


def find_wide_constructors(product: Sequence[SourceFile]) -> HouseFigure:
    """Count the parameters beyond `MANY_PARAMETERS` over all classes; it is 0 when no class has more."""
    counts = [
        (number, f"{source.where(node)} {node.name}")
        for source in product
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef) and (number := _constructor(node)) is not None
    ]
    wide = sorted((one for one in counts if one[0] > MANY_PARAMETERS), reverse=True)
    most = max((number for number, _ in counts), default=0)
    return HouseFigure(
        "constructor parameters of classes with behaviour",
        "up to 10",
        "at most 6",
        sum(number - MANY_PARAMETERS for number, _ in wide),
        f"up to {most}; more than 6 in {len(wide)} classes",
        [f"{where}: {number}" for number, where in wide],
    )


def _constructor(node: ast.ClassDef) -> int | None:
    """Count what the constructor of a class with behaviour takes; None for a value class.

    A value class is a frozen dataclass, or one without a method.
    """
    parameters = _init_parameters(node)
    if parameters is not None:
        return len(parameters)
    decorators = [ast.unparse(one) for one in node.decorator_list if "dataclass" in ast.unparse(one)]
    if not decorators or "frozen=True" in decorators[0] or not list(_methods(node)):
        return None
    return sum("init=False" not in ast.unparse(one) for one in _fields(node))


def _init_parameters(node: ast.ClassDef) -> list[ast.arg] | None:
    for function in _methods(node):
        if function.name == "__init__":
            arguments = function.args
            return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs][1:]
    return None


def _methods(node: ast.ClassDef) -> Iterator[Function]:
    return (one for one in node.body if isinstance(one, Function))


def _fields(node: ast.ClassDef) -> Iterator[ast.AnnAssign]:
    for one in node.body:
        if isinstance(one, ast.AnnAssign) and "ClassVar" not in ast.unparse(one.annotation):
            yield one


def find_callbacks(product: Sequence[SourceFile]) -> HouseFigure:
    """Count the functions that constructors in model/ take, those of the model's own interpreter left out."""
    model = [
        source
        for source in product
        if source.module.startswith(MODEL) and not source.module.startswith(MODEL_ELSEWHERE)
    ]
    aliases = {f"{source.module}.{name}" for source in model for name in _callable_aliases(source)}
    places = [
        f"{source.where(node)} {node.name}({name})"
        for source in model
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
        for name, annotation in _taken(node)
        if _is_callable(annotation, _names_of(aliases, source)) and name not in ("clock", "now")
    ]
    name = "callbacks in model/: functions that a constructor takes, clocks left out"
    return HouseFigure(name, "20", "at most 2", len(places), str(len(places)), places)


def _callable_aliases(source: SourceFile) -> Iterator[str]:
    for node in source.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Callable["):
            yield ast.unparse(node.targets[0])


def _names_of(aliases: Set[str], source: SourceFile) -> Set[str]:
    """Return the names that *aliases* have in *source*, which defines or imports them."""
    names = {alias.removeprefix(f"{source.module}.") for alias in aliases}
    for node in source.tree.body:
        if isinstance(node, ast.ImportFrom):
            names |= {one.name for one in node.names if f"{node.module}.{one.name}" in aliases}
    return names


def _taken(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield the name and the annotation of each thing that a class is made from, a value class included."""
    for one in _init_parameters(node) or ():
        yield one.arg, one.annotation
    if any("dataclass" in ast.unparse(one) for one in node.decorator_list):
        for field in _fields(node):
            yield ast.unparse(field.target), field.annotation


def _is_callable(annotation: ast.expr | None, aliases: Set[str]) -> bool:
    if annotation is None:
        return False
    words = {one.id for one in ast.walk(annotation) if isinstance(one, ast.Name)}
    return "Callable" in words or bool(words & aliases)


def find_unexplained_excepts(product: Sequence[SourceFile]) -> HouseFigure:
    """Count handlers of every exception without a comment on their line that is more than ``noqa``."""
    handlers = [
        (source, node)
        for source in product
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler) and _is_broad(node)
    ]
    places = [source.where(node) for source, node in handlers if not _reason(source.lines[node.lineno - 1])]
    return HouseFigure(
        "broad except without a reason on its line",
        "5 of 35",
        "0",
        len(places),
        f"{len(places)} of {len(handlers)}",
        places,
    )


def _is_broad(node: ast.ExceptHandler) -> bool:
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(one is None or (isinstance(one, ast.Name) and one.id in BROAD) for one in caught)


def _reason(line: str) -> str:
    """Return the comment of *line*, which has no other ``#``, without what is for ruff and mypy."""
    return FOR_TOOLS.sub("", line.partition("#")[2]).strip("# ")


def find_unexplained_noqas(sources: Sequence[SourceFile]) -> HouseFigure:
    """Count the comments that silence a lint rule and do not say why."""
    noted = [
        (f"{source.path}:{number}", comment)
        for source in sources
        for number, comment in _comments(source)
        if NOQA.search(comment)
    ]
    places = [place for place, comment in noted if not _reason(comment)]
    return HouseFigure(
        "noqa without a reason on its line",
        "43 of 94",
        "0",
        len(places),
        f"{len(places)} of {len(noted)}",
        places,
    )


def _comments(source: SourceFile) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def find_long_functions(product: Sequence[SourceFile]) -> HouseFigure:
    places = [
        f"{source.where(node)} {node.name}: {length}"
        for source in product
        for node in ast.walk(source.tree)
        if isinstance(node, Function)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LONG_FUNCTION
    ]
    return HouseFigure("functions over 40 lines", "2", "at most 1", len(places), str(len(places)), places)


def main(words: Sequence[str]) -> None:
    """Print the table; with ``-v`` also the places behind each figure. A path measures another tree."""
    figures = measure(*[Path(word) for word in words if word != "-v"])
    rows = [("figure", "e8f882e", "target", "now")]
    rows += [(figure.name, figure.before, figure.target, figure.text) for figure in figures]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if "-v" in words:
        for figure in figures:
            print(f"\n{figure.name}", *figure.places, sep="\n  ")


if __name__ == "__main__":
    main(sys.argv[1:])
