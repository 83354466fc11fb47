"""The face-off: hordet's default against what people would use instead, at equal minutes."""
