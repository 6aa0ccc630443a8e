"""The tests. Imported before torch is: what is set here reaches the threads of its OpenMP."""

import os

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that spin take the cores from other tests
