"""Configure the tests of benchmarks as those of the program: no weights of the user."""

import os

os.environ["BIDS_SR_VGG19"] = "/nonexistent/vgg19.safetensors"
