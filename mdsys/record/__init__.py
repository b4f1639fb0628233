"""The vocabulary: the 64-byte record, fixed point, symbols. Every stage may import it."""
