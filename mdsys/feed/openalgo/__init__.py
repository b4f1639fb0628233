"""OpenAlgo: a proxy that streams many Indian brokers in one format."""
