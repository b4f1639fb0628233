"""Zerodha Kite: NSE, BSE, NFO, BFO, MCX, CDS, by way of a broker."""
