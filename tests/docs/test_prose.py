"""The English of the first documents and of src: plain phrases, short sentences.

codespell finds misspelt words. This test finds phrases that a reader stumbles over, and sentences that are
too long.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
CODE = ROOT / "src/shop_poller"
FIXED = {
    ("core/messages.py", "given up"): "a notification's text, which receivers may compare",
    ("stores/sqlite/orders.py", "learned"): "a column of the database",
    ("stores/sqlite/rows.py", "learned"): "a column of the database",
}
"""What stays, by module and phrase, and why."""

MOST_WORDS = 30
"""Words in a sentence."""
PHRASES = {
    r"go(?:es|ing)? on\b|went on\b": "continue, resume",
    r"trying on\b": "retrying",
    r"(?:a|one) (?:line|row|file|bar|page) (?:each\b|an? \w)": "one … per …",
    r"he(?:ar|ars|ard|aring) of\b": "is notified of",
    r"tell(?:s|ing)?\b|told\b": "report, show, say, return",
    r"left alone\b|leaves? .{0,20}alone\b": "paused, skipped, unchanged",
    r"g[ia]ves? up\b|given up\b": "failed, moved to dead letters",
    r"had\b(?! (?:been|to)\b)": "received, has",
    r"wants?\b|wanted\b": "need, request, expect",
    r"(?:finds?|found) out by itself\b": "detected automatically",
    r"whoever\b|(?:by|for|of|from|than) who\b": "the client, the user, the caller that",
    r"sa(?:y|ys|id) (?:yes|no)\b": "accept, refuse",
    r"anew\b|afresh\b": "again",
    r"held against\b|holds? .{0,20}against\b": "compare with",
    r"on with it\b": "start it",
    r"a bug, please report it\b|this is a bug\b": "internal error (bug): please report it at …",
    r"settl(?:er|ed|es|e)\b": "outcome recorder, record the outcome",
    r"couriers?\b": "sender",
    r"lessons?\b|learn(?:s|ed|t|er|ing)?\b": "initial import, imported",
    r"ledgers?\b": "state writer",
    r"tenures?\b": "leader session",
    r"bur(?:y|ies|ied|ying)\b": "move to dead letters",
    r"(?<!docs/)hints?\b(?!\.md)|hinted\b": "trigger",
    r"woken\b|wakes?\b": "release",
    r"culprits?\b|ailments?\b|leftovers?\b|rosters?\b|berths?\b": "the term of docs/glossary.md",
}
KNOWN = re.compile("|".join(rf"(?P<p{n}>\b(?:{one}))" for n, one in enumerate(PHRASES)), re.IGNORECASE)
RUSSIAN = re.compile(
    r"в покое|отказались|молча (?:запомина|выучи)\w+|идёт дальше|по строке на кажд\w+ проблем", re.IGNORECASE
)

ENTRY = re.compile(r"^(?: {4,})?(?:[-*] |\d+\. |\*{0,2}\w+(?:, \w+)*: )", re.MULTILINE)
"""Begins a list item, or an entry of the sections Args, Attributes, Raises."""
END = re.compile(r"(?<=[.!?…])[)\"'»]?\s+(?=[\"'«(`*\[]?[A-ZА-ЯЁ0-9`])|(?<=:)\n|\n{2,}")
WORD = re.compile(r"[^\W\d_][\w’'-]*")


class Text(NamedTuple):
    """A piece of prose, and where it begins."""

    where: str
    text: str


def problems(piece: Text, *, most_words: int = MOST_WORDS) -> Iterator[str]:
    """Phrases to replace, and sentences to split."""
    flat = re.sub(r"\s+", " ", piece.text)
    for found in KNOWN.finditer(flat):
        if (piece.where.partition(":")[0], found[0]) in FIXED:
            continue
        instead = list(PHRASES.values())[int(str(found.lastgroup)[1:])]
        yield f'{piece.where}: "{found[0]}": rather {instead}'
    for found in RUSSIAN.finditer(flat):
        yield f'{piece.where}: "{found[0]}"'
    for block in re.split(r"\n\s*\n", ENTRY.sub("\n\n", piece.text)):
        for sentence in END.split(block):
            count = len(WORD.findall(sentence))
            if count > most_words:
                yield f"{piece.where}: {count} words: {' '.join(sentence.split())[:60]}…"


def prose_of_code(path: Path) -> Iterator[Text]:
    """Docstrings and other texts of a module, and its comments."""
    code, where = path.read_text(encoding="utf-8"), path.relative_to(CODE)
    parts = set[int]()
    for node in ast.walk(ast.parse(code)):
        text = ""
        if isinstance(node, ast.JoinedStr):
            parts |= {id(value) for value in node.values}
            text = "".join(str(one.value) if isinstance(one, ast.Constant) else "x" for one in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            text = node.value
        if text.count(" ") > 1 and not re.search(
            r"^\s*<|\(\?|\\[wdsb]|\bSELECT |\bINSERT |\btypeof\(|\blocal \w+ =", text
        ):
            yield Text(f"{where}:{getattr(node, 'lineno', 0)}", text)
    comment, begins = "", 0
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT and not re.match(r"# (?:noqa|type:|fmt:|codespell)", token.string):
            comment, begins = (
                f"{comment}\n{token.string[1:].split('# noqa')[0].strip()}",
                begins or token.start[0],
            )
        elif token.type not in {tokenize.NL, tokenize.INDENT, tokenize.DEDENT} and comment:
            yield Text(f"{where}:{begins}", comment)
            comment, begins = "", 0


def prose_of_page(path: Path) -> Iterator[Text]:
    """A document without code, addresses and the bars of its tables."""
    page = re.sub(
        r"^```.*?^```$|^ {4}\S.*$|<[^>]+>",
        "",
        path.read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
    page = re.sub(r"\]\([^)]*\)|`[^`]*`", "`x`", page)
    for number, block in enumerate(re.split(r"\n\s*\n|\s*\|\s*|^#.*$", page, flags=re.MULTILINE)):
        yield Text(f"{path.name} (block {number})", block)


def modules(package: str) -> list[Path]:
    return [path for path in [CODE / f"{package}.py"] if path.exists()] or sorted(
        (CODE / package).rglob("*.py")
    )


PACKAGES = sorted(
    {path.parent.name for path in CODE.glob("*/__init__.py")} | {one.stem for one in CODE.glob("*.py")}
)
"""Packages, and modules beside them."""


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_written_in_plain_english(package: str) -> None:
    found = (
        problem for path in modules(package) for text in prose_of_code(path) for problem in problems(text)
    )
    assert list(found) == []


@pytest.mark.parametrize("page", ["README.md", "README.ru.md", "CONTRIBUTING.md", "docs/commands.md"])
def test_the_first_pages_are_written_plainly(page: str) -> None:
    assert [problem for text in prose_of_page(ROOT / page) for problem in problems(text, most_words=26)] == []


@pytest.mark.parametrize(
    "text",
    [
        "it goes on where it was",
        "says, a line each, what to do",
        "its owner hears of it",
        "a sink that is left alone",
        "what the store wants",
        "it cannot be had afterwards",
        "a bug, please report it",
        f"One {'word ' * 30}too many.",
        "First. Then " + "word, " * 30 + "and so on",
    ],
)
def test_what_is_hard_to_read_is_found(text: str) -> None:
    assert list(problems(Text("here", text)))


@pytest.mark.parametrize(
    "text",
    [
        "It resumes where it left off. It had been stopped.",
        "Args:\n    one: " + "word " * 20 + "\n    two: " + "word " * 20,
        "- " + "word " * 20 + "\n- " + "word " * 20,
    ],
)
def test_plain_text_passes(text: str) -> None:
    assert list(problems(Text("here", text))) == []


@pytest.mark.parametrize(("module", "phrase"), FIXED)
def test_what_stays_is_still_there(module: str, phrase: str) -> None:
    assert phrase in (CODE / module).read_text(encoding="utf-8")
