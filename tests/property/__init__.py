"""Generated graphs of supported operators: whatever our provider claims, it answers as the CPU provider does."""
