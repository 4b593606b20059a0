"""The documents are plain: few long sentences, few relative clauses as subjects, no long paragraphs."""

from pathlib import Path

import pytest

from tests.docs.plain import ROOT, blocks, count, is_inverted, pages, sentences, words

PAGES = pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))


@PAGES
def test_few_sentences_are_long(path: Path) -> None:
    page = count(path.read_text("utf-8"))
    assert not page.exceeds(page.long), listed(page.long, "has more than 25 words")


@PAGES
def test_few_sentences_open_with_a_relative_clause(path: Path) -> None:
    page = count(path.read_text("utf-8"))
    assert not page.exceeds(page.inverted), listed(page.inverted, "put the subject first")


@PAGES
def test_no_paragraph_is_a_wall(path: Path) -> None:
    page = count(path.read_text("utf-8"))
    assert not page.walls, listed(page.walls, "has more than 400 characters: make it a list or a table")


def listed(found: tuple[str, ...], complaint: str) -> str:
    return "\n".join(f"{complaint}: {text}" for text in found)


def test_code_tables_and_headings_are_no_prose() -> None:
    page = "# What it is\nOne.\n```sh\nls. Where?\n```\n| a | b. |\n\n<!-- Who knows. -->\nTwo\nthree.\n"
    assert blocks(page) == ["One.", "Two three."]


def test_a_code_block_may_stand_in_a_list() -> None:
    assert blocks("1. One:\n   ```\n   Where?\n   ```\n2. Two\n   goes on.\n- Three\n") == [
        "One:",
        "Two goes on.",
        "Three",
    ]


def test_sentences_end_at_a_full_stop_and_not_within_code_or_an_abbreviation() -> None:
    text = 'Run `a. b`. See [the page. It](x.md) (e.g. **now.** Or "then." Else no).'
    assert sentences(text) == ["Run CODE.", "See the page.", "It (e.g. **now.**", 'Or "then."', "Else no)."]


@pytest.mark.parametrize(
    ("sentence", "number"),
    [
        ("One two.", 2),
        ("A - b — c", 3),
        ("`mlopsd reload model` ends: exit 1.", 4),
        ("10 GB need 11 MB/s.", 5),
    ],
)
def test_words_are_counted_as_a_reader_reads_them(sentence: str, number: int) -> None:
    (found,) = sentences(sentence)
    assert words(found) == number


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("What waits is predicted together.", True),
        ("**Whoever reaches the port** may read.", True),
        ("Where the kernel is old, the model serves all the same.", True),
        ("What does it cost?", False),
        ("The probe shows what it found, and where.", False),
        ("Whole numbers are counted as classes.", False),
        ("When it fails, the old version stays.", False),
    ],
)
def test_an_inverted_sentence_opens_with_a_relative_clause(sentence: str, *, expected: bool) -> None:
    assert is_inverted(sentence) is expected


def test_the_share_of_a_page_decides() -> None:
    long = f"{'word ' * 26}end."
    assert count(long).exceeds(count(long).long)
    assert not count("Short.\n" * 30).exceeds(count("Short.\n" * 30).long)
    assert not count(f"{'Short. ' * 33}{long}").exceeds((long,))
    assert count(f"{'Short. ' * 32}{long}").exceeds((long,))
    assert count(f"{'word ' * 24}end.").long == ()


def test_a_wall_is_a_paragraph_and_not_a_list() -> None:
    assert count("Short one. " * 40).walls
    assert not count("- Short one.\n" * 40).walls
