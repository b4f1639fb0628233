"""Shared memory to user code: attach, read, tap."""
