"""Strings from files and models, made safe to print: they cannot control the terminal that shows them."""

import re

__all__ = ["printable"]

# C0 and C1 controls with DEL, the separators of lines and paragraphs, what embeds, overrides or isolates the direction
# of writing, and halves of surrogate pairs. Marks of direction, which texts in Hebrew and Arabic have, stay.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, keep: str = "") -> str:
    r"""A string with every character that could control a terminal, or reorder what it shows, as an escape sequence.

    Args:
        text: any string.
        keep: control characters that stay as they are, such as "\n\t" for text of several lines.

    >>> print(printable("a\x1b[31m\u202eb\n"))
    a\x1b[31m\u202eb\x0a
    >>> printable("one\n\ttwo", keep="\n\t")
    'one\n\ttwo'
    """

    def escaped(match: re.Match[str]) -> str:
        character = match[0]
        if character in keep:
            return character
        return f"\\x{ord(character):02x}" if character <= "\xff" else f"\\u{ord(character):04x}"

    return UNSAFE.sub(escaped, text)
