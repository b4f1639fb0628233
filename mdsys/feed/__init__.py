"""Venue bytes to records. Decoders do no I/O; the transport owns the sockets."""
