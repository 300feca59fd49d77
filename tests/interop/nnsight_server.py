"""What an nnsight server does with a request, in a process that does not have neuros-mechint.

Usage: python nnsight_server.py FOLDER, which holds a model, its tokenizer and the file "request".
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

sys.modules["neuros_mechint"] = None  # type: ignore[assignment]  # importing it fails, wherever it is installed
warnings.simplefilter("ignore")

import torch  # noqa: E402
from nnsight import TransformersModel  # noqa: E402
from nnsight.schema.request import RequestModel  # noqa: E402
from nnsight.tracing.tracer import dec, inc  # noqa: E402
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast  # noqa: E402

folder = Path(sys.argv[1])
module = AutoModelForCausalLM.from_pretrained(folder).eval()
tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
model = TransformersModel(module, tokenizer=tokenizer, task="text-generation")
request = (folder / "request").read_bytes()
tracer = RequestModel.deserialize(request, model._remoteable_persistent_objects())
inc()
tracer.execute(tracer.info.code)
found = tracer.info.frame.f_locals["found"]
dec()
torch.save({"seen": found["seen"], "logits": found["output"].logits}, folder / "response")
