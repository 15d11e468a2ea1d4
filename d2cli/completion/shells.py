"""How shells ask for completions, and how they want to be answered.

A line is split as the shells do, up to the cursor. Bash replaces what follows the last break of
``COMP_WORDBREAKS`` or the open quotation mark, and inserts it as it comes; zsh runs what it is
given; fish quotes by itself. What a terminal would obey is never answered.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BASH_SCRIPT = r"""
_d2_completion() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <(
        COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \
            _D2_COMPLETE=complete_bash "$1" 2> /dev/null
    )
}

complete -o default -F _d2_completion d2 d2cli
""".strip()

# Where zsh has made the file a function, it completes at once; elsewhere it is sourced.
ZSH_SCRIPT = r"""
#compdef d2 d2cli

_d2_completion() {
    eval "$(_TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _D2_COMPLETE=complete_zsh d2 2> /dev/null)"
}

if [[ $funcstack[1] == _d2 ]]; then
    _d2_completion "$@"
else
    compdef _d2_completion d2 d2cli
fi
""".strip()

SCRIPTS = {"bash": BASH_SCRIPT, "zsh": ZSH_SCRIPT}  # the other shells have typer's

BREAKS_OF_WORDS = " \t\n"
SPECIAL = frozenset(" \t\"'\\$`!*?[]{}()<>|&;#~")  # what bash would not take literally
SPECIAL_IN_QUOTES = frozenset('"\\$`')


@dataclass(frozen=True)
class UnfinishedLine:
    """A line up to the cursor."""

    words: tuple[str, ...]  # complete ones, without quotation marks; the command first
    incomplete: str  # the last one so far
    kept: int  # characters of ``incomplete`` that bash leaves as they are
    quote: str  # the open quotation mark, or ""

    @property
    def option_prefix(self) -> str:
        """The part of ``--option=value`` that a completion of the value lacks."""
        name, separator, _ = self.incomplete.partition("=")
        return name + separator if separator and name.startswith("--") else ""


def read_line(text: str, breaks: str = "") -> UnfinishedLine:
    """Split a line up to the cursor into words.

    Parameters
    ----------
    text : str
        The line.
    breaks : str
        Unquoted characters after which bash completes anew, its ``COMP_WORDBREAKS``.
    """
    words: list[str] = []
    word, kept, opened, quote, begun = "", 0, 0, "", False
    characters = iter(text)
    for character in characters:
        if character == "\\" and quote != "'":
            escaped = next(characters, "")
            keeps = quote and escaped and escaped not in SPECIAL_IN_QUOTES
            word, begun = word + ("\\" if keeps else "") + escaped, True
        elif character == quote:
            quote = ""
        elif quote:
            word += character
        elif character in "\"'":
            quote, begun, opened = character, True, len(word)
        elif character in BREAKS_OF_WORDS:
            words += [word] if begun else []
            word, kept, begun = "", 0, False
        else:
            word, begun = word + character, True
            kept = len(word) if character in breaks else kept
    return UnfinishedLine(tuple(words), word, opened if quote else kept, quote)


def answer_bash(line: UnfinishedLine, values: Sequence[str]) -> str:
    """Return the lines that bash inserts, each in place of what it completes."""
    return "".join(f"{_quote(value[line.kept :], line)}\n" for value in values)


def _quote(text: str, line: UnfinishedLine) -> str:
    if line.quote == "'":
        return text.replace("'", "'\\''")
    if line.quote:
        return "".join(f"\\{c}" if c in SPECIAL_IN_QUOTES else c for c in text)
    home = "~" if line.incomplete[:1] == "~" and not line.kept else ""  # for bash to read
    return home + "".join(f"\\{c}" if c in SPECIAL else c for c in text[len(home) :])


def answer_zsh(line: UnfinishedLine, items: Sequence[tuple[str, str]]) -> str:
    """Return the code that zsh runs: values with their descriptions, or files.

    Every character that is no letter or digit is written by its number, so no name is run.
    """
    if not items:
        return "_files\n"
    before, separator, _ = line.incomplete.rpartition("::")
    if not separator:
        before, separator = line.option_prefix, ""
    start = before + separator
    strip = "compset -P 1 '*::'; " if separator else "compset -P 1 '*='; " if start else ""
    values = [value.removeprefix(start) for value, _ in items]
    if not any(help_ for _, help_ in items):
        return f"{strip}compadd -- {' '.join(map(_zsh_word, values))}\n"
    described = " ".join(
        _zsh_word(value.replace("\\", "\\\\").replace(":", "\\:") + (f":{help_}" if help_ else ""))
        for value, (_, help_) in zip(values, items, strict=True)
    )
    return f"{strip}local -a d2_found; d2_found=({described}); _describe d2 d2_found\n"


def _zsh_word(text: str) -> str:
    written = (
        c
        if c.isascii() and c.isalnum()
        else f"\\x{ord(c):02x}"
        if c.isascii()
        else f"\\U{ord(c):08x}"
        for c in text
    )
    return f"$'{''.join(written)}'"


def answer_fish(items: Sequence[tuple[str, str]]) -> str:
    """Return a line an item: the value and, after a tab, its description."""
    return "".join(f"{value}\t{help_}\n" if help_ else f"{value}\n" for value, help_ in items)


def line_of(shell: str, environment: Mapping[str, str]) -> UnfinishedLine:
    """Return the line that the script of a shell hands over."""
    if shell == "bash":
        text = environment.get("COMP_LINE") or environment.get("COMP_WORDS") or ""
        return read_line(text, environment.get("COMP_WORDBREAKS") or "")
    return read_line(environment.get("_TYPER_COMPLETE_ARGS") or "")


def joined(line: UnfinishedLine) -> str:
    """Return a line that splits into the same words, as typer's own scripts would send it."""
    last = shlex.quote(line.incomplete) if line.incomplete else ""
    return f"{shlex.join(line.words)} {last}"
