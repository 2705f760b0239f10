"""What `crispmask learn` does: trains the mask network, tunes the CRF behind it, fits the gate (extra ``torch``)."""
