"""Files to arrays and back; the only users of pyarrow."""
