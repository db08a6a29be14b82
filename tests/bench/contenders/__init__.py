"""What runs in a process of its own: each module takes its arguments from the command line and ends."""
