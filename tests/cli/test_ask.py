"""Asking: chat and embed, what goes where, and how they end."""

import json
import re

from tests.cli.conftest import Run


async def test_the_answer_goes_to_output_and_what_it_cost_to_error(run: Run) -> None:
    ran = await run("chat", "-m", "demo/demo-chat", "Hello")

    assert ran.code == 0
    assert ran.out.startswith("This is the demo provider of the gateway")
    assert "You wrote: Hello" in ran.out
    assert re.fullmatch(
        r"demo/demo-chat · \d+ in \+ \d+ out tokens · \$0\.\d+ · \d+\.\d\d s \(first token \d+ ms\)\n",
        ran.err,
    )


async def test_a_prompt_may_come_from_standard_input(run: Run) -> None:
    for args in (["chat", "-m", "demo/demo-chat"], ["chat", "-m", "demo/demo-chat", "-"]):
        assert "You wrote: from a pipe" in (await run(*args, stdin="from a pipe\n")).out
    assert (await run("chat", "-m", "demo/demo-chat", stdin=" \n")).code == 2


async def test_json_is_the_whole_answer(run: Run) -> None:
    ran = await run("chat", "-m", "demo/demo-chat", "Hi", "--json", "--system", "Be brief.")

    assert ran.json["choices"][0]["finish"]["reason"] == "FINISH_REASON_STOP"
    assert ran.json["servedBy"]["provider"] == "providers/demo"
    assert int(ran.json["cost"]["totalNanos"]) > 0
    assert ran.err == ""


async def test_an_answer_that_breaks_off_is_shown_as_far_as_it_came(run: Run) -> None:
    ran = await run("chat", "-m", "demo/demo-chat", "/cut 3")

    assert ran.code == 1
    assert ran.out.startswith("This is")
    assert ran.out.endswith("\n")
    assert "error: UPSTREAM_PROTOCOL_ERROR" in ran.err


async def test_an_answer_cut_by_its_limit_says_so(run: Run) -> None:
    ran = await run("chat", "-m", "demo/demo-chat", "Hi", "--max-output-tokens", "3")

    assert ran.code == 0
    assert "ended by max-output-tokens" in ran.err


async def test_what_a_model_writes_cannot_steer_the_terminal(run: Run) -> None:
    from gateway_server.cli.output import printable

    assert printable("a\x1b[31mb\x07c\td\ne\x9b") == "a\ufffd[31mb\ufffdc\td\ne\ufffd"


async def test_texts_are_embedded_from_arguments_or_lines(run: Run) -> None:
    ran = await run("embed", "-m", "demo/demo-embeddings", "one", "two")
    assert [line.split()[0] for line in ran.out.splitlines()[1:]] == ["0", "1"]
    assert re.fullmatch(r"demo/demo-embeddings · \d+ tokens · \$0\.\d+\n", ran.err)

    lines = await run("embed", "-m", "demo/demo-embeddings", "--dimensions", "8", "--json", stdin="a\n\nb\n")
    vectors = [one["floatVector"]["values"] for one in lines.json["embeddings"]]
    assert [len(vector) for vector in vectors] == [8, 8]
    assert (await run("embed", "-m", "demo/demo-embeddings", stdin="")).code == 2


async def test_health_tells_by_its_exit_code(run: Run) -> None:
    nobody = {"AIGW_TARGET": "127.0.0.1:1", "AIGW_API_KEY": ""}

    assert (await run("health", env={"AIGW_API_KEY": ""})).out == "SERVING\n"
    assert (await run("health", "aigateway.v1.ChatService", "--json")).json == {"status": "SERVING"}
    assert (await run("health", "no.such.Service")).code == 4
    ran = await run("health", env=nobody)
    assert (ran.code, ran.out) == (5, "")
    assert "no gateway answers at 127.0.0.1:1" in ran.err


async def test_the_output_of_json_is_one_document(run: Run) -> None:
    for args in (["tenants", "list"], ["providers", "get", "demo"], ["models", "list"], ["keys", "list"]):
        ran = await run(*args, "--json")
        assert isinstance(json.loads(ran.out), list if "list" in args else dict)
        assert ran.err == ""
