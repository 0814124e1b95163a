"""The contest's interface: the .proto file and the code generated from it (`make proto`)."""
