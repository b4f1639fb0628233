"""``mdsys top``: an instance, live, in a terminal."""
