"""Where an HTTP service listens, and what keeps strangers out."""

import ipaddress
import socket

from restill.errors import ConfigurationError
from restill.settings import MetricsSettings, ServingSettings

SHORTEST_TOKEN = 16


def required_token(settings: ServingSettings | MetricsSettings, section: str) -> str | None:
    """Return the token that callers must send; None if there is none, and none is needed.

    Args:
        section: name of these settings.
    Raises: ConfigurationError if there is none though others than this machine can call, or it cannot be read.
    """
    if settings.token is not None:
        return _usable(settings.token.get_secret_value(), f"{section}.token")
    if settings.token_file is not None:
        try:
            token = settings.token_file.read_text().strip()
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{section}.token_file {settings.token_file} cannot be read: {error}.") from error
        return _usable(token, f"The token in {settings.token_file}")
    if not settings.without_token and not _is_loopback(settings.host):
        raise ConfigurationError(
            f"{section}.host {settings.host} can be reached from other machines, and no token is set.",
            hint=f"Set RESTILL_{section.upper()}__TOKEN_FILE, or RESTILL_{section.upper()}__WITHOUT_TOKEN=true if "
            "something else guards it.",
        )
    return None


def _usable(token: str, what: str) -> str:
    if len(token) < SHORTEST_TOKEN:
        raise ConfigurationError(f"{what} has fewer than {SHORTEST_TOKEN} characters.")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigurationError(
            f"{what} has characters that no HTTP header may hold.", hint="Take letters, digits and - . _ ~ + / = only."
        )
    return token


def listener(host: str, port: int, section: str) -> socket.socket:
    """Return a socket that listens.

    Raises: ConfigurationError if it cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off on sockets that say they are TCP; create_server's do not, and answers wait 40 ms.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(2048)
        return opened
    except OSError as error:
        opened.close()
        raise ConfigurationError(
            f"Cannot listen on {host}, port {port}: {error.strerror or error}.",
            hint=f"Set RESTILL_{section.upper()}__HOST and RESTILL_{section.upper()}__PORT to an address of this "
            "machine that is free.",
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
