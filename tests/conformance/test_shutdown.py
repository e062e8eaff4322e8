"""What is left open when a program ends, is ended as without decorator: same output, nothing on stderr."""

from __future__ import annotations

import pytest

from tests.programs import run_program

IMPORT = "from flowtrace import traced_node\n"
NOTHING = "traced_node = lambda function: function\n"

PROGRAMS = {
    "a generator": """
        @traced_node
        def body():
            try:
                yield 1
            finally:
                print("finally")

        kept = body()
        next(kept)
        print("end")
        """,
    "a generator in a cycle": """
        @traced_node
        def body(cycle):
            try:
                yield 1
            finally:
                print("finally")

        cycle = []
        cycle.append(body(cycle))
        next(cycle[0])
        print("end")
        """,
    "an async generator in asyncio": """
        import asyncio

        @traced_node
        async def body():
            try:
                yield 1
            finally:
                await asyncio.sleep(0)
                print("finally")

        async def main():
            global kept
            kept = body()
            print(await anext(kept))

        asyncio.run(main())
        print("end")
        """,
    "an async generator in trio": """
        import trio

        @traced_node
        async def body():
            try:
                yield 1
            finally:
                print("finally")

        async def main():
            global kept
            kept = body()
            print(await anext(kept))

        trio.run(main)
        print("end")
        """,
    "an async generator that nobody finishes": """
        @traced_node
        async def body():
            try:
                yield 1
            finally:
                print("finally")

        kept = body()
        try:
            anext(kept).send(None)
        except StopIteration as stop:
            print(stop.value)
        print("end")
        """,
    "a task that still runs": """
        import asyncio

        @traced_node
        async def body():
            try:
                await asyncio.sleep(60)
            finally:
                print("finally")

        async def main():
            global kept
            kept = asyncio.create_task(body())
            await asyncio.sleep(0)

        asyncio.run(main())
        print("end", kept.cancelled())
        """,
    "a coroutine that waits": """
        class Pause:
            def __await__(self):
                yield 1

        @traced_node
        async def body():
            try:
                await Pause()
            finally:
                print("finally")

        kept = body()
        print(kept.send(None))
        print("end")
        """,
    "a thread in a generator": """
        import threading

        @traced_node
        def body():
            yield 1
            yield 2

        def work():
            for item in body():
                print(item)
                gate.wait()

        gate = threading.Event()
        thread = threading.Thread(target=work)
        thread.start()
        gate.set()
        thread.join()
        print("end")
        """,
    "calls while the interpreter ends": """
        import atexit

        @traced_node
        def plain(text):
            print(text)

        @traced_node
        def body():
            yield from "ab"

        class Late:
            @traced_node
            def __del__(self):
                print("late")

        atexit.register(plain, "at exit")
        atexit.register(lambda: print(list(body())))
        kept = Late()
        plain("end")
        """,
    "objects of the main module that were recorded": """
        import dataclasses

        class Kept:
            def __del__(self):
                print("del")

            @traced_node
            def method(self, value):
                return [self, value]

        @dataclasses.dataclass
        class Record:
            value: object

            def __del__(self):
                print("record")

        kept, record = Kept(), Record(1)
        kept.method({"of": record})
        print("end")
        """,
}


@pytest.mark.costly
@pytest.mark.parametrize("mode", ["off", "on", "always"])
@pytest.mark.parametrize("program", list(PROGRAMS))
def test_a_program_ends_as_the_undecorated_one(program, mode, tmp_path):
    plain = run_program(tmp_path, NOTHING, PROGRAMS[program])
    traced = run_program(tmp_path, IMPORT, PROGRAMS[program], FLOWTRACE_MODE=mode, FLOWTRACE_OUT="trace.json")
    assert (traced.stdout, traced.stderr) == (plain.stdout, plain.stderr)
    assert plain.stderr == ""


@pytest.mark.costly
def test_a_coroutine_that_is_never_awaited_is_warned_of_once(tmp_path):
    program = """
        import warnings
        warnings.simplefilter("always")

        @traced_node
        async def body():
            pass

        body()
        cycle = [body()]
        cycle.append(cycle)
        del cycle
        import gc
        gc.collect()
        """
    traced = run_program(tmp_path, IMPORT, program, FLOWTRACE_MODE="on")
    assert traced.stderr.count("coroutine 'body' was never awaited") == 2
    assert traced.stderr.count("never awaited") == 2
