"""The smoke test of a GPU: test suites, the sanitizer, every engine once."""
