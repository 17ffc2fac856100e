"""Words that messages share: the nearest name for an unknown one, the beginning of a long text."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """The nearest of the words as the end of a sentence, or nothing."""
    near = get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that is not there: the nearest that is, and all of them."""
    names = sorted(known)
    near = did_you_mean(name, names) or "."
    return f"unknown {what} {name!r}{near} Known: {', '.join(names) or 'none'}"


def shortened(text: str, most: int) -> str:
    """The text, or its beginning and three dots: at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 4]} ..."
