"""The daemon's own numbers, read from shared memory."""
