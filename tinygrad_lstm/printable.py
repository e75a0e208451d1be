"""Makes strings from files and models safe to print: they cannot control the terminal."""

import re

__all__ = ["printable"]

# C0 and C1 controls with DEL, line and paragraph separators, embeddings, overrides and isolates of the text direction,
# and unpaired surrogates. Direction marks, which Hebrew and Arabic text contains, are kept.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, keep: str = "") -> str:
    r"""The string with an escape sequence for every character that could control a terminal or reorder its text.

    Args:
        text: any string.
        keep: control characters that are not escaped, such as "\n\t" for text of several lines.

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
