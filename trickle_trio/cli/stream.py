"""``trickle stream``: calls a running service."""

from __future__ import annotations

import json
from typing import Any

import click

_api = click.option(
    "--api", default="http://127.0.0.1:8000", show_default=True, help="The service."
)
_id = click.option("--request-id", help="Which stream, where there are several.")


def _params(
    context: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, Any]:
    """Read ``key=value`` pairs: a value that is JSON is taken as such, any other is text."""
    params: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{pair!r}: key=value is expected", context, parameter)
        try:
            params[key] = json.loads(value)
        except ValueError:
            params[key] = value
    return params


_param = click.option(
    "--param",
    "params",
    multiple=True,
    callback=_params,
    metavar="KEY=VALUE",
    help="A parameter; may be given again.",
)


@click.group()
def command() -> None:
    """Start, stop and watch streams of a running service."""


@command.command()
@_api
@click.option("--subscribe-url", help="The channel with the input.")
@click.option("--publish-url", help="The channel for the output.")
@click.option("--control-url")
@click.option("--events-url")
@click.option("--data-url")
@_id
@_param
def start(api: str, request_id: str | None, params: dict[str, Any], **urls: str | None) -> None:
    """Start a stream."""
    body = {name: url for name, url in urls.items() if url} | {"params": params}
    if request_id:
        body["gateway_request_id"] = request_id
    _call("POST", f"{api}/api/stream/start", body)


@command.command()
@_api
@_id
def stop(api: str, request_id: str | None) -> None:
    """Stop a stream."""
    _call("POST", f"{api}/api/stream/stop", {}, request_id)


@command.command(name="params")
@_api
@_id
@_param
def change(api: str, request_id: str | None, params: dict[str, Any]) -> None:
    """Change parameters of a running stream."""
    _call("POST", f"{api}/api/stream/params", params, request_id)


@command.command()
@_api
@_id
def status(api: str, request_id: str | None) -> None:
    """Show how a stream does."""
    _call("GET", f"{api}/api/stream/status", None, request_id)


@command.command(name="list")
@_api
def show_all(api: str) -> None:
    """List the streams."""
    _call("GET", f"{api}/api/streams", None)


def _call(
    method: str, url: str, body: dict[str, Any] | None, request_id: str | None = None
) -> None:
    """Call the service and print its answer; one clear line and exit code 1 when it refuses."""
    import httpx

    query = {"gateway_request_id": request_id} if request_id else None
    try:
        answer = httpx.request(method, url, json=body, params=query, timeout=60)
        content = answer.json()
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise click.BadParameter(f"{url}: {error}", param_hint="--api") from error
    except httpx.TransportError as error:
        raise click.ClickException(f"{url}: {error}") from error
    except ValueError as error:
        raise click.ClickException(
            f"{url}: the answer is not JSON, so this is no such service"
        ) from error
    if answer.is_error:
        message = content.get("message") if isinstance(content, dict) else None
        raise click.ClickException(message or f"{url}: status {answer.status_code}")
    click.echo(json.dumps(content, indent=2))
