"""The durable work queue: in the database, or on a broker with its retries in the database."""

from collector.queue.database import DatabaseQueue
from collector.settings import Settings
from collector.store.engine import Database

__all__ = ["queue_of"]


def queue_of(settings: Settings, database: Database) -> DatabaseQueue:
    """The configured queue.

    Raises:
        ConfigurationError: it is a broker whose driver is not installed.
    """
    if settings.queue.url == "database":
        return DatabaseQueue(database, max_deliveries=settings.queue.max_deliveries)
    from collector.queue.rabbitmq import RabbitQueue  # noqa: PLC0415 - imports aio-pika

    return RabbitQueue(database, settings)
