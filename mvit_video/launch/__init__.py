"""How processes come to be, and how they are told to stop."""
