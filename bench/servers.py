"""The servers that can be compared: each a row of data. Add a peer by adding a row.

In `command`, `files` and `environment`, @port@, @upstream@ (both on 127.0.0.1), @dir@ (a folder of the
server's own, where `files` are written) and @program@ (the path of `program`) are filled in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.build import BenchError

MODEL = "bench-model"
"""Its upstream speaks OpenAI's dialect."""
CLAUDE_MODEL = "bench-claude"
"""Its upstream speaks Anthropic's dialect."""
COMPATIBLE_MODEL = "bench-compatible"
"""As MODEL, for callers of another dialect: some proxies translate those to OpenAI's other API, which only
OpenAI itself has, unless the upstream is declared a compatible one."""
UPSTREAM_MODEL = "bench-upstream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How to start one server as a proxy for the mock, in one process where it lets one choose.

    Args:
        program: the executable, looked for beside this interpreter, then on PATH.
        remedy: what to type when it is missing.
        debian: package to install when the program is missing and we are root.
        ready_timeout: seconds until the first answer, at most.
        alone: so slow that what it still has to do would disturb the others: measured before them, once.
    """

    name: str
    program: str
    command: tuple[str, ...]
    remedy: str
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    debian: str | None = None
    ready_timeout: float = 15.0
    alone: bool = False


REFERENCE = "nginx"

NGINX_CONF = """\
worker_processes 1;
daemon off;
pid @dir@/nginx.pid;
error_log stderr warn;
events { worker_connections 32000; }
http {
  access_log off;
  client_body_temp_path @dir@/body;
  proxy_temp_path @dir@/proxy;
  fastcgi_temp_path @dir@/fastcgi;
  uwsgi_temp_path @dir@/uwsgi;
  scgi_temp_path @dir@/scgi;
  client_body_buffer_size 256k;
  client_max_body_size 64m;
  keepalive_requests 1000000000;
  upstream mock {
    server 127.0.0.1:@upstream@;
    keepalive 1024;
    keepalive_requests 1000000000;
  }
  server {
    listen 127.0.0.1:@port@ backlog=16384;
    location / {
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }
  }
}
"""

HAPROXY_CFG = """\
global
  nbthread 1
  maxconn 9700
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  http-reuse always
  option http-no-delay
frontend clients
  bind 127.0.0.1:@port@ backlog 16384
  default_backend mock
backend mock
  server mock 127.0.0.1:@upstream@
"""

HEADGATE_YAML = f"""\
server: {{host: 127.0.0.1, port: @port@}}
models:
  {MODEL}:
    backend: openai
    base_url: http://127.0.0.1:@upstream@/v1
    model: {UPSTREAM_MODEL}
    api_key: sk-bench
  {COMPATIBLE_MODEL}:
    backend: openai-compatible
    base_url: http://127.0.0.1:@upstream@/v1
    model: {UPSTREAM_MODEL}
    api_key: sk-bench
  {CLAUDE_MODEL}:
    backend: anthropic
    base_url: http://127.0.0.1:@upstream@
    model: {UPSTREAM_MODEL}
    api_key: sk-bench
"""

LITELLM_YAML = f"""\
model_list:
  - model_name: {MODEL}
    litellm_params:
      model: openai/{UPSTREAM_MODEL}
      api_base: http://127.0.0.1:@upstream@/v1
      api_key: sk-bench
  - model_name: {COMPATIBLE_MODEL}
    litellm_params:
      model: hosted_vllm/{UPSTREAM_MODEL}
      api_base: http://127.0.0.1:@upstream@/v1
      api_key: sk-bench
  - model_name: {CLAUDE_MODEL}
    litellm_params:
      model: anthropic/{UPSTREAM_MODEL}
      api_base: http://127.0.0.1:@upstream@
      api_key: sk-bench
litellm_settings: {{telemetry: false}}
"""

SERVERS = (
    Server(
        name="nginx",
        program="nginx",
        files={"nginx.conf": NGINX_CONF},
        command=("@program@", "-p", "@dir@", "-e", "stderr", "-c", "@dir@/nginx.conf"),
        remedy="apt-get install nginx-light",
        debian="nginx-light",
    ),
    Server(
        name="headgate",
        program="headgate",
        files={"headgate.yaml": HEADGATE_YAML},
        command=("@program@", "serve", "@dir@/headgate.yaml"),
        remedy="pip install -e . in the environment that runs the benchmark",
    ),
    Server(
        name="haproxy",
        program="haproxy",
        files={"haproxy.cfg": HAPROXY_CFG},
        command=("@program@", "-db", "-f", "@dir@/haproxy.cfg"),
        remedy="apt-get install haproxy",
    ),
    Server(
        name="litellm",
        program="litellm",
        files={"litellm.yaml": LITELLM_YAML},
        command=(
            *("@program@", "--config", "@dir@/litellm.yaml", "--host", "127.0.0.1", "--port", "@port@"),
            *("--num_workers", "1"),
        ),
        environment={
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches the list while it starts
            "LITELLM_LOG": "ERROR",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # no keys: as the others run
        },
        remedy="pip install 'litellm[proxy]' into an environment on PATH",
        ready_timeout=60.0,
        alone=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Launch:
    """A server's row filled in: what to run, and where it will answer."""

    server: Server
    port: int
    command: tuple[str, ...]
    environment: Mapping[str, str]


def find_program(name: str) -> str | None:
    """The path of an executable: beside this interpreter, on PATH, or where Debian keeps servers."""
    places = (str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin")
    return shutil.which(name, path=os.pathsep.join(places))


def install(server: Server) -> None:
    """Install the server's Debian package. Raises BenchError where that can't be done."""
    apt = shutil.which("apt-get")
    if server.debian is None or apt is None or os.geteuid() != 0:
        raise BenchError(f"{server.name} is not installed: {server.remedy}")
    for arguments in (("update", "-qq"), ("install", "-qq", "-y", "--no-install-recommends", server.debian)):
        result = subprocess.run(
            [apt, *arguments],
            # Runlevel 1 keeps the package from starting its service.
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
    if result.returncode != 0:
        raise BenchError(f"apt-get can't install {server.debian}:\n{result.stderr.strip()}")


def prepare(server: Server, folder: Path, port: int, upstream: int) -> Launch:
    """Write the server's files into `folder` and fill in its command. Raises BenchError if it is missing."""
    program = find_program(server.program)
    if program is None:
        raise BenchError(f"{server.name} is not installed: {server.remedy}")
    values = {"port": str(port), "upstream": str(upstream), "dir": str(folder), "program": program}

    def fill(text: str) -> str:
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        return text

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in server.files.items():
        (folder / name).write_text(fill(text), encoding="utf-8")
    command = tuple(fill(part) for part in server.command)
    return Launch(server, port, command, {name: fill(value) for name, value in server.environment.items()})
