"""One model in, a smaller trained model and its readings out."""

import os

# ONNX Runtime's wheels send usage data and write an identifier into the home folder unless this is set before the
# library is first imported; no part of paretta wants either. `ORT_DISABLE_TELEMETRY=0` in the environment wins.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
