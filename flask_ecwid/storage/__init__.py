"""State that processes share: in memory, in a SQLite file or in Redis."""
