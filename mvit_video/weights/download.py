"""Files from the web, whole or not at all.

A download goes to `<name>.part` beside its place in the cache, is continued where it broke off (when
the server proves that it is still the same file), and gets its name only once it is complete and,
where a checksum is known, checked. So a file found in the cache is a whole file.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlparse

from iopath.common.file_io import file_lock, get_cache_dir

from mvit_video.errors import InputError

ATTEMPTS = 4
_PAUSE = 0.5  # seconds before the second attempt, doubled before each further one
_TIMEOUT = 60.0  # seconds without a byte
_CHUNK = 1 << 20

_log = logging.getLogger(__name__)


class _BrokenOff(Exception):
    """The connection ended early; what has arrived is kept."""


def is_url(source: str) -> bool:
    """True for what `fetch` downloads; every other path is iopath's."""
    return source.startswith(("http://", "https://"))


def fetch(url: str, sha256: str = "", cache_dir: str | None = None) -> Path:
    """The local copy of `url`, downloaded if it is not in the cache yet.

    Args:
        url: http or https. A name like torch hub's, `mvit_v2_s-ae3be167.pth`, carries the start of its SHA-256.
        sha256: hexadecimal checksum (or the start of one) that the file must have, where it is known otherwise.
        cache_dir: None for iopath's cache ($FVCORE_CACHE, else ~/.torch/iopath_cache).

    Raises:
        InputError: the server refuses, the connection keeps breaking off, or the checksum differs.
    """
    target = _cache_path(url, cache_dir)
    sha256 = (sha256 or _checksum_in_name(target.name)).lower()
    with file_lock(str(target)):
        if target.is_file() and _checksum_fits(target, sha256):
            return target
        part = target.with_name(f"{target.name}.part")
        _download(url, part)
        if not _checksum_fits(part, sha256):
            found = _sha256(part)
            _forget(part)
            raise InputError(
                f"{url}: the downloaded file has SHA-256 {found[: len(sha256)]}..., expected {sha256}; it was deleted. "
                "The file on the server has changed or was altered on the way"
            )
        os.replace(part, target)
        _sidecar(part).unlink(missing_ok=True)
    return target


def _download(url: str, part: Path) -> None:
    """Completes `part`, in several attempts if need be."""
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE * 2 ** (attempt - 1))
        try:
            return _continue(url, part)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the part is longer than the file: another file lies there now
                _forget(part)
            elif error.code < 500:
                raise InputError(
                    f"{url}: the server answers {error.code} {error.reason}; check the address, or download "
                    "the file by hand and give its path"
                ) from None
            problem = f"the server answers {error.code} {error.reason}"
        except (_BrokenOff, OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
        _log.warning("%s: %s (attempt %d of %d)", url, problem, attempt + 1, ATTEMPTS)
    raise InputError(
        f"{url} could not be downloaded in {ATTEMPTS} attempts: {problem}. Nothing incomplete is used; "
        "run the same command again to go on, or download the file by hand and give its path"
    )


def _continue(url: str, part: Path) -> None:
    """One request: appends to `part` if the server still has the same file, else starts it anew."""
    validator = _read_validator(part)
    have = part.stat().st_size if validator and part.exists() else 0
    headers = {"User-Agent": "mvit-video", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with urllib.request.urlopen(
        urllib.request.Request(url, headers=headers), timeout=_TIMEOUT
    ) as response:
        start, total = _extent(response)
        if start not in (0, have):
            raise _BrokenOff(
                f"the server sent bytes from {start}, asked for were those from {have}"
            )
        have = start  # a whole answer replaces the part
        _write_validator(part, response)
        _log.info("downloading %s%s", url, f" from byte {have}" if have else "")
        with part.open("ab" if have else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    size = part.stat().st_size
    if total is not None and size > total:
        _forget(part)
        raise _BrokenOff(f"{size} bytes came where the server had announced {total}")
    if total is not None and size < total:
        raise _BrokenOff(f"the connection broke off at {size} of {total} bytes")


def _extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """(first byte, size of the whole file or None where the server does not say)."""
    content_range = re.fullmatch(
        r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range") or ""
    )
    if response.status == 206 and content_range:
        return int(content_range[1]), int(content_range[2])
    length = response.headers.get("Content-Length")
    return 0, int(length) if length else None


def _sidecar(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_validator(part: Path) -> str:
    """The ETag or date that `part` was begun under; empty where it cannot be continued."""
    try:
        return str(json.loads(_sidecar(part).read_text())["validator"])
    except (OSError, ValueError, KeyError):
        return ""


def _write_validator(part: Path, response: http.client.HTTPResponse) -> None:
    etag = response.headers.get("ETag") or ""
    strong = "" if etag.startswith("W/") else etag
    validator = strong or response.headers.get("Last-Modified") or ""
    _sidecar(part).write_text(json.dumps({"validator": validator}))


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _sidecar(part).unlink(missing_ok=True)


def _cache_path(url: str, cache_dir: str | None) -> Path:
    """<cache>/mvit_video/<hash of the URL>/<last part of its path>."""
    name = unquote(Path(urlparse(url).path).name) or "download"
    folder = hashlib.sha256(url.encode()).hexdigest()[:16]
    path = Path(get_cache_dir(cache_dir), "mvit_video", folder, name[-128:])
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _checksum_in_name(name: str) -> str:
    """torch hub's convention: `name-<first 8 or more digits of the SHA-256>.ext`."""
    match = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    return match[1] if match and not match[1].isdecimal() else ""  # 20240131 is a date


def _checksum_fits(path: Path, sha256: str) -> bool:
    return not sha256 or _sha256(path).startswith(sha256)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
