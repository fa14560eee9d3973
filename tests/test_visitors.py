"""The visitors: who counts as somebody at this very computer."""

from __future__ import annotations

import pytest

from wsgi_session.observe import is_local


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "shop.localhost:80", "127.0.0.1:8000", "127.0.0.1", "[::1]", "[::1]:8000"]
)
def test_this_computer_is_local(address: str, host: str) -> None:
    """A visitor at the loopback, who has asked for it by one of its names, is local."""
    assert is_local({"REMOTE_ADDR": address, "HTTP_HOST": host})


@pytest.mark.parametrize("address", ["192.0.2.1", "10.0.0.1", "::", "0.0.0.0", "", "localhost", "::ffff:192.0.2.1"])
def test_another_address_is_not_local(address: str) -> None:
    """Another address is not local, and neither is none, as through a Unix socket."""
    assert not is_local({"REMOTE_ADDR": address, "HTTP_HOST": "localhost"})


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "notlocalhost",
        "127.0.0.1.evil.example",
        "evil@localhost",
        "localhost:80@evil.example",
        "127.0.0.2",
        "localhost.",
        "localhost\n",
        "localhost:8000\n",
        " localhost",
        "",
    ],
)
def test_another_name_is_not_local(host: str) -> None:
    """A name of another site is not local, though it may lead to the loopback (DNS rebinding)."""
    assert not is_local({"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": host})


@pytest.mark.parametrize(
    "header",
    [
        "X_FORWARDED_FOR",
        "X_FORWARDED_HOST",
        "X_FORWARDED",
        "FORWARDED",
        "VIA",
        "X_REAL_IP",
        "CF_CONNECTING_IP",
        "TRUE_CLIENT_IP",
        "X_CLUSTER_CLIENT_IP",
        "CDN_LOOP",
    ],
)
def test_behind_a_proxy_nobody_is_local(header: str) -> None:
    """A request that a proxy has passed on, from whoever it is, is not local; an empty header tells that, too."""
    assert not is_local({"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost", f"HTTP_{header}": ""})


def test_nothing_known_is_not_local() -> None:
    """A request of which nothing is known is not local."""
    assert not is_local({})
