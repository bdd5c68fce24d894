"""Configurations of other servers, as ours: each reader gives plain data, and says what is not in it."""
