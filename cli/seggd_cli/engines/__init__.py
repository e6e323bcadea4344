"""Commands about engines and this machine."""
