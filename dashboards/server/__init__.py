"""Local web servers: the board, the live pages and served models."""
