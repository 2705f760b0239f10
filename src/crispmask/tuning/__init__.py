"""Choosing the parameters of the refinement on annotated images, with cross-validation (extra ``tune``)."""
