r"""The grammars: how each database tells names from values, as patterns.

A pattern takes as much as it can that stays, and one token after it, whose kind is the name of its group:

- ``list``: the list of keys of an ``IN``;
- ``value``: a value or a parameter;
- ``comment``, and ``nested``: one that may have others in it;
- ``code``: a comment of MySQL's that it may run;
- ``distinct``: ``DISTINCT FROM``, behind which no name of a table stands;
- ``fork``: a string that ends elsewhere with and without escapes, which are a setting of the server;
- ``line``: the rest of a line that may be a comment;
- ``endless``: a comment that has no end, and ``open``: a string or a name that has none;
- ``doubt``: what may be anything; ``other``: a character that stays.

No pattern reads a character more than a few times, because what repeats is possessive, and nothing is read behind what
has no end. Where the databases of one grammar differ, it takes more for values than there are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

# What is not ASCII is a letter. A class says what is none, for that is compiled a hundred times faster.
_NO_LETTER = r"\x00-@\[-\^`{-\x7f"
_IN_WORDS = r"[^\x00-#%-/:-@\[-\^`{-\x7f]"
_IN_NUMBERS = r"[^\x00-\-/:-@\[-\^`{-\x7f]"
_IN_TAGS = r"[^\x00-/:-@\[-\^`{-\x7f]"
_PUNCTUATION = r"\x01-\x20!&()*+,;<=>\\\]\^{|}~\x7f"
_SPACE = r"[ \t\n\r\f\v]*+"
_WORD = rf"[^{_NO_LETTER}]{_IN_WORDS}*+"
_NUMBER = rf"\.?[0-9](?:[eE][+-](?=[0-9])|{_IN_NUMBERS})*+"
_FORMAT = r"%\(\w+\)[bst]|%[bst](?!\w)"
_PARAMETER = r":\w+|\?[0-9]+"
_KEPT = r"::|:(?!\w)|(?<=\w):|-(?!-)|\.(?![0-9])|\?(?![0-9])|%%|%(?!\(|[bst](?!\w))"
_COMMENT = r"/\*[^*]*+(?:\*(?!/)[^*]*+)*+\*/"
_FLAT_COMMENT = r"/\*[^*/]*+(?:(?:\*(?!/)|/(?!\*))[^*/]*+)*+\*/"
_ODD_NAME = r"(?P<doubt>%\([^)]{0,99}\)[bst]|\x00"
_TAG = rf"\$(?:[^{_NO_LETTER}]{_IN_TAGS}*+)?\$"
_DOLLARS = rf"(?P<tag>{_TAG}).*?(?P=tag)"
_BACKTICKED = r"`[^`]*+(?:``[^`]*+)*+`"
_PLAIN_LINE = r"(?:[^\n\r\x00'\"`$/\[\]\-#\\]|-(?!-)|/(?![*/]))*+"
_SAYING = r"M?!|\+(?:[^'\"`*]|\*(?!/))*+['\"`]"
"""How a comment goes on that MySQL may run, or reads hints with strings in."""
_CODE = r"(?P<code>/\*M?!(?:[^'\"`*/#\\-]|\*(?!/)|/(?!\*)|-(?!-))*+\*/)"


@dataclass(frozen=True, slots=True)
class Escapes:
    """Whether a backslash escapes the quote after it; None where that is not known.  Lives as long as the process."""

    single: bool | None = None
    double: bool | None = None
    has_triple: bool = False
    """Whether three quotes begin a string that three quotes end."""


UNDECIDED = Escapes()


@cache
def pattern_of(dialect: str, escapes: Escapes = UNDECIDED) -> re.Pattern[str]:
    """Return the pattern of a *dialect*, by the name that SQLAlchemy gives it; a careful one if it is not known."""
    build, _ = _DIALECTS.get(dialect, _UNKNOWN)
    return re.compile(build(escapes), re.DOTALL)


def readings_of(dialect: str) -> tuple[Escapes, ...]:
    """Return what a server may have been set to, for a statement that has a fork."""
    return _DIALECTS.get(dialect, _UNKNOWN)[1]


def _postgresql(escapes: Escapes) -> str:
    """Read as PostgreSQL: names in double quotes, nested comments, dollar quotes, E'...' (its manual, 4.1)."""
    string, escaped = _quoted(_SINGLE, escapes.single), "[eE]" + _quoted(_SINGLE, escapes=True)
    words = _words(("bBeEnNxX", _SINGLE), ("uU", "&'"))
    values = rf"{_FORMAT}|{_PARAMETER}|\$[0-9]+|{_NUMBER}|{string}|{escaped}|[bBxXnN]{string}|[uU]&{string}"
    return _pattern(
        rf"[{_PUNCTUATION}#@`\[]++|{words}|{_quoted(_DOUBLE)}|/(?!\*)|{_KEPT}",
        _list(values),
        rf"(?P<value>{values}|{_DOLLARS})",
        rf"(?P<comment>--[^\n\r\x00]*+|{_FLAT_COMMENT})",
        r"(?P<nested>/\*)",
        rf"(?P<fork>(?:[bBxXnN]|[uU]&)?(?:{_fork(_SINGLE)}))" if escapes == UNDECIDED else "",
        rf"(?P<open>(?:[eEbBxXnN]|[uU]&)?'|\"|{_TAG})",
        f"{_ODD_NAME})",
    )


def _mysql(escapes: Escapes) -> str:
    """Read as MySQL and MariaDB: strings in either quotes, names in backticks, ``#`` and ``-- ``."""
    string, words = _quoted(_SINGLE, escapes.single), _words(("bBnNxX", _SINGLE))
    values = f"{_FORMAT}|{_PARAMETER}|{_NUMBER}|{string}|[bBxXnN]{string}|{_quoted(_DOUBLE, escapes.double)}"
    minus = r"-(?!-(?:[\x00-\x20\x7f]|\Z))"
    return _pattern(
        rf"[{_PUNCTUATION}@\[]++|{words}|{_BACKTICKED}|/(?!\*)|{minus}|{_KEPT}",
        _list(values),
        f"(?P<value>{values})",
        _CODE,
        rf"(?P<comment>(?:--|#)[^\n\x00]*+|(?!/\*(?:{_SAYING})){_COMMENT})",
        f"(?P<fork>[bBxXnN]?(?:{_fork(_SINGLE)})|{_fork(_DOUBLE)})" if escapes == UNDECIDED else "",
        r"(?P<open>[bBxXnN]?'|[\"`])",
        rf"(?P<endless>/\*(?!{_SAYING}))",
        rf"{_ODD_NAME}|/\*|{_TAG})",
    )


def _sqlite(_escapes: Escapes) -> str:
    """Read as SQLite, to which what is in double quotes is a string unless there is such a column (its "quirks", 8)."""
    strings = f"{_quoted(_SINGLE)}|[xX]{_quoted(_SINGLE)}|{_quoted(_DOUBLE)}"
    values = rf"\?[0-9]+|[:@$](?:{_IN_WORDS}|::)++(?:\([^\s)]*+\)?)?|{_NUMBER}|{strings}"
    words = rf"[^{_NO_LETTER}{_NAMING_LETTERS}]{_IN_WORDS}*+|(?![xX]'|{_IN}|{_DISTINCT_FROM})(?:{_NAMING}|{_WORD})"
    return _pattern(
        rf"[{_PUNCTUATION}#%]++|{words}|{_BACKTICKED}|{_BEFORE_OR_AFTER_DOT}|\[[^\]]*+\]"
        rf"|/(?!\*)|:(?!{_IN_WORDS}|::)|-(?!-)|\.(?![0-9])|\?(?![0-9])",
        _list(values),
        rf"(?P<distinct>{_DISTINCT_FROM})",
        f"(?P<value>{values})",
        rf"(?P<comment>--[^\n\x00]*+|{_COMMENT})",
        r"(?P<open>[xX]?'|[\"`\[])",
        r"(?P<endless>/\*)",
        r"(?P<doubt>\x00)",
    )


def _unknown(escapes: Escapes) -> str:
    """Read so that no database has its values shown: what one of them may take for a string is hidden."""
    triples = r"(?>'''(?:\\.|[^\\])*?''')|(?>\"\"\"(?:\\.|[^\\])*?\"\"\")|" if escapes.has_triple else ""
    strings = f"{triples}{_quoted(_SINGLE, escapes.single)}|{_quoted(_DOUBLE, escapes.double)}"
    values = rf"{_FORMAT}|{_PARAMETER}|\$\w++(?!\$)|@\w+|{_NUMBER}|{strings}"
    oracle = r"[nN]?[qQ]'(?:\[.*?\]|\{.*?\}|<.*?>|\(.*?\)|(?P<mark>[^\s\[{<(]).*?(?P=mark))'"
    return _pattern(
        rf"[{_PUNCTUATION}]++|@(?!\w)|(?![nN]?[qQ]'|{_IN})[^\W\d][\w$]*+|{_BEFORE_OR_AFTER_DOT}"
        rf"|`[^`\\]*+`|\[(?={_PLAIN_LINE}\])|/(?![*/])|{_KEPT}",
        rf"(?P<fork>'''|\"\"\"|{_fork(_SINGLE)}|{_fork(_DOUBLE)})" if escapes == UNDECIDED else "",
        _list(values),
        f"(?P<value>{values}|{_DOLLARS}|{oracle})",
        _CODE,
        rf"(?P<comment>--(?=[ \t\n]|\Z)[^\n\r\x00]*+(?=\n|\r\n|\Z)|(?!/\*(?:{_SAYING})){_FLAT_COMMENT})",
        rf"(?P<line>(?:--|\#|//){_PLAIN_LINE}(?=\n|\r\n|\Z))",
        rf"(?P<open>[nN]?[qQ]'|['\"]|{_TAG})",
        rf"{_ODD_NAME}|/\*|`|\[|--|\#|//)",
    )


_SINGLE, _DOUBLE = "'", '"'
_IN = rf"(?i:in){_SPACE}\("


def _words(*prefixes: tuple[str, str]) -> str:
    """Match a word; not the prefix of a string, by its letters and what follows them, nor an ``IN`` with a list."""
    special = (*prefixes, ("iI", rf"[nN]{_SPACE}\("))
    others = "".join(letters for letters, _ in special)
    found = [rf"[{letters}](?!{after}){_IN_WORDS}*+" for letters, after in special]
    return "|".join((rf"[^{_NO_LETTER}{others}]{_IN_WORDS}*+", *found))


def _quoted(mark: str, escapes: bool | None = False) -> str:
    """Match what is in quotes; if *escapes* is None, only what ends at the same place with and without them."""
    after_backslash = {False: "", True: r"\\.|", None: rf"\\[^{mark}]|"}[escapes]
    inside = rf"[^{mark}]*+" if escapes is False else rf"[^{mark}\\]*+"
    return rf"{mark}{inside}(?:(?:{after_backslash}{mark}{mark}){inside})*+{mark}"


def _fork(mark: str) -> str:
    r"""Match the beginning of what has a quote in it that is or is not escaped."""
    return rf"{mark}(?=[^{mark}\\]*+(?:(?:\\[^{mark}]|{mark}{mark})[^{mark}\\]*+)*+\\{mark})"


def _list(values: str) -> str:
    """Match an ``IN`` with nothing but values, or rows of them."""
    cast = rf"(?:{_SPACE}::(?:[\w. ]++|{_quoted(_DOUBLE)})++(?:\([0-9, ]*+\))?(?:\[[0-9]*+\])*+)?"
    value = rf"[+-]?(?:{values}|\?){cast}"
    row = rf"(?:{value}|{_several(value)})"
    return rf"(?P<list>(?i:in){_SPACE}{_several(row, '(?i:values)?')})"


def _several(what: str, before: str = "") -> str:
    return rf"\({_SPACE}{before}{_SPACE}{what}(?:{_SPACE},{_SPACE}{what})*+{_SPACE}\)"


_BEFORE_OR_AFTER_DOT = rf"{_quoted(_DOUBLE)}(?={_SPACE}\.(?![0-9]))|\.{_SPACE}{_quoted(_DOUBLE)}"
_NAME = rf"(?:{_WORD}|{_quoted(_DOUBLE)}|{_BACKTICKED}|\[[^\]]*+\])"
_DISTINCT_FROM = rf"(?i:distinct)(?:\s|--[^\n]*+|{_COMMENT})*+(?i:from)(?!{_IN_WORDS})"
# Not VACUUM INTO, which has an expression after it.
_INTO = rf"(?i:abort|fail|ignore|insert|replace|rollback)\s++(?i:into)(?!{_IN_WORDS}){_SPACE}"
_NAMING = (
    rf"{_INTO}{_NAME}(?:{_SPACE}\.{_SPACE}{_NAME})?(?:{_SPACE}{_several(_NAME)})?"
    rf"|(?i:as|exists|from|join|references|set|table|update){_SPACE}{_quoted(_DOUBLE)}"
)
"""Where in SQLite a name stands and no expression, so that what is in double quotes is one."""
_NAMING_LETTERS = "aAdDeEfFiIjJrRsStTuUxX"
"""Those that begin something other than a word."""


def _pattern(kept: str, *tokens: str) -> str:
    found = "|".join(filter(None, tokens))
    return rf"(?P<kept>(?:{kept})*+)(?:{found}|(?P<other>.)|\Z)"


_OF_SERVERS = (Escapes(single=False), Escapes(single=True))
_OF_MYSQL = (*(Escapes(one, one) for one in (False, True)), Escapes(single=True, double=False))
_UNKNOWN = (_unknown, (*_OF_MYSQL, Escapes(single=True, double=True, has_triple=True)))
_DIALECTS = {
    "mariadb": (_mysql, _OF_MYSQL),
    "mysql": (_mysql, _OF_MYSQL),
    "postgresql": (_postgresql, _OF_SERVERS),
    "sqlite": (_sqlite, ()),
}
