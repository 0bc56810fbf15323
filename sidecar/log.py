"""How log records look on a terminal: the event, then its fields."""

import logging

PACKAGES = ("sidecar", "training")
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class FieldFormatter(logging.Formatter):
    """Writes what was passed as ``extra`` behind the event, as ``key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record on one line."""
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        written = "".join(f" {key}={printable(value)}" for key, value in fields.items())
        return f"{record.levelname.lower()}: {super().format(record)}{written}"


def printable(value: object) -> str:
    """Write a value so that it can't break a line, steer a terminal, or fail to be encoded."""
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in str(value)
    )


def install_handler(*, verbose: bool) -> None:
    """Send this project's records to stderr: warnings, or with ``verbose`` decisions as well."""
    handler = logging.StreamHandler()
    handler.setFormatter(FieldFormatter())
    for package in PACKAGES:
        logger = logging.getLogger(package)
        logger.setLevel(logging.INFO if verbose else logging.WARNING)
        logger.handlers[:] = [handler]
        logger.propagate = False
