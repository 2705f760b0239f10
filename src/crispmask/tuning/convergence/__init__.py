"""How mean field converges: KL(Q‖P) over the iterations, the masks after each, and when nothing changes any more."""
