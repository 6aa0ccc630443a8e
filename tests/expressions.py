"""The expressions of workflows, as far as ours use them; what is not known here is an error."""

from __future__ import annotations

import re
from typing import Any

EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}")
_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<name>[A-Za-z_][\w.-]*)|(?P<sign>&&|\|\||==|!=|[!(),]))"
)


class Open(dict[str, Any]):
    """A context in which what is missing is empty, as GitHub has it for outputs and variables."""

    def __missing__(self, key: str) -> str:
        return ""


def evaluate(text: str, contexts: dict[str, Any], failed: bool = False) -> Any:
    """The value of an expression; KeyError or ValueError for what is not known here."""
    tokens: list[tuple[str, str]] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"cannot read {text[position:]!r} of {text!r}")
        tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
        position = match.end()
    functions = {
        "always": lambda: True,
        "cancelled": lambda: False,
        "success": lambda: not failed,
        "failure": lambda: failed,
        "format": lambda form, *values: form.format(*values),
    }

    def take(*signs: str) -> bool:
        if tokens and tokens[0][0] == "sign" and tokens[0][1] in signs:
            tokens.pop(0)
            return True
        return False

    def either() -> Any:
        value = both()
        while take("||"):
            other = both()
            value = value or other
        return value

    def both() -> Any:
        value = compared()
        while take("&&"):
            other = compared()
            value = value and other
        return value

    def compared() -> Any:
        value = single()
        if take("=="):
            return value == single()
        return value != single() if take("!=") else value

    def single() -> Any:
        if take("!"):
            return not single()
        if take("("):
            value = either()
            if not take(")"):
                raise ValueError(f"a bracket stays open in {text!r}")
            return value
        kind, word = tokens.pop(0)
        if kind == "text":
            return word[1:-1].replace("''", "'")
        if kind != "name":
            raise ValueError(f"{word!r} where a value belongs in {text!r}")
        return called(functions[word]) if take("(") else looked_up(word)

    def called(function: Any) -> Any:
        values = []
        while not take(")"):
            values.append(either())
            take(",")
        return function(*values)

    def looked_up(name: str) -> Any:
        value: Any = contexts
        for part in name.split("."):
            value = value[part]
        return value

    value = either()
    if tokens:
        raise ValueError(f"{tokens} left over in {text!r}")
    return value


def holds(condition: str, contexts: dict[str, Any], failed: bool) -> bool:
    """Whether a step or job with this ``if`` runs; without a status function it also needs that
    nothing before it failed."""
    text = condition.strip().removeprefix("${{").removesuffix("}}")
    named = re.search(r"\b(always|cancelled|failure|success)\(", text)
    return bool(evaluate(text, contexts, failed)) and (named is not None or not failed)


def fill(text: str, contexts: dict[str, Any]) -> str:
    """The text with each ``${{ expression }}`` replaced by its value."""
    return EXPRESSION.sub(lambda match: str(evaluate(match[1], contexts)), text)
