"""Training on a GPU, checked and timed by one command on a machine that has nothing but torch."""
