"""What runs stand on, read and checked: the command `verify`."""
