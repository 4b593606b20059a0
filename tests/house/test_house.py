"""The house stays in order: names, imports, constructors, docstrings and functions of the product."""

from collections.abc import Callable, Sequence

import pytest

from tests.house.figures import (
    INVERTED_WORDS,
    HouseFigure,
    find_callbacks,
    find_circles,
    find_inverted_docstrings,
    find_long_functions,
    find_long_sentences,
    find_longest_chain,
    find_repeated_names,
    find_unexplained_excepts,
    find_unexplained_noqas,
    find_wide_constructors,
    main,
)
from tests.house.source import SourceFile, read_sources

Finder = Callable[[Sequence[SourceFile]], HouseFigure]


@pytest.fixture(scope="module")
def product() -> Sequence[SourceFile]:
    return read_sources()


def hold(find: Finder, sources: Sequence[SourceFile], *, at_most: int) -> None:
    figure = find(sources)
    assert figure.now <= at_most, "\n".join([f"{figure.name}: {figure.text}", *figure.places])


def test_each_class_name_is_used_once(product: Sequence[SourceFile]) -> None:
    hold(find_repeated_names, product, at_most=0)


def test_imports_make_no_circle_not_even_within_functions(product: Sequence[SourceFile]) -> None:
    hold(find_circles, product, at_most=0)


def test_the_longest_import_chain_is_of_ten_files(product: Sequence[SourceFile]) -> None:
    hold(find_longest_chain, product, at_most=10)


def test_no_docstring_begins_with_a_question_word(product: Sequence[SourceFile]) -> None:
    hold(find_inverted_docstrings, product, at_most=0)


def test_no_sentence_of_a_docstring_of_a_probe_has_more_than_25_words(product: Sequence[SourceFile]) -> None:
    # mlopsd/ still has some; `make figures` counts them
    probes = [source for source in product if source.path.startswith("probes/")]
    assert probes
    hold(find_long_sentences, probes, at_most=0)


def test_no_constructor_takes_more_than_six_parameters(product: Sequence[SourceFile]) -> None:
    hold(find_wide_constructors, product, at_most=0)


def test_each_broad_except_has_a_reason_on_its_line(product: Sequence[SourceFile]) -> None:
    hold(find_unexplained_excepts, product, at_most=0)


def test_each_silenced_rule_has_a_reason_on_its_line(product: Sequence[SourceFile]) -> None:
    hold(find_unexplained_noqas, [*product, *read_sources(["bench", "chaos", "tests"])], at_most=0)


def test_one_function_at_most_is_longer_than_forty_lines(product: Sequence[SourceFile]) -> None:
    hold(find_long_functions, product, at_most=1)


# The counting


def sources(**texts: str) -> Sequence[SourceFile]:
    """Modules of a package ``mlopsd_probes.model``, each with its text; ``package`` is its own file."""
    folder, name = "probes/mlopsd_probes/model", "mlopsd_probes.model"
    return [
        SourceFile(f"{folder}/__init__.py", name, text)
        if module == "package"
        else SourceFile(f"{folder}/{module}.py", f"{name}.{module}", text)
        for module, text in texts.items()
    ]


WIDE = "(self, a, b, c, /, d, e, *, f, g): pass"
BLOCK = "try: pass\nexcept {}: {}\n pass"
LONG = "def run():\n{}"
TEN = "a b c d e f g h i j"
FULL = f"{TEN} {TEN} k l m n o"  # 25 words


@pytest.mark.parametrize(
    ("find", "text", "count"),
    [
        (find_repeated_names, "class A: pass\ndef f():\n class A: pass\nclass B: pass", 1),
        (find_wide_constructors, f"class A:\n def __init__{WIDE}", 1),
        (find_wide_constructors, f"class A:\n def __init__{WIDE.replace(', g', '')}", 0),
        (find_wide_constructors, f"class A:\n def run{WIDE}", 0),
        (
            find_callbacks,
            "Done = Callable[[], None]\nclass A:\n def __init__(self, done: Done | None): pass",
            1,
        ),
        (find_callbacks, "class A:\n def __init__(self, clock: Callable[[], float], a: int): pass", 0),
        (find_callbacks, "@dataclass(frozen=True)\nclass A:\n done: Callable[[], None]", 1),
        (find_unexplained_excepts, BLOCK.format("Exception", ""), 1),
        (find_unexplained_excepts, BLOCK.format("(OSError, BaseException)", "# noqa: BLE001, S110"), 1),
        (find_unexplained_excepts, "try: pass\nexcept: pass", 1),
        (find_unexplained_excepts, BLOCK.format("Exception", "# noqa: BLE001  # a third party's code"), 0),
        (find_unexplained_excepts, BLOCK.format("OSError", ""), 0),
        (find_unexplained_noqas, "import a  # noqa", 1),
        (find_unexplained_noqas, "a._b()  # type: ignore[misc]  # noqa: SLF001, B018", 1),
        (find_unexplained_noqas, "a._b()  # type: ignore[misc]  # noqa: SLF001  # it has no other way", 0),
        (find_unexplained_noqas, "a = '# noqa'", 0),
        (find_long_sentences, f'"""{FULL}."""', 0),
        (find_long_sentences, f'"""{FULL} more."""', 1),
        (find_long_sentences, f'"""Short.\n\n{TEN}\n{FULL}.\n"""', 1),
        (find_long_sentences, f'class A:\n """{FULL}. {FULL}? {FULL}"""', 0),
        (find_long_sentences, f'def f():\n """Short: {FULL}; {FULL}."""', 1),
        (find_long_sentences, f'"""Short.\n\nArgs:\n    a: {TEN}.\n    b: {FULL}."""', 1),
        (find_long_sentences, f'"""Short:\n\n- {TEN}\n- {TEN}\n- {TEN}\n"""', 0),
        (find_long_sentences, f'"""A tree::\n\n    {FULL} more\n\n    {FULL} more\n\n{FULL} more."""', 1),
        (find_long_functions, LONG.format(" pass\n" * 39), 0),
        (find_long_functions, LONG.format(" pass\n" * 40), 1),
        (find_long_functions, "async " + LONG.format(" pass\n" * 40), 1),
    ],
)
def test_an_offence_is_counted_and_what_is_none_is_not(find: Finder, text: str, count: int) -> None:
    figure = find(sources(module=text))
    assert (figure.now, len(figure.places)) == (count, count)


FIELDS = "".join(f" a{number}: int\n" for number in range(8))


@pytest.mark.parametrize(
    ("decorator", "method", "count"),
    [
        ("dataclass", " def run(self): pass", 2),
        ("dataclass(slots=True)", " def run(self): pass", 2),
        ("dataclass(frozen=True)", " def run(self): pass", 0),
        ("dataclass", "", 0),
    ],
)
def test_the_fields_of_a_dataclass_with_methods_are_parameters_unless_it_is_frozen(
    decorator: str, method: str, count: int
) -> None:
    text = f"@{decorator}\nclass A:\n all: ClassVar[int] = 1\n{FIELDS}{method}"
    assert find_wide_constructors(sources(module=text)).now == count


@pytest.mark.parametrize("word", INVERTED_WORDS)
@pytest.mark.parametrize(
    "place", ['"""{}"""', 'class A:\n """{}"""', 'class A:\n async def f(self):\n  """{}"""']
)
def test_a_docstring_of_a_module_a_class_and_a_function_is_read(word: str, place: str) -> None:
    assert find_inverted_docstrings(sources(module=place.format(f"{word} it is."))).now == 1
    assert find_inverted_docstrings(sources(module=place.format(f"{word}ever it is."))).now == 0
    assert find_inverted_docstrings(sources(module=place.format(f"Return {word.lower()} it is."))).now == 0


@pytest.mark.parametrize(
    ("line", "chain"),
    [
        ("from mlopsd_probes.model import b", 3),
        ("from mlopsd_probes.model.b import c", 3),
        ("import mlopsd_probes.model.b as b", 3),
        ("from . import b", 3),
        ("from .b import c", 3),
        ("if True:\n from .b import c", 3),
        ("def f():\n from .b import c", 2),
        ("if TYPE_CHECKING:\n from .b import c", 2),
        ("import json", 2),
    ],
)
def test_a_chain_follows_every_form_of_import_that_runs_at_import(line: str, chain: int) -> None:
    assert find_longest_chain(sources(a=line, b="from . import c", c="from os import path")).now == chain


@pytest.mark.parametrize(
    "line", ["from . import a", "def f():\n from .a import x", "if TYPE_CHECKING:\n from .a import x"]
)
def test_a_circle_is_one_wherever_it_is_imported(line: str) -> None:
    figure = find_circles(sources(a="from .b import x", b="from .c import x", c=line, d="from .a import x"))
    assert figure.now == 1
    assert figure.places == [", ".join(f"mlopsd_probes.model.{module}" for module in "abc")]


def test_a_package_that_imports_its_modules_which_import_it_is_a_circle() -> None:
    assert find_circles(sources(package="from . import a", a="from . import VALUE")).now == 1


def test_the_table_has_a_line_for_each_figure(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 14
    assert all(line.count("  ") >= 3 for line in lines)
