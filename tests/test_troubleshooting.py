"""The page on troubleshooting has every message that users can meet, and none that is no more."""

import re
from pathlib import Path

import pytest

import scpln

from .messages import ELLIPSIS, ENOUGH, Message, messages, pieces, size

SOURCE = Path(scpln.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "guides" / "troubleshooting.md"

#: An entry of the page: a line of messages as code, and below it what to do.
ENTRY = re.compile(r"^(?P<terms>`.*)\n: ", re.MULTILINE)
CODE = re.compile(r"(?P<ticks>`+)(?P<code>.+?)(?P=ticks)(?!`)")

INTERNAL = {
    "module … has no attribute …": "Python's own words for a name that is not there",
    "… has no legacy format to convert from.": "scpln has none, and says so to callers of scvi-tools' method",
}
"""Messages that the page leaves out, and why."""

WITHOUT_TEXT = {
    "cli/__init__.py: _guarded": "repeats a CommandError",
    "cli/_stdin.py: on_disk": "repeats a CommandError, with another name of the file",
    "cli/fit/_options.py: name_of_results": "repeats what `storable_name` says",
    "cli/fit/_command.py: _fitted": "repeats what `split` says",
    "cli/fit/_outputs.py: _check_model_place": "repeats what saving would say",
    "cli/fit/_config.py: ": "puts file and line before the others of that file",
    "cli/fit/_config.py: _of_option": "repeats what an option's type says, or that nothing is wrong",
    "train/_guard.py: accepts": "NotFiniteError makes the message",
    "utils/_warnings.py: warn": "says what it is given",
}
"""Places whose message has no text of its own, and why."""


@pytest.fixture(scope="module")
def said():
    return messages(SOURCE)


@pytest.fixture(scope="module")
def entries():
    """Messages of the page."""
    lines = [match["terms"] for match in ENTRY.finditer(PAGE.read_text(encoding="utf-8"))]
    return [match["code"] for line in lines for match in CODE.finditer(line)]


def is_named(message, entry):
    """Whether an entry's pieces stand in a message, in their order, and are enough to recognise it."""
    if size(entry) < min(ENOUGH, size(message)):
        return False
    rest = ELLIPSIS.join(pieces(message))
    for piece in pieces(entry):
        _, found, rest = rest.partition(piece)
        if not found:
            return False
    return True


def test_every_message_is_on_the_page(said, entries):
    wanted = [message for message in said if pieces(message.text) and message.text not in INTERNAL]
    absent = [message for message in wanted if not any(is_named(message.text, entry) for entry in entries)]
    assert len(wanted) > 200
    assert not absent, "\n".join(["not on the page:", *(f"{each.where}: {each.text}" for each in absent)])


def test_every_entry_is_a_message(said, entries):
    texts = {message.text for message in said}
    gone = [entry for entry in entries if not any(is_named(text, entry) for text in texts)]
    assert not gone, "\n".join(["no longer a message:", *gone])
    assert len(set(entries)) == len(entries)


def test_what_is_left_out_exists(said):
    assert set(INTERNAL) <= {message.text for message in said}
    assert {message.where for message in said if not pieces(message.text)} == set(WITHOUT_TEXT)


SAMPLE = """
def check(value, known):
    if value is None:
        raise ValueError("no value")
    msg = f"{value!r} is not among {known}, " "which are all." if known else "There is " + "nothing to choose from."
    raise KeyError(msg)


def reason(path):
    if path:
        return f"There is no directory {path!r} to load from."
    return "no path"


def load(path):
    hint = "it is a file" if path else "it is a folder"
    if hint:
        logger.warning("Read %s of %d files.", path, 3)
        warn(f"{path}: {hint}")
    raise OSError(reason(path))


class OwnError(ValueError):
    def __init__(self, cells):
        super().__init__(f"The bound of {cells} is not finite.")


def fail():
    raise ConfigError(3, "file", f"{key}: not an option")
    raise OwnError(cells)
"""


def test_messages_are_read_from_source(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "sample.py").write_text(SAMPLE, encoding="utf-8")
    expected = {
        "check": {"no value", "… is not among …, which are all.", "There is nothing to choose from."},
        "load": {
            "Read … of … files.",
            "…: it is a file",
            "…: it is a folder",
            "There is no directory … to load from.",
            "no path",
        },
        "": {"The bound of … is not finite."},
        "fail": {"…: not an option", "…"},
    }
    wanted = {Message(text, f"part/sample.py: {where}") for where, texts in expected.items() for text in texts}
    assert set(messages(tmp_path)) == wanted


@pytest.mark.parametrize(
    ("entry", "message", "expected"),
    [
        ("seed=…, but it must be 0 or more", "seed=…, but it must be 0 or more.", True),
        ("adata.obs has no column … Its columns are …", "adata.obs has no column … (…). …Its columns are ….", True),
        ("Its columns are … adata.obs has no column …", "adata.obs has no column … (…). …Its columns are ….", False),
        ("Its columns", "adata.obs has no column … (…). …Its columns are ….", False),
        ("no value", "no value", True),
    ],
)
def test_entries_are_pieces_in_order(entry, message, expected):
    assert is_named(message, entry) == expected
