"""What cannot be exported, and what came out wrong."""

from hordet.errors import UserError


class ExportError(UserError):
    """A model that has no export, an export that does not equal its model, a file that is none."""
