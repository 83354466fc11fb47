"""What models cost: parameters, multiply-adds, milliseconds, memory; and what necks are worth."""
