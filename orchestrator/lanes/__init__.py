"""Lanes: long-lived worker groups that take trials from a queue."""
