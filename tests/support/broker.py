"""The broker of the tests: that of `COLLECTOR_TEST_RABBITMQ`, else the one on this machine."""

import os
from contextlib import AbstractAsyncContextManager

from sqlalchemy import make_url

from tests.support.proxy import Proxy, proxied

BROKER = os.environ.get("COLLECTOR_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/")

_URL = make_url(BROKER)
ADDRESS = _URL.host or "127.0.0.1", _URL.port or 5672


def proxied_broker() -> AbstractAsyncContextManager[Proxy]:
    """A way to the broker that can be cut; `through` has its URL."""
    return proxied(*ADDRESS)


def through(proxy: Proxy) -> str:
    """The broker's URL by way of the proxy."""
    return _URL.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
