"""Alpaca: US stocks (IEX, SIP and others) and crypto."""
