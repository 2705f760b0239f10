"""The fully connected CRF as mathematics on arrays."""
