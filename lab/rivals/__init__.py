"""Public model servers with the model that ours serves, to be measured beside it (see README.md)."""
