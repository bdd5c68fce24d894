"""Chat on llama.cpp, through xllamacpp: one GGUF model in a process of its own.

xllamacpp runs each request on a thread that gives the GIL away while it computes, and tells each token to a
callback; the callback hands it to the event loop, and says "stop" when the client is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from headgate.core.errors import ConfigError, MissingExtra
from headgate.local.engines.chat_answer import Answer, refused
from headgate.local.engines.chat_request import Abilities, read_chat_request
from headgate.local.engines.fields import option_count, option_kind, option_names
from headgate.local.engines.gguf_header import Header, read_header
from headgate.local.engines.host import Handler, Reply, Slots, run

CONTEXT_CAP = 8192
CONTEXT_FLOOR = 2048
CPU_BATCH = 128
"""Prompt tokens computed at a time on a CPU: how long a cancellation or another slot's token may wait."""
GPU_BATCH = 512

try:
    import xllamacpp
except ImportError:
    xllamacpp = None


@dataclass(frozen=True, slots=True)
class Options:
    """How to load a GGUF model; what is None is chosen by the model file and the machine.

    n_ctx: tokens of context for each request. n_parallel: requests answered at a time. max_queue: requests
    that may wait. n_gpu_layers: -1 lets llama.cpp decide. chat_template: Jinja text instead of the model's.
    """

    model: str
    n_ctx: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int = -1
    n_parallel: int = 2
    max_queue: int = 32
    flash_attn: bool | None = None
    chat_template: str | None = None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Options:
        """Raises ConfigError with the option's name."""
        option_names(given, [field.name for field in fields(cls)], "a GGUF model")
        for name, least in (("n_ctx", 1), ("n_threads", 1), ("n_parallel", 1), ("max_queue", 0)):
            option_count(given, name, least)
        option_count(given, "n_gpu_layers", -1)
        option_kind(given, "flash_attn", bool, "true or false")
        option_kind(given, "chat_template", str, "a Jinja template")
        return cls(**{name: value for name, value in given.items() if value is not None})


class ChatEngine:
    """A loaded model behind `POST /v1/chat/completions`."""

    def __init__(self, options: Options, folder: Path) -> None:
        """Load the model. Blocks. Raises ConfigError, MissingExtra.

        `folder` is private: xllamacpp insists on a server of its own, which is bound to a socket in there.
        """
        if xllamacpp is None:
            raise MissingExtra("a GGUF chat model", "chat")
        path = Path(options.model)
        header = read_header(path)
        self._n_ctx = options.n_ctx or context_size(header, options.n_parallel, available_memory())
        template = options.chat_template or header.chat_template or ""
        self._abilities = Abilities.of(template, header.n_vocab)
        self._header = header
        self._options = options
        try:
            self._server = xllamacpp.Server(_parameters(options, self._n_ctx, folder / "llama.sock"))
        except RuntimeError as error:
            raise ConfigError(
                f"llama.cpp can't load {path}: the file may be damaged, too large for the memory, or of an "
                f"architecture ({header.architecture}) that this build does not know; the lines before this "
                "one say more"
            ) from error
        self._slots = Slots(options.n_parallel, options.max_queue)
        self._pool = ThreadPoolExecutor(options.n_parallel, thread_name_prefix="generate")
        self._fingerprint = f"xllamacpp-{xllamacpp.__version__}"

    @property
    def info(self) -> Mapping[str, Any]:
        return {
            "engine": self._fingerprint,
            "model": self._header.name,
            "architecture": self._header.architecture,
            "n_ctx": self._n_ctx,
            "n_ctx_train": self._header.n_ctx_train,
            "n_parallel": self._options.n_parallel,
            "tools": self._abilities.tools,
            **self._slots.info,
        }

    @property
    def routes(self) -> Mapping[str, Handler]:
        return {"/v1/chat/completions": self.chat}

    async def chat(self, body: Mapping[str, Any], reply: Reply) -> None:
        """Answer one OpenAI chat request; choices are generated one after the other."""
        job = read_chat_request(body, self._abilities)
        async with self._slots.taken():
            answer = Answer(job, self._fingerprint)
            for index in range(job.n):
                choice = answer.choice()
                async with contextlib.aclosing(self._generate(job.choice_request(index))) as chunks:
                    async for chunk in chunks:
                        for made in choice.feed(chunk):
                            if job.stream:
                                await reply.event(answer.chunk(made))
        if not job.stream:
            await reply.json(200, answer.complete())
            return
        if job.include_usage:
            await reply.event(answer.usage_chunk())
        await reply.event_bytes(b"[DONE]")
        await reply.end()

    async def _generate(self, request: dict[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        """The engine's chunks as they come. Closing the iterator stops the engine at its next token.

        The queue holds what the client has not read yet: at most one context's worth of tokens.
        """
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
        left = threading.Event()
        begun = False

        def on_chunk(chunk: Mapping[str, Any]) -> bool:
            if not left.is_set():
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            return left.is_set()

        work = loop.run_in_executor(self._pool, self._server.handle_chat_completions, request, on_chunk)
        work.add_done_callback(lambda _: chunks.put_nowait(None))
        try:
            while (chunk := await chunks.get()) is not None:
                begun = True
                yield chunk
            try:
                await work
            except (ValueError, RuntimeError) as error:
                if begun:
                    raise
                raise refused(str(error)) from error
        finally:
            left.set()
            await asyncio.wait({work})  # its slot is free only then
            work.exception()


def context_size(header: Header, n_parallel: int, memory: int | None) -> int:
    """Tokens for each request: the model's own limit, a sensible cap, and half of the free memory."""
    n_ctx = min(header.n_ctx_train or CONTEXT_CAP, CONTEXT_CAP)
    while memory and n_ctx > CONTEXT_FLOOR and n_ctx * n_parallel * header.kv_bytes_per_token > memory // 2:
        n_ctx //= 2
    return n_ctx


def available_memory() -> int | None:
    """Bytes that a new process could use, where the system tells."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


def _parameters(options: Options, n_ctx: int, socket: Path) -> Any:
    socket.unlink(missing_ok=True)
    gpu = options.n_gpu_layers != 0 and any(
        device["type"] != xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
        for device in xllamacpp.get_device_info()
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parameters = xllamacpp.CommonParams()
    parameters.model.path = options.model
    parameters.n_ctx = n_ctx * options.n_parallel  # llama.cpp divides it among the slots
    parameters.n_parallel = options.n_parallel
    parameters.n_gpu_layers = options.n_gpu_layers
    parameters.n_batch = parameters.n_ubatch = GPU_BATCH if gpu else CPU_BATCH
    for cpu in (parameters.cpuparams, parameters.cpuparams_batch):
        cpu.n_threads = options.n_threads or max(1, cores - 1)
        cpu.poll = 0  # a spinning thread takes the core that the web server needs
    if options.flash_attn is not None:
        kind = xllamacpp.llama_flash_attn_type
        parameters.flash_attn_type = (
            kind.LLAMA_FLASH_ATTN_TYPE_ENABLED if options.flash_attn else kind.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
    if options.chat_template:
        parameters.chat_template = options.chat_template
    parameters.prefill_assistant = False  # OpenAI's answer to a trailing assistant message is a new one
    parameters.cache_ram_mib = 0
    parameters.warmup = False
    parameters.ui = False
    parameters.verbosity = 1
    parameters.hostnames = [str(socket)]
    parameters.api_keys = [secrets.token_hex(32)]
    return parameters


def load(given: Mapping[str, Any], folder: Path) -> ChatEngine:
    return ChatEngine(Options.read(given), folder)


if __name__ == "__main__":
    run(load)
