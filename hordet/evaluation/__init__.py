"""What a model costs and what it reaches."""

from hordet.evaluation.complexity import Complexity, complexity_of, count

__all__ = ["Complexity", "complexity_of", "count"]
