"""The product's source as syntax trees, and the imports between its modules."""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("mlopsd", "probes/mlopsd_probes")
BESIDE = ("bench", "chaos")
Function = ast.FunctionDef | ast.AsyncFunctionDef
Imports = Mapping[str, Set[str]]


@dataclass(frozen=True)
class SourceFile:
    """A Python file of the repository, with its path from the root and its module's name."""

    path: str
    module: str
    text: str

    @cached_property
    def lines(self) -> Sequence[str]:
        """Its lines."""
        return self.text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text, self.path)

    def where(self, node: ast.stmt | ast.ExceptHandler) -> str:
        """Return the place of *node* as an editor takes it."""
        return f"{self.path}:{node.lineno}"

    @property
    def package(self) -> str:
        """The package that its relative imports begin from."""
        return self.module if self.path.endswith("/__init__.py") else self.module.rpartition(".")[0]


def read_sources(folders: Iterable[str] = PRODUCT, root: Path = ROOT) -> Sequence[SourceFile]:
    """Read each Python file below *folders* of the repository at *root*."""
    return [_read(path, root) for folder in folders for path in sorted((root / folder).rglob("*.py"))]


def _read(path: Path, root: Path) -> SourceFile:
    relative = path.relative_to(root)
    parts = relative.with_suffix("").parts
    parts = parts[1:] if parts[0] == "probes" else parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return SourceFile(relative.as_posix(), module, path.read_text("utf-8"))


def imports_between(sources: Sequence[SourceFile], *, at_import_only: bool) -> Imports:
    """Map each module to those of *sources* that it imports by name.

    With *at_import_only* these are the imports that run when the module does: none in a function, none
    under ``TYPE_CHECKING``.
    """
    known = {source.module for source in sources}
    nodes_of = _nodes_run_at_import if at_import_only else ast.walk
    return {source.module: frozenset(_imported(source, nodes_of(source.tree), known)) for source in sources}


def _imported(source: SourceFile, nodes: Iterable[ast.AST], known: Set[str]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(source, node)
            names = [_module_named(origin, alias.name, known) for alias in node.names]
        else:
            continue
        yield from (name for name in names if name in known and name != source.module)


def _origin(source: SourceFile, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = source.package.split(".")
    return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])


def _module_named(origin: str, name: str, known: Set[str]) -> str:
    return f"{origin}.{name}" if f"{origin}.{name}" in known else origin


def _nodes_run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _nodes_run_at_import(child)


def circles_of(imports: Imports) -> list[list[str]]:
    """Return the groups of modules that reach each other."""
    reached = {module: _reach(module, imports) for module in imports}
    groups = {frozenset(other for other in reached[module] if module in reached[other]) for module in imports}
    return sorted(sorted(group) for group in groups if group)


def _reach(module: str, imports: Imports) -> Set[str]:
    """Return the modules that *module* imports, directly or not."""
    found: set[str] = set()
    pending = list(imports[module])
    while pending:
        if (one := pending.pop()) not in found:
            found.add(one)
            pending += imports[one]
    return found


def longest_chain_of(imports: Imports) -> list[str]:
    """Return the modules of the longest path over *imports*, from the importer down.

    An import that would close a circle is passed over.
    """
    known: dict[str, list[str]] = {}

    def chain(module: str, above: Set[str]) -> list[str]:
        if module not in known:
            below = sorted(imports[module] - above)
            known[module] = [
                module,
                *max((chain(one, above | {module}) for one in below), key=len, default=[]),
            ]
        return known[module]

    return max((chain(module, frozenset({module})) for module in sorted(imports)), key=len, default=[])
