"""Planning: pure functions that decide, from names and sizes alone, what goes where. Nothing is read here."""
