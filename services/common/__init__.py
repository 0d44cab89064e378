"""What every Python service shares."""

VERSION = "0.1.0"
