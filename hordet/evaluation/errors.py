"""What is raised when predictions cannot be scored."""

from hordet.errors import UserError


class EvaluationError(UserError, ValueError):
    """Predictions do not fit the truth, or are damaged; the message says which and the cure."""
