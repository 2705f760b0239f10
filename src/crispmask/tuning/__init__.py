"""Choosing the parameters of the refinement on annotated photos, with cross-validation (extra ``tune``)."""
