"""What systems do differently, behind one function for each thing. Standard library only, but for what says so."""
