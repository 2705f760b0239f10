"""Training: the detector (`crispmask train`) and the refinement (`crispmask learn`)."""
