"""Questions asked of a model: weights, names, attention, quantizable layers."""
