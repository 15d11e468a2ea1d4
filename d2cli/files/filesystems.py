"""File systems behind addresses, and what their errors mean.

``s3``, ``gs`` and ``abfs`` are pyarrow's own; any other scheme is fsspec's. Both come as one kind
of object, pyarrow's. Credentials come from the usual environment only.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import weakref
from datetime import timedelta
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from d2cli.errors import D2Error, InputError, ParameterError
from d2cli.files.addresses import redact, split_address

CONNECT_SECONDS = 10
REQUEST_SECONDS = 60
FIRST_SECONDS = 10  # for the first answer, so that what is dead is known soon
ATTEMPTS, FIRST_ATTEMPTS = 3, 2

S3, GS, ABFS = ("s3", "s3a"), ("gs", "gcs"), ("abfs", "abfss")
NATIVE = (*S3, *GS, *ABFS)
HTTP = ("http", "https")
INSTALL = "pip install 'd2cli[remote]'"


def filesystem_of(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it.

    Raises
    ------
    ParameterError
        If the scheme is not known, its package is not installed, or the address holds credentials
        or options.
    OSError
        If the place does not answer; `refusal` says it in our words.
    """
    scheme, place, path = split_address(address)
    if scheme not in NATIVE:
        found = _fsspec(scheme, place)
        if scheme in HTTP:
            _meet_http(address)
        return found, str(found.handler.fs._strip_protocol(address))
    if not place:
        raise ParameterError(f"{redact(address)}: names no bucket")
    if ":" in place or "?" in address or "#" in address or (scheme not in ABFS and "@" in place):
        raise ParameterError(
            f"{redact(address)}: an address holds neither credentials nor options",
            hint="set them in the environment, such as AWS_PROFILE or AWS_ENDPOINT_URL",
        )
    if "//" in f"/{path}".rstrip("/"):
        raise ParameterError(
            f"{redact(address)}: has an empty part between two slashes",
            hint="leave out one of them; such names can be neither read nor written",
        )
    if scheme in S3:
        return _s3(place, *_s3_environment()), f"{place}/{path}".rstrip("/")
    if scheme in GS:
        limit = timedelta(seconds=CONNECT_SECONDS * FIRST_ATTEMPTS)
        return pafs.GcsFileSystem(retry_time_limit=limit), f"{place}/{path}".rstrip("/")
    container, _, host = place.partition("@")
    account = host.partition(".")[0] or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    if not account:
        raise ParameterError(
            f"{redact(address)}: names no storage account",
            hint="write abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/..., or set "
            "AZURE_STORAGE_ACCOUNT_NAME",
        )
    _meet_azure(account, container)
    return azure(account), f"{container}/{path}".rstrip("/")


# --- S3 -------------------------------------------------------------------------------------------


def _s3_environment() -> tuple[str | None, str | None]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return endpoint or None, region or None


@lru_cache(maxsize=16)
def _s3(bucket: str, endpoint: str | None, region: str | None) -> pafs.S3FileSystem:
    """Return the file system of a bucket whose place has answered."""
    if endpoint is None:
        options: dict[str, Any] = {"region": pafs.resolve_s3_region(bucket)}
    else:
        scheme, separator, host = endpoint.partition("://")
        if not separator:
            scheme, host = "https", endpoint
        options = {
            "endpoint_override": host.rstrip("/"),
            "scheme": scheme,
            "region": region or "us-east-1",
        }
    first = pafs.S3FileSystem(
        connect_timeout=CONNECT_SECONDS,
        request_timeout=FIRST_SECONDS,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=FIRST_ATTEMPTS),
        **options,
    )
    try:
        first.get_file_info(bucket)
    except OSError as error:
        if reason_of(error) == CONNECT:
            raise
        # Whoever may not look at the bucket may still read or write in it.
    return pafs.S3FileSystem(
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        # Needed: written in the foreground, a stream whose upload failed is completed all the same
        # when it is collected, and leaves a part of the file in the place of the old one.
        background_writes=True,
        allow_delayed_open=True,
        **options,
    )


# --- Azure ----------------------------------------------------------------------------------------


def azure(account: str) -> pafs.AzureFileSystem:
    """Return the file system of a storage account, with what the environment holds for it."""
    key = os.environ.get("AZURE_STORAGE_ACCOUNT_KEY")
    token = None if key else os.environ.get("AZURE_STORAGE_SAS_TOKEN")
    return pafs.AzureFileSystem(account, account_key=key, sas_token=token)


@lru_cache(maxsize=16)
def _meet_azure(account: str, container: str) -> None:
    """Raise OSError unless an account answers.

    Without credentials or network the Azure library ends the process, so another one asks first.
    """
    code = "import sys; from d2cli.files.filesystems import azure; "
    code += "azure(sys.argv[1]).get_file_info(sys.argv[2])"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, account, container],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CONNECT_SECONDS + 2 * FIRST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"storage account {account} does not answer") from error
    if done.returncode < 0:
        if "Credential" in done.stderr:
            raise PermissionError(f"there are no credentials for storage account {account}")
        raise ConnectionError(f"storage account {account} cannot be reached")


# --- fsspec ---------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _fsspec(scheme: str, place: str) -> pafs.PyFileSystem:
    try:
        import fsspec

        kind = fsspec.get_filesystem_class(scheme)
        if scheme in HTTP:
            return pafs.PyFileSystem(_Handler(_http(scheme, REQUEST_SECONDS)))
        return pafs.PyFileSystem(
            _Handler(kind(**kind._get_kwargs_from_urls(f"{scheme}://{place}/")))
        )
    except ImportError as error:
        raise ParameterError(
            f"{scheme}: such addresses need a package that is not installed: {first_line(error)}",
            hint=INSTALL,
        ) from error
    except ValueError as error:
        raise ParameterError(
            f"{scheme}: is no kind of address that d2 knows",
            hint="known are s3, gs, abfs, https, hf and the other protocols of fsspec",
        ) from error


def _http(scheme: str, seconds: int) -> Any:  # noqa: ANN401
    import aiohttp
    import fsspec

    limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=seconds)
    return fsspec.filesystem(scheme, client_kwargs={"timeout": limits})


@lru_cache(maxsize=64)
def _meet_http(address: str) -> None:
    """Raise OSError unless a server answers, soon, what it is asked for."""
    try:
        _http(split_address(address)[0], FIRST_SECONDS).info(address)
    except Exception as error:
        if reason_of(error) == CONNECT:
            raise


class _Handler(pafs.FSSpecHandler):  # type: ignore[misc]
    """A file system of fsspec whose errors are ours: each package has others."""

    def open_input_file(self, path: str) -> pa.PythonFile:
        """Open a file for reading by ranges; a copy of it, where the server knows none."""
        file = self.fs.open(path, mode="rb")
        if path.partition("://")[0] in HTTP and not _takes_ranges(file):
            with self.fs.open(path, mode="rb", block_size=0) as stream:
                file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its reader
                shutil.copyfileobj(stream, file, 1 << 20)
            file.seek(0)
        reader = _Reader(file, path)
        weakref.finalize(reader, file.close)
        return pa.PythonFile(reader, mode="r")

    def move(self, source: str, target: str) -> None:
        """Move one file, over another if need be."""
        self.fs.mv(source, target)


def _takes_ranges(file: Any) -> bool:  # noqa: ANN401
    if file.size is None:
        return False
    if file.size > 1:
        try:
            file.seek(file.size - 1)
            file.read(1)
        except ValueError:  # it sends all of the file whatever is asked for
            return False
        file.seek(0)
    return True


class _Reader:
    """A file whose errors are ours; they may happen at any read."""

    def __init__(self, file: Any, path: str) -> None:  # noqa: ANN401
        self._file, self._path = file, path

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        """Read up to so many bytes."""
        try:
            return bytes(self._file.read(size))
        except Exception as error:
            raise refusal(self._path, error) from error


# --- errors ---------------------------------------------------------------------------------------

NOT_FOUND, FORBIDDEN, CONNECT, BUSY = "not found", "forbidden", "connect", "busy"
_SIGNS = {
    CONNECT: re.compile(
        "NETWORK_CONNECTION|curlCode|curl_easy|[Cc]ould ?n[o']t (connect|resolve)"
        "|Fail to get a new connection"
    ),
    BUSY: re.compile("HTTP status 5[0-9][0-9]|SLOW_DOWN|UNAVAILABLE|INTERNAL_FAILURE"),
    FORBIDDEN: re.compile(
        "ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|EXPIRED_TOKEN|UNAUTHENTICATED"
        "|INVALID_CLIENT_TOKEN|PERMISSION_DENIED|HTTP status 40[13]|Authoriz|Authentic|Forbidden"
    ),
    NOT_FOUND: re.compile("NO_SUCH|RESOURCE_NOT_FOUND|NOT_FOUND|HTTP status 404|does not exist"),
}
_LOST = re.compile("Connect|Timeout|Disconnected|NameResolution|gaierror")


def reason_of(error: BaseException) -> str | None:
    """Return why a file system refused: one of the words above; None if that is unclear."""
    found: BaseException | None = error
    missing = False
    while found is not None:
        status = getattr(found, "status", None)
        status = status or getattr(getattr(found, "response", None), "status_code", None)
        if isinstance(found, PermissionError) or status in (401, 403):
            return FORBIDDEN
        if isinstance(status, int) and status >= 500:
            return BUSY
        if _LOST.search(type(found).__name__):
            return CONNECT
        if isinstance(found, OSError) and not isinstance(found, FileNotFoundError):
            for reason, sign in _SIGNS.items():
                if sign.search(str(found)):
                    return reason
        missing = missing or isinstance(found, FileNotFoundError) or status == 404
        found = found.__cause__ or found.__context__
    return NOT_FOUND if missing else None


CREDENTIALS: dict[tuple[str, ...], str] = {
    S3: ", such as AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    GS: ", such as GOOGLE_APPLICATION_CREDENTIALS",
    ABFS: ", such as AZURE_STORAGE_ACCOUNT_KEY or AZURE_CLIENT_ID",
    ("hf",): ", such as HF_TOKEN",
}
ENDPOINTS: dict[tuple[str, ...], str] = {
    S3: ", and whether AWS_ENDPOINT_URL is right where it is set"
}


def _such_as(known: dict[tuple[str, ...], str], address: str) -> str:
    scheme = split_address(address)[0]
    return next((text for schemes, text in known.items() if scheme in schemes), "")


def refusal(address: str, error: BaseException, kind: type[D2Error] = InputError) -> D2Error:
    """Return an error in our words: the address without credentials, and what is wrong with it."""
    if isinstance(error, D2Error):
        return error
    shown, reason = redact(address), reason_of(error)
    verb = "read" if kind is InputError else "written"
    if reason == NOT_FOUND:
        return kind(f"{shown}: no such file or bucket", hint="a folder's address ends in /")
    if reason == FORBIDDEN:
        return kind(
            f"{shown}: cannot be {verb}: no permission",
            hint="credentials come from the usual environment" + _such_as(CREDENTIALS, address),
        )
    if reason == CONNECT:
        return kind(
            f"{shown}: cannot be {verb}: cannot connect to its server",
            hint="see whether it can be reached from here" + _such_as(ENDPOINTS, address),
        )
    if reason == BUSY:
        return kind(
            f"{shown}: cannot be {verb}: its server has failed", hint="try again in a while"
        )
    return kind(
        f"{shown}: cannot be {verb}: {first_line(error)}",
        hint="the address is wrong, or its server does not take such requests",
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without credentials."""
    return redact((str(error).splitlines() or [type(error).__name__])[0])
