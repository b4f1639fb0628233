"""Frames as they came: recorded, read back as records, replayed."""
