#!/bin/sh
# What a machine with a GPU is asked for: the tests of this folder, then the table of the model card.
# From the root of the repository, after: pip install -e '.[cuda]' pytest
set -e
python -m pytest tests/gpu -rs
python -m vaecodec bench samples/ --qualities 50 --speed --device cuda
