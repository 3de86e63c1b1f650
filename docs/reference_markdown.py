"""Docstrings and tables as the Markdown of the reference pages."""

from __future__ import annotations

import re
import textwrap

SPECIAL = re.compile(r"[*<|\\]|(?<!\w)_|_(?!\w)|\](?=[(\[])")


def prose(text: str) -> str:
    """Return a docstring as Markdown: equations and aligned lists as they stand, text as text."""
    return "\n\n".join(_block(block) for block in _blocks(text))


def _blocks(text: str) -> list[str]:
    """Return the paragraphs; equations with empty lines between them are one."""
    found: list[str] = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        indented = all(line.startswith("    ") for line in block.splitlines())
        if indented and found and found[-1].startswith("    "):
            found[-1] += f"\n\n{block}"
        else:
            found.append(block)
    return found


def _block(block: str) -> str:
    lines = block.splitlines()
    aligned = sum(bool(re.search(r"\S {2,}\S", line)) for line in lines) >= 2
    if block.startswith("    ") or aligned or re.match(r"\w+(\[[^\]]*\])? = ", block):
        return f"```text\n{textwrap.dedent(block)}\n```"
    return escaped(" ".join(line.strip() for line in lines))


def escaped(text: str) -> str:
    """Return prose in which only what stands between backticks is markup."""
    pieces = text.split("`")
    pieces[::2] = [SPECIAL.sub(r"\\\g<0>", piece) for piece in pieces[::2]]
    return "`".join(pieces)


def code(text: str) -> str:
    """Return text as code."""
    return f"`{text}`"


def summary(text: str) -> str:
    """Return the first sentence of a docstring."""
    first = " ".join(_blocks(text)[0].split())
    return escaped(re.split(r"(?<=\.)\s", first)[0])


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table of Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
