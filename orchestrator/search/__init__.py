"""Which candidate comes next and which trial stops early; knows nothing of Ray."""
