"""Looking for faults of the native core: `make native-checks`."""
