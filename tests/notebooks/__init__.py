"""The notebooks of docs/notebooks: `python -m tests.notebooks` runs them and keeps what they show.

Their code and texts are edited in the files themselves, with any editor of notebooks.
"""
