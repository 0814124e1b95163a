"""The replay at replica level: requests queue for a place in a replica, a rule or a floor sets how many."""
