"""Jobs on a cluster and a storage that are broken at random: they end with the bytes of an undisturbed run."""
