"""The rivals: each a script that is run, never imported, with `protocol` beside it."""
