"""What cannot be exported, and what came out wrong."""


class ExportError(Exception):
    """A model that has no export, an export that does not equal its model, a file that is none."""
