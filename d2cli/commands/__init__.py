"""Commands behind the parser: a run with notes and progress, then what is printed of it."""
