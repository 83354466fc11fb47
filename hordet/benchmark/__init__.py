"""What models cost (parameters, multiply-adds, milliseconds, memory); studies of necks, rivals."""
