"""Variables in texts: which there are, and that a value stays a value."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from core_infra.errors import InvalidError
from core_infra.vm._images.linuxkit.document import read_linuxkit
from core_infra.vm._images.linuxkit.variables import (
    MissingVariablesError,
    apply_variables,
    extract_variables,
)

YAML = """\
# about ${V}
plain: ${V}
within: a ${V} b
double: "a ${V} b"
single: 'a ${V} b'
flow: [${V}, {key: ${V}}]
lines: |
  first ${V}
    ${V} further in
  end
folded: >-
  first ${V}
  end
several: first
  ${V} end
default: "${W:-${V}}"
list:
  - ${V}
  - - ${V} # ${V}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no variables", "no variables"),
        ("hello ${A}", "hello a"),
        ("${A}${A}${B:-b}", "aab"),
        ("${B:-}", ""),
        ("${B:-${A}}!", "a!"),
        ("${B:-${C:-x}y${A}}", "xya"),
        ("${A:-other}", "a"),
        ("${E:-other}", ""),
        ("${B:-a:-b}", "a:-b"),
        ("${B:-{x}", "{x"),
        ("$A ${} ${1} ${A ${A-x} $${A}", "$A ${} ${1} ${A ${A-x} $a"),
        ("${A:-x", "${A:-x"),
        ("${B:-${A}", "${B:-a"),
        ("${X}", "${A}"),
    ],
)
def test_texts(text: str, expected: str) -> None:
    values = {"A": "a", "X": "${A}", "E": "", "not there": "x"}
    assert apply_variables(text, values) == expected


def test_everything_missing_is_reported_at_once() -> None:
    with pytest.raises(MissingVariablesError, match="missing: B, A, D") as error:
        apply_variables("${B} ${A} ${B} ${C:-${D}} ${E:-e}", {})
    assert error.value.names == ["B", "A", "D"]
    with pytest.raises(MissingVariablesError, match="a variable is missing: A"):
        apply_variables("${A} ${C:-${D}}", {"C": "c"})


def test_what_a_text_needs() -> None:
    found = extract_variables("${B} ${A:-x} ${B} ${C:-${D:-d}${E}} ${F:-f} ${F} ${G:-1} ${G:-2}")
    assert found.required == ["B", "E", "F"]
    assert found.optional == {"A": "x", "C": "${D:-d}${E}", "D": "d", "G": "1"}


def test_simple_values_are_written_as_they_are() -> None:
    key = "ssh-ed25519 AAAAC3Nza+/= user@host"
    filled = apply_variables(YAML, {"V": key})
    assert filled == YAML.replace("${W:-${V}}", key).replace("${V}", key)
    assert yaml.safe_load(apply_variables("port: ${PORT:-80}", {})) == {"port": 80}


def test_a_value_brings_no_key_and_no_document() -> None:
    for value in ("x\nevil: true", "x: y", "- x", "{a: b}", "x\n---\nevil: true", "*a", "'", '"'):
        assert yaml.safe_load(apply_variables("a: ${V}\nb: 1\n", {"V": value})) == {
            "a": value,
            "b": 1,
        }


@pytest.mark.parametrize("text", ["a: !${V} x", "a: &${V} x", "&x a: *${V}"])
def test_where_yaml_cannot_have_any_text(text: str) -> None:
    with pytest.raises(InvalidError, match="cannot stand at its place"):
        apply_variables(text, {"V": "x: y\nz"})


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("a: b\n c\n")
@example("\n")
@example(" x")
@example("\u2028\x85\ufeff")
@example("${V}")
@example("'\"\\")
@example("\t")
@example("#")
def test_any_value_stays_a_value(value: str) -> None:
    found = yaml.load(apply_variables(YAML, {"V": value}), yaml.BaseLoader)  # noqa: S506 - no types
    plain = YAML.replace("${W:-${V}}", "WORD").replace("${V}", "WORD")
    assert found == expected(yaml.load(plain, yaml.BaseLoader), value)  # noqa: S506


def expected(node: Any, value: str) -> Any:
    if isinstance(node, dict):
        return {key: expected(inner, value) for key, inner in node.items()}
    if isinstance(node, list):
        return [expected(inner, value) for inner in node]
    return node.replace("WORD", value)


def test_a_value_stays_a_value_beside_tabs_and_lines_that_are_commented_out() -> None:
    text = "kernel:\t# c\n  image: a\n  cmdline: ${V}\n"
    text += "files:\n- path: a\n  contents: |\n# c\n    ${V}\n"
    found = read_linuxkit([("f", apply_variables(text, {"V": "x: y"}).encode())])
    assert (found.kernel["cmdline"], found.files[0]["contents"]) == ("x: y", "x: y\n")


@given(st.text("${}AB:-x\n "))
def test_any_text_is_taken(text: str) -> None:
    found = extract_variables(text)
    assert not set(found.required) & set(found.optional)
    values = dict.fromkeys([*found.required, *found.optional], "v")
    apply_variables(text, values)


def test_endless_defaults_are_refused() -> None:
    with pytest.raises(InvalidError, match="100 levels deep"):
        extract_variables("${A:-" * 10_000)
