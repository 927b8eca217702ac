"""A tokenizer that counts like a byte-level one with a large vocabulary, for a provider without a download.

It splits a text as those do: a word with the space before it, up to three digits, marks, line breaks. A common word is
one token; which words are common is decided by a hash, so that the shorter a word is, the more often it is. Other words
take a token for every three or four letters.
"""

import json
import random
import re
from collections.abc import Callable
from functools import cache
from typing import Any
from zlib import crc32

_PIECE = re.compile(r" ?[^\W\d_]+|\d{1,3}| ?[^\s\w]+[\r\n]*|\s*[\r\n]+|\s+|_+")


def count(text: str) -> int:
    """Return how many tokens a text has."""
    return sum(map(_of_piece, _PIECE.findall(text)))


@cache
def _of_piece(piece: str) -> int:
    word = piece.strip()
    hashed = crc32(word.encode())
    if len(word) <= 3 or hashed % 100 > 7 * len(word) - 30:
        return 1
    return -(-len(word) // (3 + hashed % 2))


def provider(seed: int, *, thinks: float) -> Callable[[dict[str, Any], str], tuple[int, int]]:
    """Return what a provider bills for a request: the messages, the schema, and an answer with reasoning.

    The tokens of the reasoning vary as a log-normal variable with the median `thinks`.
    """
    dice = random.Random(seed)  # noqa: S311

    def bill(request: dict[str, Any], says: str) -> tuple[int, int]:
        messages = request.get("input") or request["messages"]
        schema = json.dumps(request.get("text") or request["response_format"])
        given = sum(count(each["content"]) + 4 for each in messages) + count(schema)
        return given, min(1_000, count(says) + round(dice.lognormvariate(0, 0.5) * thinks))

    return bill
