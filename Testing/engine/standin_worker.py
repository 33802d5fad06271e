"""The real worker process with the stand-in model, plus messages that misbehave on purpose.

STANDIN_HOLD names a file; while it exists, encoding a slice does not end. `encoding` beside it
appears as soon as one is held.
"""

import os
import sys
import time
from pathlib import Path

import velcro_engine.model.opening as runtime
from velcro_engine.worker import process as worker


def open_runtime(model=None):
    from standin_runtime import StandInRuntime
    from velcro_engine.knowledge_base import load_knowledge_base

    class HeldRuntime(StandInRuntime):
        def encode(self, model_input):
            hold = os.environ.get("STANDIN_HOLD")
            while hold and os.path.exists(hold):
                Path(hold).with_name("encoding").touch()
                time.sleep(0.01)
            return super().encode(model_input)

    seconds = float(os.environ.get("STANDIN_ENCODE_SECONDS", "0"))
    return HeldRuntime(load_knowledge_base().entries[:8], seconds)


def noisy(header, payload, context):
    print("a library says hello on stdout")
    os.write(1, b"and another one writes to the descriptor\n")
    return {"type": "noisy"}, payload[::-1]


def slow(header, payload, context):
    for step in range(360_000):  # an hour
        context.progress(min(step / 1000, 0.99), "working")
        time.sleep(0.01)
    return {"type": "slow"}, b""


def stuck(header, payload, context):
    context.progress(1.0, "stuck from now on")
    time.sleep(3600)
    return {"type": "stuck"}, b""


def broken(header, payload, context):
    raise RuntimeError("a mistake in the code")


if __name__ == "__main__":
    runtime.open_runtime = open_runtime
    sys.modules["standin_worker"] = sys.modules["__main__"]
    own = {name: f"standin_worker:{name}" for name in ("noisy", "slow", "stuck", "broken")}
    sys.exit(worker.main({**worker.HANDLERS, **own}))
