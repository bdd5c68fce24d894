"""`headgate explain`: where a request would go and why, from a configuration or from a running server."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import click

from headgate.cli.exits import Exit, Failure
from headgate.cli.output import table
from headgate.cli.serving import read_body
from headgate.cli.sources import load_settings


@click.command(short_help="Show where a request would go, and why, without sending it.")
@click.argument("model")
@click.option("--body", metavar="TEXT|@FILE", help="The request: JSON text, @FILE, or @- for standard input.")
@click.option("--route", metavar="PATH", help="The route it would go to.  [default: what the model does]")
@click.option("--source", metavar="SOURCE", help="What is served.  [default: the embedded models]")
@click.option("--url", metavar="URL", help="Ask a running server, which knows how its targets fare.")
@click.option("--key", metavar="KEY", envvar="HEADGATE_KEY", help="Key for --url.  [env: HEADGATE_KEY]")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with everything that is known.")
def explain(
    model: str,
    body: str | None,
    route: str | None,
    source: str | None,
    url: str | None,
    key: str | None,
    as_json: bool,
) -> int:
    """List the targets of MODEL in the order in which they would be tried for a request, and why each of the
    others would not be. Nothing is sent to any of them.

    Without --url the configuration alone is looked at: every target counts as well.

    \b
    Examples:
      headgate explain gpt-4o --source headgate.yaml
      headgate explain gpt-4o --source headgate.yaml --body @request.json
      headgate explain gpt-4o --url http://127.0.0.1:8080
    """
    asked = _request(model, body)
    found = _from_server(url, key, route, asked) if url else _from_settings(source, route, asked)
    click.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else _shown(found))
    return Exit.OK if found["refusal"] is None else Exit.CALL_REFUSED


def _request(model: str, body: str | None) -> bytes:
    try:
        asked = json.loads(read_body(body, "--body") or b"{}")
    except ValueError:
        raise Failure("--body is not JSON", Exit.CONFIGURATION) from None
    if not isinstance(asked, dict):
        raise Failure("--body must be a JSON object, like the request itself", Exit.CONFIGURATION)
    return json.dumps({**asked, "model": model}).encode()


def _from_settings(source: str | None, route: str | None, asked: bytes) -> dict[str, Any]:
    from headgate.server.build import build
    from headgate.server.explain import explain_request

    settings = load_settings(source, {})
    # Who may read the configuration needs no key, and the file of a server's state is not ours to open.
    server = settings.server.model_copy(update={"keys": (), "state": None})
    gateway = build(settings.model_copy(update={"server": server}), offline=True)
    return explain_request(gateway, route, (), asked)


def _from_server(url: str, key: str | None, route: str | None, asked: bytes) -> dict[str, Any]:
    from urllib.parse import quote

    where = f"{url.rstrip('/')}/v1/explain" + (f"?path={quote(route, safe='')}" if route else "")
    if not where.startswith(("http://", "https://")):
        raise Failure(f"--url {url}: must begin with http:// or https://", Exit.CONFIGURATION)
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    try:
        request = urllib.request.Request(where, asked, headers)  # noqa: S310  the scheme is checked above
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        raise Failure(f"{url} refused: {_message(error.read())}", Exit.CALL_REFUSED) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Failure(f"{url} can't be asked: {reason}", Exit.CALL_FAILED) from None


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")


def _shown(found: dict[str, Any]) -> str:
    rows = []
    for target in found["targets"]:
        place = str(target["place"]) if target["place"] is not None else "–"
        lane = target["lane"] if target["lane"] != "translated" else f"translated into {target['dialect']}"
        reason = (
            target["reason"] if target["refusal"] is None else f"{target['refusal']} ({target['reason']})"
        )
        rows.append((place, target["target"], target["provider"], lane, reason))
    lines = [table(("PLACE", "TARGET", "BACKEND", "LANE", "WHY"), rows)]
    for target in found["targets"]:
        lines += [
            f"{target['target']} would lose {loss['path']}: {loss['reason']}" for loss in target["losses"]
        ]
    if found["refusal"] is not None:
        lines.append(f"would be refused with {found['refusal']['status']}: {found['refusal']['message']}")
    return "\n".join(lines)
