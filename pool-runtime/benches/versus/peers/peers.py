"""Measures Python's process pools, for the benchmark `versus`.

Reads requests, `measure times parameter`, one a line; answers each with one number, in seconds if it is a time.
"""

import array
import concurrent.futures
import json
import multiprocessing
import sys
import time


def add_one(n):
    return n + 1


def echo(data):
    return data


def ends(numbers):
    return numbers[0] + numbers[-1]


def compute(seed, steps):
    x = seed
    for _ in range(steps):
        x = (x * 0x5851F42D4C957F2D + 0x14057B7EF767814F) & 0xFFFFFFFFFFFFFFFF
    return x


def compute_pair(pair):
    return compute(*pair)


def wait_for(file):
    import os

    while not os.path.exists(file):
        time.sleep(0.005)


def feed(queue, ready, start, items):
    ready.release()
    start.wait()
    for n in range(items):
        queue.put(n)


def drain(queue, ready):
    ready.release()
    while queue.get() is not None:
        pass


def lock_often(lock, ready, start, times):
    ready.release()
    start.wait()
    for _ in range(times):
        lock.acquire()
        lock.release()


def send_through(pipe):
    while (message := pipe.recv()) is not None:
        pipe.send(message)


def measure_messages(pipe):
    while message := pipe.recv_bytes():
        pipe.send(len(message))


def send_back(there, back):
    while (item := there.get()) is not None:
        back.put(item)


def increment(value, ready, start, times):
    ready.release()
    start.wait()
    for _ in range(times):
        with value.get_lock():
            value.value += 1


class Multiprocessing:
    def __init__(self, processes, method=None):
        self.pool = multiprocessing.get_context(method).Pool(processes)

    def apply(self, function, argument):
        return self.pool.apply(function, (argument,))

    def burst(self, function, arguments):
        jobs = [self.pool.apply_async(function, (argument,)) for argument in arguments]
        return [job.get() for job in jobs]

    def map(self, function, arguments):
        return self.pool.map(function, arguments)

    def end(self):
        self.pool.terminate()
        self.pool.join()


class Spawned(Multiprocessing):
    def __init__(self, processes):
        super().__init__(processes, "spawn")


class Futures:
    def __init__(self, processes):
        self.pool = concurrent.futures.ProcessPoolExecutor(processes)

    def apply(self, function, argument):
        return self.pool.submit(function, argument).result()

    def burst(self, function, arguments):
        jobs = [self.pool.submit(function, argument) for argument in arguments]
        return [job.result() for job in jobs]

    def map(self, function, arguments):
        return list(self.pool.map(function, arguments))

    def end(self):
        self.pool.shutdown()


class Loop:
    """No pool: what the interpreter itself takes."""

    def __init__(self, processes):
        pass

    def apply(self, function, argument):
        return function(argument)

    def map(self, function, arguments):
        return [function(argument) for argument in arguments]

    burst = map

    def end(self):
        pass


class Peer:
    def __init__(self, kind, processes):
        kinds = {
            "multiprocessing": Multiprocessing,
            "multiprocessing spawn": Spawned,
            "concurrent.futures": Futures,
            "Python loop": Loop,
        }
        self.make = lambda: kinds[kind](processes)
        self.made = None
        self.values = {}

    @property
    def pool(self):
        if self.made is None:
            self.made = self.make()
            self.made.burst(add_one, range(100))
        return self.made

    def kept(self, name, make):
        if name not in self.values:
            self.values[name] = make()
        return self.values[name]

    def round_trip(self, times, _):
        apply = self.pool.apply
        begun = time.perf_counter()
        for n in range(times):
            apply(add_one, n)
        return time.perf_counter() - begun

    def round_trip_after_rest(self, times, milliseconds):
        taken = 0
        for n in range(times):
            self.pool.apply(add_one, n)
            time.sleep(milliseconds / 1e3)
            begun = time.perf_counter()
            self.pool.apply(add_one, n)
            taken += time.perf_counter() - begun
        return taken

    def burst(self, times, _):
        pool = self.pool
        begun = time.perf_counter()
        results = pool.burst(add_one, range(times))
        taken = time.perf_counter() - begun
        assert results[-1] == times
        return taken

    def map(self, times, _):
        pool = self.pool
        begun = time.perf_counter()
        results = pool.map(add_one, range(times))
        taken = time.perf_counter() - begun
        assert results[-1] == times
        return taken

    def echo(self, times, size):
        data = self.kept("bytes", lambda: bytes(size))
        begun = time.perf_counter()
        for _ in range(times):
            data = self.pool.apply(echo, data)
        taken = time.perf_counter() - begun
        assert len(data) == size
        return taken

    def lend(self, times, count):
        numbers = self.kept("numbers", lambda: array.array("d", bytes(8 * count)))
        begun = time.perf_counter()
        for _ in range(times):
            self.pool.apply(ends, numbers)
        return time.perf_counter() - begun

    def start(self, times, _):
        taken = 0
        for _ in range(times):
            begun = time.perf_counter()
            pool = self.make()
            pool.apply(add_one, 1)
            taken += time.perf_counter() - begun
            pool.end()
        return taken

    def steps(self, _, microseconds):
        """How many steps of `compute` take so long."""

        def measure(steps):
            begun = time.perf_counter()
            for _ in range(20000 // steps):
                compute(1, steps)
            return (time.perf_counter() - begun) / (20000 // steps)

        def calibrate():
            # The best of several, as whatever else happens only makes it slower.
            short, long = (min(measure(steps) for _ in range(20)) for steps in (10, 1000))
            each = (long - short) / 990
            return short - 10 * each, each

        overhead, each = self.kept("steps", calibrate)
        return max(0, round((microseconds / 1e6 - overhead) / each))

    def compute_map(self, times, steps):
        return self.compute(times, steps, self.pool.map)

    def compute_burst(self, times, steps):
        return self.compute(times, steps, self.pool.burst)

    def compute(self, times, steps, run):
        begun = time.perf_counter()
        run(compute_pair, [(seed, steps) for seed in range(times)])
        return time.perf_counter() - begun

    def memory_per_job(self, times, _):
        """By how much memory grows with each job that waits behind workers that are kept busy."""
        import os
        import tempfile

        def resident():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        with tempfile.TemporaryDirectory() as directory:
            file = os.path.join(directory, "go")
            pool = self.pool.pool
            keepers = [pool.apply_async(wait_for, (file,)) for _ in range(2)]
            jobs = [None] * times
            before = resident()
            for n in range(times):
                jobs[n] = pool.apply_async(add_one, (n,))
            # A thread of the pool turns them into bytes and writes these into a pipe.
            time.sleep(0.5)
            grown = resident() - before
            with open(file, "w"):
                pass
            for job in keepers + jobs:
                job.get()
        return grown / times

    def queue(self, times, ends):
        """So many items through one queue, from `ends >> 8` processes to `ends & 255`."""
        producers, consumers = ends >> 8, ends & 255
        queue, start = multiprocessing.Queue(), multiprocessing.Event()
        ready = multiprocessing.Semaphore(0)
        shares = [times // producers + (n < times % producers) for n in range(producers)]
        feeding = [multiprocessing.Process(target=feed, args=(queue, ready, start, share)) for share in shares]
        draining = [multiprocessing.Process(target=drain, args=(queue, ready)) for _ in range(consumers)]
        for process in feeding + draining:
            process.start()
        for _ in feeding + draining:
            ready.acquire()
        begun = time.perf_counter()
        start.set()
        for process in feeding:
            process.join()
        for _ in draining:
            queue.put(None)
        for process in draining:
            process.join()
        return time.perf_counter() - begun

    def queue_round_trip(self, times, _):
        there, back = multiprocessing.Queue(), multiprocessing.Queue()
        process = multiprocessing.Process(target=send_back, args=(there, back))
        process.start()
        there.put(0)
        back.get()
        begun = time.perf_counter()
        for n in range(times):
            there.put(n)
            assert back.get() == n
        taken = time.perf_counter() - begun
        there.put(None)
        process.join()
        return taken

    def pipe_round_trip(self, times, _):
        here, there = multiprocessing.Pipe()
        process = multiprocessing.Process(target=send_through, args=(there,))
        process.start()
        here.send(0)
        here.recv()
        begun = time.perf_counter()
        for n in range(times):
            here.send(n)
            assert here.recv() == n
        taken = time.perf_counter() - begun
        here.send(None)
        process.join()
        return taken

    def pipe_bandwidth(self, times, size):
        here, there = multiprocessing.Pipe()
        process = multiprocessing.Process(target=measure_messages, args=(there,))
        process.start()
        message = b"x" * size
        here.send_bytes(b"x")
        here.recv()
        begun = time.perf_counter()
        for _ in range(times):
            here.send_bytes(message)
            assert here.recv() == size
        taken = time.perf_counter() - begun
        here.send_bytes(b"")
        process.join()
        return taken

    def lock(self, times, _):
        lock = self.kept("lock", multiprocessing.Lock)
        begun = time.perf_counter()
        for _ in range(times):
            lock.acquire()
            lock.release()
        return time.perf_counter() - begun

    def value(self, times, _):
        """Two processes, this being one of them."""
        value, ready, start = multiprocessing.Value("Q", 0), multiprocessing.Semaphore(0), multiprocessing.Event()
        process = multiprocessing.Process(target=increment, args=(value, ready, start, times // 2))
        process.start()
        ready.acquire()
        begun = time.perf_counter()
        start.set()
        increment(value, ready, start, times - times // 2)
        process.join()
        taken = time.perf_counter() - begun
        assert value.value == times
        return taken

    def contended_lock(self, times, _):
        """Two processes, this being one of them."""
        lock, ready, start = multiprocessing.Lock(), multiprocessing.Semaphore(0), multiprocessing.Event()
        process = multiprocessing.Process(target=lock_often, args=(lock, ready, start, times // 2))
        process.start()
        ready.acquire()
        begun = time.perf_counter()
        start.set()
        lock_often(lock, ready, start, times - times // 2)
        process.join()
        return time.perf_counter() - begun

    def manager(self, times, _):
        entries = self.kept("server", multiprocessing.Manager).dict()
        entries[7] = 0
        begun = time.perf_counter()
        for n in range(times):
            entries[7] = n
        return time.perf_counter() - begun

    def ready(self, _, __):
        self.pool
        return 0


def main():
    peer = Peer(sys.argv[1], int(sys.argv[2]))
    # Not `for line in sys.stdin`: a pool made meanwhile by fork would share its buffer.
    for line in iter(sys.stdin.readline, ""):
        measure, times, parameter = line.split()
        if measure == "end":
            break
        print(json.dumps(getattr(peer, measure)(int(times), int(parameter))), flush=True)
    if peer.made is not None:
        peer.made.end()


if __name__ == "__main__":
    main()
