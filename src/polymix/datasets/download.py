"""One file over HTTP, on shaky lines: cut connections are taken up where they broke.

What has arrived lies in `NAME.part`, and beside it, in `NAME.etag.part`, by what the server will
know the same file again. Without that a download starts anew: bytes of two versions are never
joined.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

from polymix.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from requests import Response, Session

ATTEMPTS = 6
ENOUGH = 1 << 20
CHUNK = 1 << 18
TIMEOUT = (10, 60)
LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

Report = Callable[[int, int], None]
Sleep = Callable[[float], None]


class UnwritableError(DataError):
    """The disk is full or cannot be written: another server will not help."""


class _TryAgainError(Exception):
    """The connection was cut, or the server is busy."""


def requests_library() -> ModuleType:
    """The optional library `requests`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import requests
    except ImportError as error:
        raise MissingExtraError(
            f'fetching needs requests ({error}): pip install "polymix[fetch]"'
        ) from None
    return requests


def note_of(part: Path) -> Path:
    """Where it is noted what `part` is a part of."""
    return part.with_name(part.name.removesuffix(".part") + ".etag.part")


def discard(part: Path) -> None:
    """Remove what has arrived."""
    part.unlink(missing_ok=True)
    note_of(part).unlink(missing_ok=True)


def download(url: str, part: Path, report: Report, sleep: Sleep = time.sleep) -> None:
    """Bring `part` to the whole of what `url` serves.

    Args:
        url: where from.
        part: where to, possibly begun before.
        report: called as `report(done, total)`, in bytes.
        sleep: waits between attempts, ever longer.

    Raises:
        DataError: the server refuses, or the connection breaks again and again.
        UnwritableError: the disk is full or cannot be written; what has arrived is kept.
    """
    requests, failures = requests_library(), 0
    with requests.Session() as session:
        # As the bytes lie there: a .gz must not be unpacked on the way.
        session.headers.update({"Accept-Encoding": "identity", "User-Agent": "polymix"})
        while True:
            before = _size(part)
            try:
                return _go_on(session, url, part, report)
            except (
                _TryAgainError,
                requests.exceptions.ConnectionError,
                requests.exceptions.Timeout,
                requests.exceptions.ChunkedEncodingError,
            ) as error:
                failures = 1 if _size(part) - before >= ENOUGH else failures + 1
                if failures == ATTEMPTS:
                    raise DataError(f"{url}: {error}; gave up after {ATTEMPTS} attempts") from None
                sleep(min(2.0 ** (failures - 1), 30.0))
            except requests.exceptions.RequestException as error:
                raise DataError(f"{url}: {error}") from None


def _go_on(session: Session, url: str, part: Path, report: Report) -> None:
    known = _known(part, url)
    have = _size(part) if known else 0
    asked = {"Range": f"bytes={have}-", "If-Range": known} if have else {}
    with session.get(url, headers=asked, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416 and response.headers.get("Content-Range") == (
            f"bytes */{have}"
        ):
            return
        start, total = _place(response, have, known, part)
        if not start:
            _begin(part, url, _validator(response))
        done = start
        report(done, total or done)
        with _writing(part):
            file = part.open("ab", buffering=0)
        with file:
            for chunk in _chunks(response):
                with _writing(part):
                    write_all(file, chunk)
                done += len(chunk)
                report(done, max(total or 0, done))
    if total is not None and done != total:
        raise _TryAgainError(f"{done} of {total} bytes arrived")


def _place(response: Response, have: int, known: str, part: Path) -> tuple[int, int | None]:
    """Where the answer's first byte belongs, and how many bytes the file has, where it says so."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None
    if response.status_code == 206:
        match = RANGE.fullmatch(response.headers.get("Content-Range", ""))
        same = _validator(response) in ("", known)
        if match and same and have and int(match[1]) == have:
            return have, None if match[2] == "*" else int(match[2])
    if response.status_code in (206, 416):
        discard(part)
        raise _TryAgainError("the server's file is not the one that was begun")
    said = f"answered {response.status_code} {response.reason}"
    if response.status_code in LATER:
        raise _TryAgainError(said)
    raise DataError(f"{response.url} {said}")


def _chunks(response: Response) -> Iterator[bytes]:
    from urllib3.exceptions import HTTPError

    try:
        yield from response.raw.stream(CHUNK, decode_content=False)
    except (HTTPError, OSError) as error:
        reason = error.args[0] if error.args else type(error).__name__
        raise _TryAgainError(f"the connection was cut ({reason})") from None


def _validator(response: Response) -> str:
    """By what the file is known again (RFC 9110, 13.1.5): weak tags do not vouch for bytes."""
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified", "") if not tag else ""


def _known(part: Path, url: str) -> str:
    try:
        note = json.loads(note_of(part).read_text(encoding="utf-8"))
        return str(note["validator"]) if note["url"] == url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _begin(part: Path, url: str, validator: str) -> None:
    """Empty the part, then note what it will be a part of: never the other way round."""
    with _writing(part):
        note_of(part).unlink(missing_ok=True)
        part.write_bytes(b"")
        if validator:
            note = json.dumps({"url": url, "validator": validator})
            note_of(part).write_text(note, encoding="utf-8")


def write_all(file: BinaryIO, chunk: bytes) -> None:
    """Write all of it: an unbuffered file may take less than it is given."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnwritableError(
            f"{part} cannot be written ({error.strerror or error}): make room, and run the same "
            "command again; it goes on from here"
        ) from None


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
