"""One turn of the loop: what changed, what is trained, what is compared, and what becomes production."""
