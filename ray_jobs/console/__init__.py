"""Terminal and log: progress, sanitized messages, JSON results, interrupts."""
