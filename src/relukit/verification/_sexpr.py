"""Parenthesized text as nested lists that know where they stand."""

import re
from collections.abc import Iterator
from typing import Any

from relukit._errors import UnreadableFile

_TOKENS = re.compile(r'[()]|"[^"\n]*"|[^\s()]+')
_COMMENT = re.compile(r'"[^"\n]*"|;[^\n]*')


class Node(list):
    """A list, and the offset of its opening parenthesis."""

    at = 0


def without_comments(text: str) -> str:
    """The text without what follows a semicolon outside strings; lines are kept."""
    return _COMMENT.sub(lambda found: "" if found[0][0] == ";" else found[0], text) if ";" in text else text


def parse_text(text: str, source: str) -> Iterator[Any]:
    """The expressions of a text.

    Raises:
        UnreadableFile: Parentheses do not match, with the line.
    """
    stack: list[Node] = [Node()]
    line = lambda at: text.count("\n", 0, at) + 1
    for found in _TOKENS.finditer(text):
        token = found[0]
        if token == "(":
            node = Node()
            node.at = found.start()
            stack.append(node)
        elif token == ")":
            if len(stack) == 1:
                raise UnreadableFile(f"{source}: line {line(found.start())}: a closing parenthesis too many")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    if len(stack) > 1:
        raise UnreadableFile(
            f"{source}: {len(stack) - 1} parentheses are not closed, the first one opened in line {line(stack[1].at)} (truncated file?)"
        )
    yield from stack[0]


def show(tree: Any) -> str:
    """A short form for messages."""
    depth, parts, stack = 0, [], [tree]
    while stack and depth < 60:  # without recursion: hostile files nest deeply
        item = stack.pop()
        depth += 1
        if isinstance(item, list):
            parts.append("(")
            stack.append(")")
            stack.extend(reversed(item))
        else:
            parts.append(str(item))
    text = re.sub(r"\s+\)", ")", " ".join(parts)).replace("( ", "(")
    return text if len(text) < 80 else text[:77] + "..."
