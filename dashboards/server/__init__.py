"""Local web pages: the board, the live page, served models."""
