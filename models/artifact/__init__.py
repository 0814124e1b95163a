"""A trained model on disk, the store of its versions, and whether its numbers can be."""
