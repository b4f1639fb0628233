"""Records to shared memory: segments, their life cycle, and who gets which ring."""
