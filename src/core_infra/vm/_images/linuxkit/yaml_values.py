"""Writes values into a YAML document so that no value becomes structure.

A value may stand in a plain scalar, a quoted one, a block of lines, or a comment. Inserted without
quotes, a value with a line break or a colon would become structure. So a scalar that a value would
break is quoted. In the end the document's events are compared with the template's: only the values
may differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from core_infra._yaml.scanner import Scanner
from core_infra.errors import InvalidError

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping, Sequence

_COLLECTIONS = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_DEEPEST = 100
"""Levels of a YAML document; deeper text is treated as plain text."""
_NOT_YAML = (yaml.YAMLError, ValueError)  # such as an escape of an invalid character
_FLOW_START = (yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken)
_FLOW_END = (yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


class _Loader(Scanner):
    """Scans as the reader of LinuxKit files does."""

    has_block_comments = True


@dataclass(frozen=True)
class MarkedText:
    """A text with placeholders for values.

    Attributes:
        text: the text; each placeholder is a plain scalar anywhere in YAML.
        values: the value of each placeholder.
        word: matches the placeholders.
    """

    text: str
    values: Mapping[str, str]
    word: re.Pattern[str]

    def sub(self, text: str, write: Callable[[str], str]) -> str:
        """A part of the text, with each value as *write* returns it."""
        return self.word.sub(lambda match: write(self.values[match[0]]), text)

    def unquoted(self, text: str) -> str:
        """A part of the text, with the values unchanged."""
        return self.sub(text, str)

    def quoted(self, text: str) -> str:
        """One scalar in double quotes."""
        return _quoted(self.unquoted(text))


def substitute(marked: MarkedText) -> str:
    """The text with its values; if it is not a YAML mapping or sequence, they are not quoted.

    Raises:
        InvalidError: a value stands where not every text is allowed, as in a tag.
    """
    try:
        tokens = _tokens(marked.text)
        events = list(yaml.parse(marked.text, _Loader))
    except _NOT_YAML:
        return marked.unquoted(marked.text)
    if not any(isinstance(token, _COLLECTIONS) for token in tokens):
        return marked.unquoted(marked.text)  # a single scalar has no structure
    pieces, at, depth = [], 0, 0
    for token in tokens:
        depth += isinstance(token, _FLOW_START) - isinstance(token, _FLOW_END)
        start, end = token.start_mark.index, token.end_mark.index
        source = marked.text[start:end]
        if isinstance(token, yaml.ScalarToken) and marked.word.search(source):
            pieces += [_between(marked, marked.text[at:start])]
            pieces += [_scalar(marked, token, source, in_flow=depth > 0)]
            at = end
    pieces.append(_between(marked, marked.text[at:]))
    filled = "".join(pieces)
    if not _same_structure(marked, events, filled):
        raise InvalidError(
            "a value cannot stand at its place in the YAML",
            why="it would become structure: a tag, an anchor or a key cannot be any text",
        )
    return filled


def _tokens(text: str) -> list[yaml.Token]:
    found, depth = [], 0
    for token in yaml.scan(text, _Loader):
        depth += isinstance(token, _FLOW_START) - isinstance(token, _FLOW_END)
        if depth > _DEEPEST:  # PyYAML looks at all levels for each token
            raise yaml.YAMLError
        found.append(token)
    return found


def _between(marked: MarkedText, text: str) -> str:
    """Text that is not a scalar: above all comments, which a line break would end."""
    return marked.sub(text, lambda value: "".join(c if c.isprintable() else " " for c in value))


def _scalar(marked: MarkedText, token: yaml.ScalarToken, source: str, *, in_flow: bool) -> str:
    if token.plain:
        written = marked.unquoted(source)
        fits = _is_plain(written, marked.unquoted(token.value), in_flow=in_flow)
        return written if fits else marked.quoted(token.value)
    if token.style == '"':
        return marked.sub(source, lambda value: _quoted(value)[1:-1])
    values = [marked.values[word] for word in marked.word.findall(source)]
    if any(_breaks(value, token.style) for value in values):
        whole = marked.quoted(token.value)
        # A block of lines includes its last line break.
        return f"{whole}\n" if token.style in "|>" and source.endswith("\n") else whole
    if token.style == "'":
        return marked.sub(source, lambda value: value.replace("'", "''"))
    # With the block's indentation, the further lines of a value are lines of the block.
    indent = _block_indent(source)
    return marked.sub(source, lambda value: value.replace("\n", f"\n{indent}"))


def _block_indent(source: str) -> str:
    first = next(line for line in source.splitlines()[1:] if line.strip())
    return first[: len(first) - len(first.lstrip(" "))]


def _breaks(value: str, style: str) -> bool:
    """Whether a scalar of this style would not preserve the value's characters or lines."""
    if "\ufeff" in value or not value.replace("\n", "").isprintable():
        return True
    lines = value.split("\n")
    if style == "|":
        return any(not line or line[0] == " " for line in lines)
    return len(lines) > 1 or (style == ">" and value[:1] in ("", " "))


def _is_plain(source: str, value: str, *, in_flow: bool) -> bool:
    """Whether YAML reads the text as one plain scalar with this value."""
    document = f"[\n{source}\n]" if in_flow else f"k: {source}\n"
    try:
        tokens = list(yaml.scan(document))
    except _NOT_YAML:
        return False
    # Start, bracket, the scalar, bracket, end; or start, mapping, key, k, value, the scalar, ….
    where, count = (2, 5) if in_flow else (5, 8)
    scalar = tokens[where] if len(tokens) == count else None
    return isinstance(scalar, yaml.ScalarToken) and scalar.plain and scalar.value == value


def _quoted(value: str) -> str:
    # PyYAML's own way of escaping; without a width it would fold long lines.
    text: str = yaml.dump(value, default_style='"', width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n")


def _same_structure(marked: MarkedText, before: Sequence[yaml.Event], filled: str) -> bool:
    try:
        after = list(yaml.parse(filled, _Loader))
    except _NOT_YAML:
        return False
    return [_shape(event, marked) for event in before] == [_shape(event, None) for event in after]


def _shape(event: yaml.Event, marked: MarkedText | None) -> tuple[object, ...]:
    """An event without its position and its quotes."""
    found: list[object] = [type(event)]
    for name in ("value", "tag", "anchor"):
        text = getattr(event, name, None)
        found.append(marked.unquoted(text) if marked and isinstance(text, str) else text)
    return tuple(found)
