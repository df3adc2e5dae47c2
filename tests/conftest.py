"Settings of the tests: no figure window, one thread for each library, and the browser's checks apart (`python tests/test_browser.py`)."
import os

import matplotlib
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)
collect_ignore = ["test_browser.py"]
if os.name != "posix": collect_ignore.append("test_faults.py")  # it fills disks and forks
