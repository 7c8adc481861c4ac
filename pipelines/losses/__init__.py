"""What outputs are compared by: class scores, the labels that count, and the mean loss of a batch over all workers."""
