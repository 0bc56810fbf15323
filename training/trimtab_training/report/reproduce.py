"""What a reader types to get the same again."""

import json
import shlex
from collections.abc import Mapping


def check_command(command: str) -> str | None:
    """Write the command that measures a model again.

    Args:
        command: The ``trimtab fit`` that made it, as a shell would take it.

    Returns:
        A ``trimtab evaluate``, or None where the model came about in another way.
    """
    words = shlex.split(command)
    if words[:2] != ["trimtab", "fit"] or not {"--embeddings", "-o"} <= set(words):
        return None
    vectors, model = (words[words.index(flag) + 1] for flag in ("--embeddings", "-o"))
    return shlex.join(
        ["trimtab", "evaluate", model, words[2], "--embeddings", vectors, "--split", "test"]
    )


def one_option_a_line(command: str) -> str:
    """Break a command before each of its options, as a shell still takes it."""
    lines: list[list[str]] = [[]]
    for word in shlex.split(command):
        if word.startswith("-"):
            lines.append([])
        lines[-1].append(word)
    return " \\\n  ".join(shlex.join(line) for line in lines)


def as_toml(knobs: Mapping[str, object]) -> str:
    """Write a recipe as the TOML file that gives it again.

    Args:
        knobs: ``Recipe.as_dict``: numbers, texts, truth values, lists and tables of them.
    """
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in knobs.items())


def _toml_value(value: object) -> str:
    """Write one value; JSON's texts, numbers and truth values are TOML's, too."""
    if isinstance(value, dict):
        inside = ", ".join(f"{json.dumps(key)} = {_toml_value(one)}" for key, one in value.items())
        return f"{{{inside}}}"
    if isinstance(value, list):
        return f"[{', '.join(_toml_value(one) for one in value)}]"
    return json.dumps(value)
