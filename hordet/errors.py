"""What ends a tool without a traceback; light, for the tools know it before torch is imported."""

# sysexits.h, EX_TEMPFAIL: it failed for now; the same command, started again, goes on.
RESUME_ME = 75


class UserError(Exception):
    """Something that the user can put right; the message says what was got and what to do.

    Each part of hordet has its own kinds. The tools print the message and end with exit code 2.
    """


class Interrupted(Exception):
    """A training was asked to stop, and has saved its state; the tools end with `RESUME_ME`."""
