"""The device's agent: a small server on the machine that will run the model, and its client in a sweep."""
