"""The machine that is measured: its GPU, its host, the lower bounds of its times."""
