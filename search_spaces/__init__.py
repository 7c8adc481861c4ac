"""Search spaces, objectives and results as plain data, without torch, Ray or MLflow."""
