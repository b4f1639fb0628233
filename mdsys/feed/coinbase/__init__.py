"""Coinbase: the Exchange feed and Advanced Trade's."""
