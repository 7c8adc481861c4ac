"""The networks of the literature on MNIST, compressed as far as their accuracy allows."""
