"""Words for people: log lines, tables, messages."""


def plural(count: int, noun: str) -> str:
    """Return ``1 ring``, ``2 rings``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
