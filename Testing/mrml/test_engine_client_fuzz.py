"""Whatever is done in whatever order, the client ends usable and leaves no process behind."""

from __future__ import annotations

import os
import random
import signal
import sys

import pytest

from test_engine_client import WORKER, EngineState, Panel, isAlive, makePanel, placed, untilGone
from VelcroLinkLib.engine.client import EngineClient

__all__ = ["makePanel"]
ACTIONS = (
    "link",
    "drag",
    "otherSlice",
    "cancel",
    "stop",
    "start",
    "restart",
    "load",
    "kill",
    "ask",
)


@pytest.mark.parametrize("seed", range(4))
def test_two_hundred_random_actions_end_with_a_working_client(makePanel, seed):
    chance = random.Random(seed)
    panel = makePanel({"linkSeconds": 0.02}, start=False)
    client, pids = panel.client, set()
    for step in range(200):
        action = chance.choice(ACTIONS)
        if action == "link":
            client.link(placed(chance.random() * 10))
        elif action == "drag":
            for _ in range(5):
                client.link(placed(chance.random() * 10))
                client.poll()
        elif action == "otherSlice":
            client.link(placed(sliceSeed=step))
        elif action == "kill" and client.processId is not None:
            if isAlive(client.processId):
                os.kill(client.processId, signal.SIGKILL)
        elif action == "load":
            client.load({"model": str(step)})
        elif action == "ask":
            client.ask("entry", {"entry_id": "a"})
        elif action == "stop":
            client.stop(chance.choice([0.0, 0.2]))
        elif action in ("cancel", "start", "restart"):
            getattr(client, action)()
        for _ in range(chance.randrange(6)):
            client.poll()
            if client.processId is not None:
                pids.add(client.processId)
    if client.state is EngineState.FAILED:
        client.restart()
    question = placed(1.0, sliceSeed=999)
    client.link(question)
    panel.until(lambda: panel.linked and panel.linked[-1][1] is question)
    panel.untilState(EngineState.READY)
    assert not client.isBusy
    pids.add(client.processId)
    client.stop()
    for pid in pids:
        untilGone(pid)


def test_cancelled_question_is_told_apart_from_a_failed_one(makePanel):
    panel = makePanel({"searchSeconds": 0.3})
    told = []
    panel.client.ask("search", {"text": "x"}, onError=lambda kind, *_: told.append(kind))
    panel.client.cancel()
    panel.untilState(EngineState.READY)
    assert told in ([], ["cancelled"])
    assert panel.failed == []


def test_callbacks_that_raise_do_not_stop_the_client(makePanel):
    panel = makePanel(isCurrent=lambda placed: 1 / 0)
    panel.client.ask("entry", {"entry_id": "a"}, onAnswer=lambda *_: 1 / 0)
    panel.client.ask("nonsense", onError=lambda *_: 1 / 0)
    panel.client.link(placed())
    panel.until(lambda: panel.dropped)
    panel.untilState(EngineState.READY)


def test_restart_without_onnxruntime_starts_nothing():
    panel = Panel(EngineClient([sys.executable, WORKER], isInstalled=lambda: False))
    panel.client.restart()
    assert panel.client.state is EngineState.NOT_INSTALLED and panel.client.processId is None
