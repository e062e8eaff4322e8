"""The projects in these folders are run by tests, in processes of their own."""

collect_ignore = ["pytest_sample"]
