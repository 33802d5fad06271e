"""Which addresses are this machine's own, so that text may go there without being asked about."""

from __future__ import annotations

import ipaddress
import urllib.parse

from ..errors import InputError


def is_local(address: str) -> bool:
    """Whether an address is this machine's own (localhost, 127.0.0.0/8, ::1)."""
    host = _parsed(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(address: str, remote_confirmed: bool = False) -> None:
    """Raises InputError for what is no address, or is not local and not confirmed."""
    if not is_local(address) and not remote_confirmed:
        raise InputError(
            f"'{_parsed(address).hostname}' is not this machine; confirm that the text may go there "
            "(--allow-remote)."
        )


def _parsed(address: str) -> urllib.parse.ParseResult:
    try:
        parsed = urllib.parse.urlparse(address)
        _ = parsed.port
    except ValueError as error:
        raise InputError(f"'{address[:200]}' is not an address.", repr(error)) from error
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        raise InputError(f"'{address[:200]}' is not an address; write http://localhost:PORT/v1.")
    if parsed.username or parsed.password:
        raise InputError("Leave name and password out of the address.")
    return parsed
