"""``trickle stream``: calls a running service."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
from attrs import frozen

from trickle_core import wire
from trickle_trio.cli.running import checked_token

if TYPE_CHECKING:
    import httpx


@frozen
class Service:
    """A running service, as a client sees it."""

    url: str
    token: str | None

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        """Call it and print its answer; one clear line and exit code 1 when it refuses."""
        answer = self._ask(method, path, body)
        try:
            content = answer.json()
        except ValueError as error:
            raise click.ClickException(
                f"{answer.url}: the answer is not JSON, so this is no such service"
            ) from error
        if answer.is_error:
            message = content.get("message") if isinstance(content, dict) else None
            raise click.ClickException(message or f"{answer.url}: status {answer.status_code}")
        click.echo(json.dumps(content, indent=2))

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        import httpx

        url = f"{self.url}{path}"
        headers = {"Authorization": wire.bearer(self.token)} if self.token else None
        try:
            return httpx.request(method, url, json=body, headers=headers, timeout=60)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            raise click.BadParameter(f"{url}: {error}", param_hint="--api") from error
        except httpx.ConnectError as error:
            raise click.ClickException(
                f"{self.url}: {error}: does trickle serve run there?"
            ) from error
        except httpx.TransportError as error:
            raise click.ClickException(f"{url}: {error}") from error


def _sendable(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Refuse what was no UTF-8 on the command line: neither JSON nor an address can carry it."""
    try:
        (text or "").encode()
    except UnicodeEncodeError as error:
        raise click.BadParameter(f"{text!r} is no UTF-8", context, parameter) from error
    return text


def _service(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which service is meant; the command gets them as a ``Service``."""

    @click.option(
        "--api",
        default="http://127.0.0.1:8000",
        show_default=True,
        callback=_sendable,
        help="The service.",
    )
    @click.option(
        "--token",
        envvar="TRICKLE_TOKEN",
        show_envvar=True,
        callback=checked_token,
        help="The service's bearer token.",
    )
    @wraps(command)
    def wrapper(api: str, token: str | None, **options: Any) -> None:
        command(Service(api.rstrip("/"), token), **options)

    return wrapper


_id = click.option(
    "--request-id", callback=_sendable, help="Which stream, where there are several."
)


def _params(
    context: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, Any]:
    """Read ``key=value`` pairs."""
    params: dict[str, Any] = {}
    for pair in pairs:
        _sendable(context, parameter, pair)
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{pair!r}: key=value is expected", context, parameter)
        params[key] = _value(value)
    return params


def _value(text: str) -> Any:
    """Take what is JSON as such, and any other as text: NaN, 1e999 and half a character are none for the service."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return text
    return value


_param = click.option(
    "--param",
    "params",
    multiple=True,
    callback=_params,
    metavar="KEY=VALUE",
    help="A parameter; may be given again. VALUE is taken as JSON where it is that, else as text.",
)


def _path(request_id: str) -> str:
    """The stream of exactly this id: the routes of gateways mean the only one there is, whatever its id."""
    return f"/api/streams/{quote(request_id, safe='')}"


@click.group()
def command() -> None:
    """Start, stop and watch streams of a running service."""


@command.command()
@_service
@click.option("--subscribe-url", callback=_sendable, help="The channel with the input.")
@click.option("--publish-url", callback=_sendable, help="The channel for the output.")
@click.option("--control-url", callback=_sendable, help="The channel that parameters come by.")
@click.option("--events-url", callback=_sendable, help="The channel that is told how it goes.")
@click.option("--data-url", callback=_sendable, help="The channel for what a processor sends.")
@_id
@_param
def start(
    service: Service, request_id: str | None, params: dict[str, Any], **urls: str | None
) -> None:
    """Start a stream."""
    body = {name: url for name, url in urls.items() if url} | {"params": params}
    if request_id:
        body["gateway_request_id"] = request_id
    service.call("POST", "/api/stream/start", body)


@command.command()
@_service
@_id
def stop(service: Service, request_id: str | None) -> None:
    """Stop a stream."""
    if request_id:
        service.call("DELETE", _path(request_id))
    else:
        service.call("POST", "/api/stream/stop", {})


@command.command(name="params")
@_service
@_id
@_param
def change(service: Service, request_id: str | None, params: dict[str, Any]) -> None:
    """Change parameters of a running stream."""
    if request_id:
        service.call("PATCH", f"{_path(request_id)}/params", params)
    else:
        service.call("POST", "/api/stream/params", params)


@command.command()
@_service
@_id
def status(service: Service, request_id: str | None) -> None:
    """Show how a stream does, or without an id the service and its stream."""
    service.call("GET", _path(request_id) if request_id else "/api/stream/status")


@command.command(name="list")
@_service
def show_all(service: Service) -> None:
    """List the streams."""
    service.call("GET", "/api/streams")
