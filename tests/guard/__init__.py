"""The end-to-end guard: every command once, on small data, and all that it writes and prints.

    python -m tests.guard --keep          # after a change on purpose: writes kept/ anew; say why in the commit
    python -m tests.guard --against REV   # beside another commit, on this machine: every digit and word

`kept/` has no digits, for they differ from machine to machine; `test_walk.py` compares with it.
"""
