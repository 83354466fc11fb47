"""Objects and class maps drawn over images."""
