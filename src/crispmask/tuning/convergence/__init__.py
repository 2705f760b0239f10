"""How mean field converges: KL(Q‖P) and the masks after each iteration, and when they no longer change."""
