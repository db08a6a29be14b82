"""The web application of `fewshot review`, in which people label images of an archive by keyboard."""
