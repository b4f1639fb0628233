"""The daemon's numbers for Prometheus: gathered in the supervisor, served over HTTP."""
