"""One model in, a smaller trained model and its readings out."""
