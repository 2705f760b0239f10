"""What `crispmask learn` does: gathers masks, trains the mask network, fits rules (extra ``torch``)."""
