"""A config: found by name, read strictly, checked as a whole, shrunk to a dry run."""
