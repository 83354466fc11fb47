"""What is raised when predictions cannot be scored."""


class EvaluationError(ValueError):
    """Predictions do not fit the truth, or are damaged; the message says which and the cure."""
