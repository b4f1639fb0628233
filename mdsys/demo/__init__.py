"""The demo: a simulated venue, the daemon and a consumer, each a process of its own."""
