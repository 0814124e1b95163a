"""The live page: the fleet, its apps, and one app's account, as it is now."""
