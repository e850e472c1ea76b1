"""Ways to choose visual tokens without our training: one file a method, one registry, one contract."""
