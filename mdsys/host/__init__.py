"""The machine under mdsys: cores, memory nodes, locked pages, and what is wrong with them.

Nothing here knows of rings or feeds: it takes a core or a mapping. What the kernel says of itself
is read below ``root``, so that tests, and later the doctor, can show it another machine's.
"""
