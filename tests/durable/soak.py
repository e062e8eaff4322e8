"""A service with all its troubles at once, compressed into minutes: nothing may grow, and nothing may be wrong.

    python tests/durable/soak.py [--seconds 180] [--seed N] [--disk folder] [--leak]

64 threads and asyncio tasks call nodes that succeed, fail, yield and are cancelled. The process forks, and its children
go on with what was begun; tracing is switched on, off and to other files; the disk is full, read-only or gone, and
comes back. Now and then everybody rests, and then there must be no more descriptors, threads, files and memory than
before, and each file must be whole and name the right parents.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import gc
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from itertools import count, cycle
from pathlib import Path

import flowtrace
from flowtrace import traced_node
from flowtrace.recording.state import running

THREADS = 64
TASKS = 20
PAUSE = 0.1  # seconds between two calls of a worker
FEWEST_ROUNDS = 6  # however slow the machine is: each trouble before the first measuring, and after it
MOST_MIB = 16  # of growth after the warm-up, which the allocator may cause by itself
LONGEST_CHILD = 60  # seconds; one that hangs says where
NAME = re.compile(r"\d\.json")
CHILDS_NAME = re.compile(r"\d\.\d+\.json")

# --- the service: each node is told who called it, as `operation:number` of all callers, outermost first


class Expected(Exception):
    """What the nodes fail with."""


@traced_node(operation="leaf", capture_inputs=True)
def leaf(callers, number):
    if number % 3 == 0:
        raise Expected(callers, number)
    return [*callers, number]


@traced_node(operation="numbers", capture_inputs=True)
def numbers(callers, number):
    for item in range(3):
        with contextlib.suppress(Expected):
            yield leaf([*callers, f"numbers:{number}"], number + item)


@traced_node(operation="branch", capture_inputs=True)
def branch(callers, number):
    mine = [*callers, f"branch:{number}"]
    for item in numbers(mine, number):
        assert item[:-1] == [*mine, f"numbers:{number}"]
        with contextlib.suppress(Expected):
            leaf(mine, number)  # while the generator waits
        if number % 5 == 0:
            break
    return leaf(mine, number)


@traced_node(operation="ticks", capture_inputs=True)
async def ticks(callers, number):
    for item in range(2):
        await asyncio.sleep(0)
        with contextlib.suppress(Expected):
            leaf([*callers, f"ticks:{number}"], number + item)
        yield item


@traced_node(operation="wait", capture_inputs=True)
async def wait(callers, number):
    mine = [*callers, f"wait:{number}"]
    await asyncio.sleep(0.001)
    assert [item async for item in ticks(mine, number)] == [0, 1]
    return branch(mine, number)


def expect(callers, number, give):
    """Check that result and exception are the function's own."""
    raised = result = None
    try:
        result = give()
    except Expected as error:
        raised = error
    if number % 3:
        assert (result, raised) == ([*callers, number], None)
    else:
        assert (raised.args, raised.__context__) == ((callers, number), None)
        assert not hasattr(raised, "__notes__")


def call(number):
    expect([f"branch:{number}"], number, lambda: branch([], number))


async def call_in_task(number):
    task = asyncio.create_task(wait([], number))
    await asyncio.sleep(0)
    if number % 7 == 0:
        task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    if number % 7 == 0:
        assert isinstance(result, asyncio.CancelledError), result
    elif isinstance(result, BaseException) and not isinstance(result, Expected):
        raise result
    else:
        expect([f"wait:{number}", f"branch:{number}"], number, task.result)


# --- what is looked at


def wrong(trace):
    """Return what is wrong with the parents of a trace's steps, and how many were right.

    A caller that began while tracing was off has no step: then the parent is one further out, or there is none.
    """
    steps = {step.step_id: step for step in (*trace.steps, *trace.in_flight)}
    payloads = {step_id: step.invocation_json["payload"] for step_id, step in steps.items()}
    names = {step_id: f"{steps[step_id].operation}:{payloads[step_id]['number']}" for step_id in steps}
    known = set(names.values())
    found, right = [], 0
    for step_id, step in steps.items():
        callers = payloads[step_id]["callers"]
        parent = names.get(step.parent_step_id)
        called = f"{names[step_id]} was called by {callers}, the file says"
        if step.parent_step_id is None:
            is_wrong, parent = bool(callers) and callers[-1] in known, "nobody"
        elif parent is None:  # it has left the buffer
            is_wrong, parent = not callers or callers[-1] in known, "somebody else"
        else:
            is_wrong = parent not in callers or (callers[-1] in known and parent != callers[-1])
            right += not is_wrong
        if is_wrong:
            found.append(f"{called} {parent}")
    return found, right


def sizes():
    """Return the resident memory in MiB, and how many descriptors, threads and steps in flight there are."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, descriptors, threading.active_count(), len(running())


class Disk:
    """A folder, on a small file system of its own where that is possible, with troubles.

    Args:
        folder: an empty one.
        is_mounted: mount a file system there.

    Attributes:
        out: where traces go.
        store: the same place, whether or not the way to it is there.
        troubles: pairs of functions: one makes a trouble, the other ends it.
    """

    def __init__(self, folder, is_mounted):
        self.folder = folder
        self.troubles = [(lambda: self.lead_to("nowhere"), lambda: self.lead_to("store"))]
        if is_mounted:
            mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", folder)
            self.troubles.append((self.fill, self.filler.unlink))
            self.troubles.append((lambda: mount("-o", "remount,ro", folder), lambda: mount("-o", "remount,rw", folder)))
        self.store, self.out = folder / "store", folder / "out"
        self.store.mkdir()
        self.lead_to("store")

    @property
    def filler(self):
        return self.folder / "filler"

    def lead_to(self, name):
        """Let the path of the traces lead to another folder, in one step."""
        (self.folder / "way").symlink_to(name)
        (self.folder / "way").replace(self.folder / "out")

    def fill(self):
        with contextlib.suppress(OSError), self.filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


# --- the run


class Soak:
    """The service, and the one who looks at it.

    Args:
        disk: where it writes.
        seconds: how long it runs.
        seed: where the random numbers begin.
        leak: lose a descriptor in each round, on purpose.
    """

    def __init__(self, disk, seconds, seed, leak):
        self.disk = disk
        self.seconds = seconds
        self.chance = random.Random(seed)
        self.leak = leak
        self.lost = []
        self.stop = threading.Event()
        self.places = threading.Semaphore(THREADS + TASKS)  # one for each call; who has all of them has silence
        self.faults = []
        self.calls = self.forks = self.files = self.parents = 0
        self.outcomes = set()

    def thread(self, first):
        try:
            for number in count(first):
                if self.stop.is_set():
                    return
                with self.places:
                    call(number)
                    self.calls += 1
                self.stop.wait(PAUSE)
        except BaseException:
            self.faults.append(traceback.format_exc())

    async def task(self, first):
        for number in count(first):
            while not self.places.acquire(blocking=False):
                await asyncio.sleep(PAUSE)
            try:
                if self.stop.is_set():
                    return
                await call_in_task(number)
                self.calls += 1
            finally:
                self.places.release()
            await asyncio.sleep(PAUSE)

    def tasks(self):
        async def all_of_them():
            await asyncio.gather(*(self.task(10**9 + number * 10**6) for number in range(TASKS)))

        try:
            asyncio.run(all_of_them())
        except BaseException:
            self.faults.append(traceback.format_exc())

    @contextlib.contextmanager
    def silence(self):
        """Wait until no call runs, and let none begin."""
        for _ in range(THREADS + TASKS):
            self.places.acquire()
        try:
            yield
        finally:
            self.places.release(THREADS + TASKS)

    def switch(self):
        mode = self.chance.choice(("on", "on", "always", "off"))
        self.configure(mode)

    def configure(self, mode):
        flowtrace.configure(mode=mode, out_path=self.disk.out / f"{self.chance.randrange(3)}.json", buffer_size=50)

    def fork(self):
        """Fork in the middle of everything; child and parent both go on with a generator that was begun before."""
        self.forks += 1
        first = -self.forks * 100  # a number that no worker uses
        begun = numbers([], first)
        next(begun)
        child = os.fork()
        if not child:
            self.be_a_child(first, begun)
        for _ in begun:
            pass
        if os.waitpid(child, 0)[1]:
            self.faults.append("a forked child failed, or hung")

    def be_a_child(self, first, begun):
        status = 1
        try:
            faulthandler.dump_traceback_later(LONGEST_CHILD, exit=True)
            for item in begun:
                assert item[0] == f"numbers:{first}"
            if self.forks % 2:
                self.configure("always")
            for number in range(first + 10, first + 14):
                call(number)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def look(self):
        """Read every file, and take away those of the forked children."""
        for path in sorted(self.disk.store.iterdir()):
            is_childs = CHILDS_NAME.fullmatch(path.name)
            if not is_childs and not NAME.fullmatch(path.name):
                self.faults.append(f"a file of another name: {path.name}")
                continue
            try:
                trace = flowtrace.load_trace(path)
            except flowtrace.FlowtraceError as error:
                self.faults.append(f"a torn file: {error}")
                continue
            found, right = wrong(trace)
            self.faults += found
            for finding in flowtrace.validate(path):
                # a child that dies in a generator of its parent does not have that one's step in flight
                if not (is_childs and finding.code == "parent-unknown"):
                    self.faults.append(f"{path.name}: {finding}")
            self.outcomes.add(trace.run.outcome)
            self.files += 1
            self.parents += right
            if is_childs:
                path.unlink()

    def round(self, trouble):
        """Let one trouble come and go, then look at everything in silence; return the sizes."""
        self.switch()
        self.fork()
        begin, end = trouble
        if begin == self.disk.fill:
            begin()
        else:  # a writer between its last two steps could not take its file back from a disk that is gone
            with self.silence():
                begin()
        self.switch()
        self.fork()
        self.stop.wait(PAUSE)
        end()
        self.fork()
        self.stop.wait(PAUSE)
        if self.leak:
            self.lost.append(os.open(os.devnull, os.O_RDONLY))
        with self.silence():
            if flowtrace.get_recorder().config.mode != "off" and flowtrace.dump() is None:
                self.faults.append("the disk is good again, and nothing was written")
            self.look()
            return sizes()

    def run(self):
        """Run the service; return how much each size has grown since the warm-up."""
        workers = [threading.Thread(target=self.thread, args=(number * 10**6,)) for number in range(1, THREADS + 1)]
        workers.append(threading.Thread(target=self.tasks))
        for worker in workers:
            worker.start()
        began = time.monotonic()
        first = last = None
        try:
            for number, trouble in enumerate(cycle(self.disk.troubles), 1):
                last = self.round(trouble)
                lasted = time.monotonic() - began
                if first is None and number >= FEWEST_ROUNDS / 2 and lasted > self.seconds * 0.3:
                    first = last
                elif self.faults or (number >= FEWEST_ROUNDS and lasted > self.seconds):
                    break
        finally:
            self.stop.set()
            for worker in workers:
                worker.join()
        self.look()
        return [after - before for before, after in zip(first or last, last, strict=True)]

    def report(self, grown):
        """Print what was done, and return what is wrong."""
        memory, descriptors, threads, steps = grown
        print(
            f"{self.calls} calls, {self.forks} forks, {self.files} files with {self.parents} parents; grown by "
            f"{memory:.1f} MiB, {descriptors} descriptors, {threads} threads, {steps} steps in flight"
        )
        if memory > MOST_MIB:
            self.faults.append(f"resident memory grew by {memory:.1f} MiB, more than {MOST_MIB}")
        for size, name in ((descriptors, "descriptors"), (threads, "threads"), (steps, "steps in flight")):
            if size > 0:
                self.faults.append(f"{size} more {name}")
        if running():
            self.faults.append(f"{len(running())} steps never ended")
        if not self.parents or "failed" not in self.outcomes:
            self.faults.append(f"too little was seen: {self.parents} parents, {sorted(self.outcomes)}")
        return self.faults


def in_own_mounts():
    """Return the command that gives a program mounts of its own, which end with it; nothing where it can't be had."""
    command = [shutil.which("unshare") or "unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    try:
        probe = [*command, "mount", "-t", "tmpfs", "tmpfs", tempfile.gettempdir()]
        return command if subprocess.run(probe, capture_output=True, check=False).returncode == 0 else []
    except OSError:
        return []


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--disk", choices=("auto", "folder", "tmpfs"), default="auto")
    parser.add_argument("--leak", action="store_true")
    options = parser.parse_args()
    if options.disk == "auto":
        command = in_own_mounts()
        again = [*command, sys.executable, __file__, *sys.argv[1:], "--disk", "tmpfs" if command else "folder"]
        os.execv(again[0], again)
    print(f"seed {options.seed}, {options.disk}", flush=True)
    # 3.12 warns of forks beside threads, which this is about
    warnings.filterwarnings("ignore", ".*multi-threaded.*", DeprecationWarning)
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder), options.disk == "tmpfs")
        soak = Soak(disk, options.seconds, options.seed, options.leak)
        try:
            grown = soak.run()
        finally:
            flowtrace.configure(mode="off")
            if options.disk == "tmpfs":
                subprocess.run(["umount", folder], check=True)
    faults = soak.report(grown)
    for fault in faults[:20]:
        print(f"FAULT {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
