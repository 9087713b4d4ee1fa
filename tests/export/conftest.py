from __future__ import annotations

import torch

# Networks this small lose more by sharing their work than they win.
torch.set_num_threads(1)
torch.set_flush_denormal(True)
