"""What training and reading cost: samples a second, gradients over ranks, memory."""
