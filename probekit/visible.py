"""Names of strangers in front of a reader: what would steer a terminal, or turn a line round, is shown as an escape."""

import re
from collections.abc import Sequence

# Unicode's control characters but the line break, its marks of direction and of nothing, and halves of characters.
HIDDEN = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")

LONGEST = 100  # characters of a name in a message
SHOWN = 3  # names in one


def visible(text: str) -> str:
    r"""`"a\x1b[2J"` becomes the characters `a\x1b[2J`; line breaks stay."""
    return HIDDEN.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def first_line(error: BaseException) -> str:
    """What an error says first, or its kind where it says nothing, in at most 200 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def one_line(error: BaseException) -> str:
    """All that an error says, on one line, or its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def short(name: str) -> str:
    """A name as it is, or the beginning and the end of one that would fill the screen."""
    return name if len(name) <= LONGEST else f"{name[:40]}...{name[-40:]}"


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(short, names[:SHOWN])) + more
