"""What is learned of the apps, and the policies that use it."""
