"""Draws the documents' pictures, each of a real run: ``make pictures``."""
