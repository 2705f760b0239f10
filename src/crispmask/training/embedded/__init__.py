"""How the embedded detector is made: NanoDet converted from a public package, and a mask branch trained on top."""
