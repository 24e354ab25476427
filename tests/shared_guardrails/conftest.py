"""This suite reads labelled texts beside the repository; without them nothing here is collected."""

from tests.support.shared import find_shared_dir

# The summary of the run says so aloud: see tests/conftest.py.
collect_ignore_glob = [] if find_shared_dir() else ["test_*.py"]
