"""The supervisor: owns the instance, starts and watches the feeds, answers people."""
