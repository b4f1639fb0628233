"""Massive (Polygon.io until October 2025): US stocks and options."""
