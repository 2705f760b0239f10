"""Damaged and hostile input for every door; see `__main__`."""
