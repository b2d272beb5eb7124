"""Downloads from a server on this machine that breaks off, changes its mind, or lies."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mvit_video.errors import InputError
from mvit_video.weights import download
from mvit_video.weights.download import fetch
from mvit_video.weights.files import read_file

CONTENT = np.random.default_rng(0).bytes(3_000_000)


@dataclass
class Server:
    """What the server does, and what it was asked for."""

    url: str = ""
    content: bytes = CONTENT
    etag: str = '"one"'
    break_after: list[int] = field(default_factory=list)  # bytes of each answer, one per request
    ranges: bool = True
    says_length: bool = True
    status: int = 200
    asked: list[str] = field(default_factory=list)  # Range header of each request


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            server.asked.append(wanted)
            if server.status != 200:
                self.send_error(server.status)
                return
            start = 0
            if wanted and server.ranges and self.headers.get("If-Range") == server.etag:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            body = server.content[start:]
            self.send_response(206 if start else 200)
            if start:
                last = len(server.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.content)}")
            if server.etag:
                self.send_header("ETag", server.etag)
            if server.says_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            limit = server.break_after.pop(0) if server.break_after else len(body)
            self.wfile.write(body[:limit])

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "_PAUSE", 0.01)
    state = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    state.url = f"http://127.0.0.1:{http.server_address[1]}/weights.pyth"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def _files(folder: Path) -> list[str]:
    return sorted(
        path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"
    )


def test_a_file_is_downloaded_once_and_then_found(server: Server, tmp_path: Path) -> None:
    first = fetch(server.url, cache_dir=str(tmp_path))
    assert first.read_bytes() == CONTENT
    assert fetch(server.url, cache_dir=str(tmp_path)) == first
    assert server.asked == [""]
    assert _files(tmp_path) == ["weights.pyth"]


def test_a_connection_that_breaks_off_is_resumed_where_it_stopped(
    server: Server, tmp_path: Path
) -> None:
    server.break_after = [1_000_000, 500_000]
    assert fetch(server.url, cache_dir=str(tmp_path)).read_bytes() == CONTENT
    assert server.asked == ["", "bytes=1000000-", "bytes=1500000-"]


def test_a_download_that_keeps_breaking_off_is_refused_and_goes_on_in_the_next_run(
    server: Server, tmp_path: Path
) -> None:
    server.break_after = [1000] * download.ATTEMPTS
    with pytest.raises(InputError, match=r"broke off at 4000 of 3000000 bytes.*again"):
        fetch(server.url, cache_dir=str(tmp_path))
    assert "weights.pyth" not in _files(tmp_path)
    assert fetch(server.url, cache_dir=str(tmp_path)).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=4000-"


def test_a_file_that_changed_on_the_server_is_not_glued_to_the_old_part(
    server: Server, tmp_path: Path
) -> None:
    server.break_after = [1000] * download.ATTEMPTS
    with pytest.raises(InputError):
        fetch(server.url, cache_dir=str(tmp_path))
    server.content, server.etag = CONTENT[::-1], '"two"'
    assert fetch(server.url, cache_dir=str(tmp_path)).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("change", [{"ranges": False}, {"etag": ""}])
def test_a_server_that_cannot_resume_is_asked_for_the_whole(
    server: Server, tmp_path: Path, change: dict
) -> None:
    for name, value in change.items():
        setattr(server, name, value)
    server.break_after = [1_000_000]
    assert fetch(server.url, cache_dir=str(tmp_path)).read_bytes() == CONTENT


def test_the_checksum_in_the_name_is_checked(server: Server, tmp_path: Path) -> None:
    right = hashlib.sha256(CONTENT).hexdigest()[:8]
    good = server.url.replace("weights.pyth", f"mvit-{right}.pth")
    assert fetch(good, cache_dir=str(tmp_path)).read_bytes() == CONTENT
    with pytest.raises(InputError, match=r"SHA-256.*expected deadbeef"):
        fetch(server.url.replace("weights.pyth", "mvit-deadbeef.pth"), cache_dir=str(tmp_path))
    assert _files(tmp_path) == [f"mvit-{right}.pth"]


def test_a_given_checksum_is_checked_in_the_cache_too(server: Server, tmp_path: Path) -> None:
    path = fetch(server.url, cache_dir=str(tmp_path))
    path.write_bytes(b"overwritten by someone")
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert fetch(server.url, sha256, cache_dir=str(tmp_path)).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_date_in_a_name_is_not_taken_for_a_checksum(server: Server, tmp_path: Path) -> None:
    dated = server.url.replace("weights.pyth", "mvit-20240131.pth")
    assert fetch(dated, cache_dir=str(tmp_path)).read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (503, download.ATTEMPTS)])
def test_a_refusal_names_the_answer(
    server: Server, tmp_path: Path, status: int, requests: int
) -> None:
    server.status = status
    with pytest.raises(InputError, match=str(status)):
        fetch(server.url, cache_dir=str(tmp_path))
    assert len(server.asked) == requests


def test_a_web_page_in_place_of_weights_does_not_stay_in_the_cache(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    server.content = b"<!DOCTYPE html><html>Too many users have downloaded this file</html>"
    with pytest.raises(InputError, match="web page"):
        read_file(server.url)
    assert _files(tmp_path) == []


def test_no_server_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PAUSE", 0.01)
    with pytest.raises(InputError, match="could not be downloaded"):
        fetch("http://127.0.0.1:9/weights.pyth", cache_dir=str(tmp_path))
