"""Addresses of remote files: ``scheme://place/path``, and how they may be shown."""

import posixpath
import re

# One letter is a drive, not a scheme.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# Up to the last @, since passwords are not always quoted as they should be; a port is none.
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://)[^/\s@]*:(?!\d+/)\S*@")
_TOKEN = re.compile(r"((?<![A-Za-z0-9+.-])(?!abfss?://)[A-Za-z][A-Za-z0-9+.-]+://)[^/?#\s@]+@")
_QUERY = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]+://[^\s?#'\"<>]*)[?#][^\s'\"<>]*?(?=::|:?[\s'\"<>]|:?$)"
)


def is_remote(text: str) -> bool:
    """Return whether a text is an address and no path, by its looks: nothing is asked."""
    return _SCHEME.match(text) is not None


def names_column(text: str) -> bool:
    """Return whether an address goes on with ``::COLUMN``."""
    return "::" in text[text.find("/", text.find("://") + 3) :]


def redact(text: str) -> str:
    """Return a text whose addresses have lost user, password and query."""
    for secret in (_USER, _TOKEN, _QUERY):
        text = secret.sub(r"\1", text)
    return text


def split_address(address: str) -> tuple[str, str, str]:
    """Return scheme (lower case), place (host or bucket, with a user if there is one) and path."""
    scheme, _, rest = address.partition("://")
    place, _, path = rest.partition("/")
    return scheme.lower(), place, path


def relative_address(address: str, other: str) -> str | None:
    """Return how a file beside ``other`` leads to ``address``; None if their places differ."""
    (scheme, place, path), (*home, path_there) = split_address(address), split_address(other)
    if [scheme, place] != home:
        return None
    return posixpath.relpath("/" + path, posixpath.dirname("/" + path_there))


def follow_address(other: str, relative: str) -> str:
    """Return the address to which a relative path beside ``other`` leads, in the same place."""
    scheme, place, path = split_address(other)
    joined = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), relative))
    return f"{scheme}://{place}{'/' + joined.lstrip('/')}"
