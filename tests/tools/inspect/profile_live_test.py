#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""check, stat, top, heap, diff and options on running programs (redis-server and python3 under load), and on others
that they cannot read.

Usage: profile_live_test.py TARN COMPILER STACKS     (STACKS: profile_stacks_program.cc)
"""

import errno
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from patience import PATIENCE_SECONDS
from system_calls import refuse_system_call, without_memory_file

HERE = os.path.dirname(os.path.abspath(__file__))
TARN = COMPILER = STACKS = None
LIBRARY = os.environ["TARN_LIB"]


def tarn(*arguments, code=0):
    """Returns the tool's stdout and stderr; its exit code must be this one."""
    result = subprocess.run([TARN, *map(str, arguments)], capture_output=True, timeout=PATIENCE_SECONDS, check=False)
    error = result.stderr.decode()
    if result.returncode != code:
        raise AssertionError("tarn %s: exit code %d, not %d\n%s%s" % (arguments, result.returncode, code,
                                                                     result.stdout.decode(errors="replace"), error))
    return result.stdout.decode(errors="replace"), error


def pprof_top(path, *arguments):
    environment = dict(os.environ, HOME=tempfile.gettempdir(), PPROF_TMPDIR=tempfile.gettempdir())
    return subprocess.run(["go", "tool", "pprof", "-top", *arguments, path], env=environment, check=True, text=True,
                          capture_output=True, timeout=PATIENCE_SECONDS).stdout


class Program:
    """A program on tarn, until the end of the `with`."""

    def __init__(self, *command, preload=LIBRARY, **environment):
        variables = dict(os.environ, **environment)
        if preload:
            variables["LD_PRELOAD"] = preload
        self.process = subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)
        self.pid = self.process.pid

    def wait_for_cat(self):
        """The command is cat. Waits until the loader is done with it. Right after exec, neither its name nor its
        environment can be seen from outside, and not all is mapped."""
        self.process.stdin.write(b"x\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != b"x\n":
            raise AssertionError("cat has ended")
        return self

    def wait_ready(self):
        while b"ready" not in (line := self.process.stdout.readline()):
            if not line:
                raise AssertionError("the program has ended")
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def python_load():
    return Program("/usr/bin/python3", os.path.join(HERE, "profile_load.py"), PYTHONMALLOC="malloc").wait_ready()


class Live(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="profile_live_test.")
        self.addCleanup(shutil.rmtree, self.directory)

    def path(self, name):
        return os.path.join(self.directory, name)

    def compile(self, name, source, *flags):
        program = self.path(name)
        with open(program + ".cc", "w", encoding="utf-8") as file:
            file.write(source)
        subprocess.run([COMPILER, "-O2", "-g", "-o", program, program + ".cc", *flags], check=True, timeout=PATIENCE_SECONDS)
        return program

    def test_python_under_load(self):
        with python_load() as program:
            text, _ = tarn("check", program.pid)
            self.assertRegex(text, r"ok   malloc, free, operator new -> libtarn\.so\S* \S+ \(preload\)")
            self.assertEqual(json.loads(tarn("check", program.pid, "--json")[0])["uses_tarn"], True)

            text, _ = tarn("stat", program.pid)
            self.assertEqual(len(text.splitlines()), 12)
            document = json.loads(tarn("stat", program.pid, "--json")[0])
            stats = document["stats"]
            self.assertEqual(document["schema"], "tarn-stat/1")
            self.assertGreater(stats["alloc_bytes"], 64 << 20)
            self.assertLess(stats["alloc_bytes"], 110 << 20)
            self.assertGreater(stats["rss_bytes"], stats["alloc_bytes"])
            self.assertEqual(sum(value for name, value in stats["classes"].items() if name != "mapped_bytes"),
                             stats["classes"]["mapped_bytes"])
            self.assertRegex(tarn("stat", program.pid, "-v")[0], r"(?m)^ +1024 +\d+ +\d+ +\d{5} ")
            self.assertGreater(stats["stalls"], 0)
            self.assertEqual(sum(stats["stalls_by_time"]), stats["stalls"])
            self.assertGreater(stats["stall_total_ns"], stats["stall_longest_ns"])
            # On a busy machine the program may have no turn between two looks.
            for interval in "0.2", "2", "20":
                moments = [json.loads(line) for line in
                           tarn("stat", program.pid, "--json", "--watch", interval, "--count", "3")[0].splitlines()]
                self.assertEqual(len(moments), 3)
                if moments[2]["stats"]["mallocs"] > moments[0]["stats"]["mallocs"]:
                    break
            self.assertGreater(moments[2]["stats"]["mallocs"], moments[0]["stats"]["mallocs"])

            for interval in "0.3", "3", "30":
                looks = [json.loads(line) for line in
                         tarn("top", program.pid, "--json", "--interval", interval, "--count", "2")[0].splitlines()]
                self.assertIsNone(looks[0]["sites"][0]["bytes_per_s"])
                largest = max(looks[1]["size_classes"], key=lambda row: row["live_bytes"])
                self.assertEqual(largest["size_bytes"], 1024)
                mallocs_per_s = sum(row["mallocs_per_s"] for row in looks[1]["size_classes"])
                if mallocs_per_s > 1000:
                    break
            self.assertGreater(mallocs_per_s, 1000)
            self.assertGreater(looks[1]["sites"][0]["live_bytes"], 32 << 20)

            # The profile says what the counters say, give or take what chance does to about 130 samples.
            first = self.path("first.pb.gz")
            tarn("heap", program.pid, "-o", first)
            top = pprof_top(first, "-unit=mb")
            total = float(re.search(r"of (\S+)MB total", top).group(1))
            self.assertAlmostEqual(total / (stats["alloc_bytes"] / (1 << 20)), 1, delta=0.4)
            self.assertIn("_PyEval_EvalFrameDefault", top)
            self.assertRegex(tarn("diff", first, first)[0], r"inuse_space: .*\(\+0 B, \+0.0 %\)\nno function has changed")

            # Two moments: nothing is held more, and much was allocated.
            grown = self.path("grown.pb.gz")
            for seconds in "0.5", "5", "50":
                tarn("heap", program.pid, "--seconds", seconds, "-o", grown)
                allocated = pprof_top(grown, "-sample_index=alloc_space", "-unit=mb")
                # A total of nothing has no unit.
                found = re.search(r"of (\S+)MB total", allocated)
                allocated_mb = float(found.group(1)) if found else 0
                if allocated_mb > 1:
                    break
            self.assertGreater(allocated_mb, 1)

            # A file that is written without names gets them later.
            raw = self.path("raw.pb.gz")
            tarn("heap", program.pid, "--no-names", "-o", raw)
            tarn("heap", raw, "-o", self.path("named.pb.gz"))
            self.assertIn("_PyEval_EvalFrameDefault", pprof_top(self.path("named.pb.gz")))

    def test_redis_under_load(self):
        server = shutil.which("redis-server") or self.skipTest("no redis-server here")
        path = self.path("redis.socket")
        with Program(server, "--port", "0", "--unixsocket", path, "--save", "", "--dir", self.directory) as program:
            load = ["redis-benchmark", "-s", path, "-r", "100000", "-d", "500", "-P", "16", "-q", "-t", "set"]
            end = time.monotonic() + PATIENCE_SECONDS
            while subprocess.run(["redis-cli", "-s", path, "ping"], capture_output=True, check=False).returncode != 0:
                self.assertLess(time.monotonic(), end, "redis-server does not answer")
                time.sleep(0.1)
            before = self.path("before.pb.gz")
            tarn("heap", program.pid, "-o", before)
            with subprocess.Popen([*load, "-n", "200000"], stdout=subprocess.DEVNULL) as process:
                while process.poll() is None:
                    tarn("heap", program.pid, "-o", self.path("during.pb.gz"))
                    tarn("stat", program.pid)
                    tarn("top", program.pid)
                self.assertEqual(process.returncode, 0)
            after = self.path("after.pb.gz")
            tarn("heap", program.pid, "-o", after)
            stats = json.loads(tarn("stat", program.pid, "--json")[0])["stats"]
            self.assertEqual(stats["heap_objects"], stats["mallocs"] - stats["frees"])
            document = json.loads(tarn("diff", before, after, "--json", "--cum", "-o", self.path("diff.pb.gz"))[0])
            self.assertGreater(document["after"] - document["before"], 20 << 20)
            self.assertIn("main", [row["function"] for row in document["functions"]])
            self.assertIn("zmalloc", tarn("diff", before, after)[0])
            self.assertIn("zmalloc", pprof_top(self.path("diff.pb.gz")))
            # Redis is unharmed.
            ping = subprocess.run(["redis-cli", "-s", path, "ping"], capture_output=True, text=True, timeout=PATIENCE_SECONDS,
                                  check=True)
            self.assertEqual(ping.stdout, "PONG\n")

    def test_functions_of_a_program_of_ours(self):
        """Names, lines and amounts of a C++ program, against what it holds."""
        program = self.compile("holder", """
            #include <cstdio>
            #include <vector>
            struct Item { char bytes[4096]; };
            __attribute__((noinline)) Item* make() { return new Item(); }
            __attribute__((noinline)) void* keep_large() { return new char[32 << 20](); }
            std::vector<Item*> items;
            int main() {
              for (int i = 0; i < 16384; ++i) items.push_back(make());
              void* volatile large = keep_large();
              std::puts("ready");
              std::fflush(stdout);
              return std::getchar() == 0 || large == nullptr;
            }""")
        with Program(program).wait_ready() as running:
            path = self.path("heap.pb.gz")
            tarn("heap", running.pid, "-o", path)
            rows = {row["function"]: row for row in json.loads(tarn(
                "diff", self.empty_profile(), path, "--cum", "--json")[0])["functions"]}
            # 64 MiB of about 128 samples; 32 MiB at once are sampled for certain.
            self.assertAlmostEqual(rows["make"]["after"] / (64 << 20), 1, delta=0.4)
            self.assertAlmostEqual(rows["keep_large"]["after"] / (32 << 20), 1, delta=0.01)
            self.assertEqual(rows["keep_large"]["place"], program + ".cc:6")
            self.assertEqual(rows["main"]["after"], 0)
            self.assertGreaterEqual(rows["main"]["after_with_callees"],
                                    rows["make"]["after"] + rows["keep_large"]["after"])

    def test_many_stacks_take_little_memory(self):
        """10^6 objects by 10^4 stacks: below 32 MiB in the tool, all names included. The time is reported only."""
        with Program(STACKS, TARN_PROFILE_RATE="1").wait_ready() as program:
            document = json.loads(tarn("stat", program.pid, "--json")[0])
            self.assertGreaterEqual(document["stats"]["heap_objects"], 1000000)
            self.assertGreaterEqual(document["profile"]["stacks"], 10000)
            path = self.path("stacks.pb.gz")
            start = time.monotonic()
            child = subprocess.Popen([TARN, "heap", str(program.pid), "-q", "-o", path])
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            self.assertEqual(child.returncode, 0)
            print("tarn heap of %d stacks: %.2f s (CPU %.2f s), %.1f MiB" % (
                document["profile"]["stacks"], time.monotonic() - start, usage.ru_utime + usage.ru_stime,
                usage.ru_maxrss / 1024), file=sys.stderr)
            self.assertLess(usage.ru_maxrss, 32 << 10)
            raw = subprocess.run(["go", "tool", "pprof", "-raw", path], capture_output=True, text=True, timeout=PATIENCE_SECONDS,
                                 env=dict(os.environ, HOME=self.directory), check=True).stdout
            self.assertEqual(set(re.findall(r"\(anonymous namespace\)::Inner<(\d+)> ", raw)),
                             {str(number) for number in range(100)})
            samples = raw[raw.index("Samples:"):raw.index("Locations")]
            self.assertGreaterEqual(len(re.findall(r"(?m)^ +\d+ +\d+ +\d+ +\d+: ", samples)), 10000)

    def test_policies(self):
        """Limits, the scavenger and stalls: the figures inside the process and those seen from outside are the same."""
        program = self.compile("policies", """
            #include <tarn/limits.h>
            #include <cstdio>
            #include <cstdlib>
            #include <cstring>
            int main() {
              void* blocks[48];
              for (void*& block : blocks) block = std::memset(std::malloc(1 << 20), 1, 1 << 20);
              if (std::malloc(std::size_t{1} << 30) != nullptr) return 2;
              for (void* block : blocks) std::free(block);
              tarn_background_tick();
              tarn_limit_stats stats;
              tarn_get_limit_stats(&stats);
              std::printf("%llu %llu %llu %llu\\n", (unsigned long long)stats.exceeded,
                          (unsigned long long)stats.hard_failures, (unsigned long long)stats.scavenger_cycles,
                          (unsigned long long)stats.scavenger_released_bytes);
              std::puts("ready");
              std::fflush(stdout);
              return std::getchar() == 0;
            }""", "-std=c++20", "-I", os.path.join(HERE, "../../../allocator/include"), LIBRARY,
                               "-Wl,-rpath," + os.path.dirname(LIBRARY))
        with Program(program, preload=None, TARN_BACKGROUND="off", TARN_MEMORY_LIMIT="32MiB",
                     TARN_HARD_LIMIT="512MiB") as running:
            told = [int(word) for word in running.process.stdout.readline().split()]
            running.wait_ready()
            stats = json.loads(tarn("stat", running.pid, "--json")[0])["stats"]
            self.assertEqual((stats["next_gc_bytes"], stats["hard_limit_bytes"]), (32 << 20, 512 << 20))
            self.assertEqual([stats[name] for name in ("limit_exceeded", "hard_failures", "scavenger_cycles",
                                                       "scavenger_released_bytes")], told)
            self.assertTrue(told[0] > 0 and told[1] > 0 and told[2] > 0, told)
            text, _ = tarn("stat", running.pid, "-v")
            self.assertRegex(text, r"(?m)^limits +soft 32\.0 MiB, exceeded %d times, .*; hard 512 MiB, %d refused$" %
                             tuple(told[:2]))
            self.assertRegex(text, r"(?m)^scavenger +%d cycles, \d+\.\d ms of CPU; " % told[2])
            self.assertRegex(text, r"(?m)^stalls +%d slow paths .*, the longest \d+\.\d{3} ms$" % stats["stalls"])

    def test_named_pools(self):
        """Arenas, pools and heaps with a name: in stat, and in the profile with their memory and as labels."""
        own = self.path("own.pb")
        program = self.compile("pools", """
            #include <tarn/arena.h>
            #include <tarn/fixed_pool.h>
            #include <tarn/memstats.h>
            #include <tarn/profile.h>
            #include <tarn/registry.h>
            #include <cstdio>
            int main() {
              // Buffers of stdio could be sampled between the two profiles.
              std::setvbuf(stdin, nullptr, _IONBF, 0);
              std::setvbuf(stdout, nullptr, _IONBF, 0);
              tarn_arena_options options = {};
              options.name = "requests";
              tarn_arena arena;
              tarn_arena_init(&arena, &options);
              for (int i = 0; i < 3 * 1024; ++i) tarn_arena_allocate(&arena, 1024, 8);
              tarn_arena_get_stats(&arena);
              tarn_fixed_pool_options pool_options = {};
              pool_options.block_bytes = 4096;
              pool_options.block_count = 2048;
              pool_options.name = "blocks";
              tarn_fixed_pool* pool = tarn_fixed_pool_create(&pool_options);
              for (int i = 0; i < 100; ++i) tarn_fixed_pool_allocate(pool);
              if (tarn_fixed_pool_get_stats(pool).allocated != 100) return 5;
              std::size_t holds = 0;
              for (int i = 0; i < 2; ++i) holds += tarn_registry()[i].capacity_bytes;
              const tarn::MemStats stats = tarn::ReadMemStats();
              if (stats.named_pools != 2 || stats.named_pool_bytes != holds) return 2;
              if (stats.named_pool_live_bytes < 3 * 1024 * 1024) return 3;
              if (tarn_write_heap_profile(OWN) != 0) return 4;
              std::puts("ready");
              std::fflush(stdout);
              return std::getchar() == 0;
            }""", "-std=c++20", "-DOWN=\"%s\"" % own, "-I", os.path.join(HERE, "../../../allocator/include"), LIBRARY,
                               "-Wl,-rpath," + os.path.dirname(LIBRARY))
        with Program(program, preload=None).wait_ready() as running:
            pools = {pool["name"]: pool for pool in json.loads(tarn("stat", running.pid, "--json")[0])["pools"]}
            self.assertEqual(set(pools), {"requests", "blocks"})
            self.assertEqual(pools["blocks"]["live_objects"], 100)
            self.assertEqual(pools["blocks"]["kind"], "fixed pool")
            self.assertGreaterEqual(pools["requests"]["capacity_bytes"], 3 << 20)
            text, _ = tarn("stat", running.pid)
            self.assertRegex(text, r"(?m)^requests +arena +1 +\d+ +3\.\S+ MiB +\d\.?\d* MiB ")
            self.assertRegex(text, r"(?m)^blocks +fixed pool +1 +100 ")
            live = self.path("live.pb.gz")
            tarn("heap", running.pid, "-o", live)
            named = self.path("named.pb.gz")
            tarn("heap", own, "-o", named)
            requests_mb = pools["requests"]["capacity_bytes"] / (1 << 20)
            for path in live, own, named:
                top = pprof_top(path, "-unit=mb", "-tagfocus=pool=requests")
                self.assertAlmostEqual(float(re.search(r"(\S+)MB.* \[arena requests\]", top).group(1)), requests_mb,
                                       delta=0.01, msg=top)
                self.assertNotIn("blocks", top)
                tags = subprocess.run(["go", "tool", "pprof", "-tags", path], capture_output=True, text=True, check=True,
                                      timeout=PATIENCE_SECONDS, env=dict(os.environ, HOME=self.directory)).stdout
                self.assertRegex(tags, r"pool: Total .*(\n.*){0,2}: requests")
                self.assertRegex(tags, r"kind: Total .*(\n.*){0,2}: fixed pool")
            # Also from one moment to another, and where nothing has changed.
            tarn("heap", running.pid, "--seconds", "0.1", "-o", self.path("growth.pb.gz"))
            self.assertIn("no function has changed", tarn("diff", live, named)[0])

    def empty_profile(self):
        """A profile of a program on tarn that holds nothing."""
        path = self.path("empty.pb.gz")
        with Program("/bin/cat") as program:
            self.wait_until_used(program)
            tarn("heap", program.pid, "-q", "-o", path)
        return path

    def wait_until_used(self, program):
        """A program that has just been started has not allocated yet."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            if subprocess.run([TARN, "check", str(program.pid)], capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError("not on tarn: " + tarn("check", program.pid, code=4)[0])

    def test_what_is_not_on_tarn(self):
        with Program("/bin/cat", preload=None).wait_for_cat() as program:
            self.assertRegex(tarn("check", program.pid, code=4)[0], "no   it was started without LD_PRELOAD")
            for verb in "stat", "top", "options":
                self.assertRegex(tarn(verb, program.pid, code=4)[1], r"process \d+ \(cat\) does not use tarn")
            tarn("heap", program.pid, "-o", self.path("none"), code=4)
            self.assertFalse(os.path.exists(self.path("none")))
        with Program("/bin/cat", preload="/nonexistent/libtarn.so").wait_for_cat() as program:
            self.assertRegex(tarn("check", program.pid, code=4)[0], "names /nonexistent/libtarn.so, which is not there")
        jemalloc = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
        if os.path.exists(jemalloc):
            with Program("/bin/cat", preload=jemalloc + ":" + LIBRARY).wait_for_cat() as program:
                self.assertRegex(tarn("check", program.pid, code=4)[0], r"libjemalloc\.so\.2 comes first")
        static = self.compile("static", '#include <cstdio>\nint main() { std::puts("ready"); std::fflush(stdout); '
                                        "return std::getchar() == 0; }", "-static")
        with Program(static).wait_ready() as program:
            self.assertRegex(tarn("check", program.pid, code=4)[0], "statically linked")
        self.assertRegex(tarn("check", static, code=4)[0], "statically linked")
        self.assertRegex(tarn("check", "/bin/cat")[0], "ok   .*can be preloaded: tarn run -- /bin/cat")
        own = self.compile("own", '#include <cstdlib>\nextern "C" void* malloc(size_t) { return nullptr; }\n'
                                  "int main() {}", "-rdynamic")
        self.assertRegex(tarn("check", own, code=4)[0], "has a malloc of its own")
        tarn("check", "/nonexistent", code=127)

    def test_who_is_gone_or_forbidden(self):
        gone = subprocess.Popen(["/bin/true"])
        gone.wait()
        for verb in "check", "stat", "top", "options":
            self.assertRegex(tarn(verb, gone.pid, code=1)[1], "there is no process %d" % gone.pid)
        tarn("stat", "redis", code=2)
        tarn("stat", code=2)
        # A user without rights is told whom to become.
        if os.geteuid() == 0:
            with Program("/bin/cat") as program:
                self.wait_until_used(program)
                result = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", TARN, "stat", str(program.pid)],
                                        capture_output=True, text=True, check=False)
                if "Permission denied" not in result.stderr:  # that of the tool's directory
                    self.assertEqual(result.returncode, 1)
                    self.assertRegex(result.stderr, "not permitted to look into process .*another user")
        zombie = subprocess.Popen(["/bin/true"])
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        self.assertRegex(tarn("stat", zombie.pid, code=1)[1], "has ended, and only waits for its parent")
        zombie.wait()

    @unittest.skipUnless(platform.machine() == "x86_64", "the number of the system call is x86-64's")
    def test_a_sandbox_without_process_vm_readv(self):
        """The tool under a container's seccomp profile, with both usual errors: /proc/PID/mem serves."""
        with Program("/bin/cat") as program:
            self.wait_until_used(program)
            for error in errno.EPERM, errno.ENOSYS:
                for verb in "stat", "check":
                    result = subprocess.run([TARN, verb, str(program.pid)], capture_output=True, text=True, check=False,
                                            preexec_fn=lambda error=error: refuse_system_call(310, error))
                    self.assertEqual(result.returncode, 0, result.stderr)

    @unittest.skipUnless(platform.machine() == "x86_64", "the number of the system call is x86-64's")
    def test_a_sandbox_without_proc_pid_mem(self):
        """process_vm_readv serves then, and where that is refused as well, one line says so."""
        with Program("/bin/cat") as program:
            self.wait_until_used(program)
            hidden = without_memory_file(program.pid, self.directory)
            if hidden is None:
                self.skipTest("no namespaces here")
            for verb in "stat", "check":
                command = [*hidden, TARN, verb, str(program.pid)]
                result = subprocess.run(command, capture_output=True, text=True, check=False)
                self.assertEqual(result.returncode, 0, result.stderr)
                for error, said in ((errno.EPERM, "not permitted to look into process"),
                                    (errno.ENOSYS, "no process_vm_readv here.*outside of the container")):
                    result = subprocess.run(command, capture_output=True, text=True, check=False,
                                            preexec_fn=lambda error=error: refuse_system_call(310, error))
                    self.assertEqual(result.returncode, 1, result.stdout)
                    self.assertRegex(result.stderr, said)
                    self.assertEqual(result.stderr.count("\n"), 1, result.stderr)

    def test_a_container(self):
        """Other numbers of processes, and the library where only the process sees it."""
        script = ("mount -t tmpfs none %s && cp %s %s/libtarn.so.0 && LD_PRELOAD=%s/libtarn.so.0 PYTHONMALLOC=malloc "
                  "exec /usr/bin/python3 %s" % (self.directory, LIBRARY, self.directory, self.directory,
                                                os.path.join(HERE, "profile_load.py")))
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        if os.geteuid() != 0:
            namespaces += ["--user", "--map-root-user"]
        if subprocess.run([*namespaces, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("no namespaces here")
        with Program(*namespaces, "sh", "-c", script, preload=None).wait_ready() as outer:
            with open("/proc/%d/task/%d/children" % (outer.pid, outer.pid), encoding="ascii") as file:
                inner = int(file.read())
            self.assertRegex(tarn("check", inner)[0], r"-> libtarn\.so\.0 .*\(preload\)")
            self.assertRegex(tarn("stat", inner)[0], r"process +%d \(python3\)" % inner)
            profile = self.path("container.pb.gz")
            tarn("heap", inner, "-q", "-o", profile)
            self.assertRegex(pprof_top(profile), r"PyBytes|PyObject|unicode")

    def test_blocks_that_are_not_ours(self):
        """Blocks that look like a snapshot but are of another version, or lead nowhere."""
        source = """
            #include <tarn/snapshot.h>
            #include <cstdio>
            alignas(64) tarn_snapshot_block block = {
              .magic = %s, .version = TARN_SNAPSHOT_VERSION, .bytes = sizeof(block), .library_version = "9.9.9", .started = 1,
              .size_class_count = 40, .size_classes_address = 64};
            int main() {
              std::puts("ready");
              std::fflush(stdout);
              return std::getchar() == block.magic[0];
            }"""
        flags = ["-std=c++20", "-I", os.path.join(HERE, "../../../allocator/include")]
        later = self.compile("later", source % '"tarn.snapshot.9"', *flags)
        with Program(later, preload=None).wait_ready() as program:
            self.assertRegex(tarn("stat", program.pid, code=1)[1], r"uses tarn 9\.9\.9, whose snapshot .* does not know")
            self.assertRegex(tarn("check", program.pid)[0], "another version than this tool's")
        nowhere = self.compile("nowhere", source % "TARN_SNAPSHOT_MAGIC", *flags)
        with Program(nowhere, preload=None).wait_ready() as program:
            self.assertRegex(tarn("heap", program.pid, "-o", self.path("out"), code=1)[1], "can no longer be read")

    def test_the_end_of_what_is_watched(self):
        with python_load() as program:
            watch = subprocess.Popen([TARN, "stat", str(program.pid), "--watch", "0.05"], stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True)
            self.assertIn("process", watch.stdout.readline())
            program.process.kill()
            program.process.wait()
            _, error = watch.communicate(timeout=PATIENCE_SECONDS)
            self.assertEqual(watch.returncode, 0)
            self.assertRegex(error, r"process \d+ \(python3\) (has ended|can no longer be read)")
        with python_load() as program:
            watch = subprocess.Popen([TARN, "top", str(program.pid), "--interval", "60", "--count", "2"],
                                     stdout=subprocess.PIPE, text=True)
            self.assertIn("live", watch.stdout.readline())
            watch.send_signal(signal.SIGINT)
            watch.communicate(timeout=PATIENCE_SECONDS)
            self.assertEqual(watch.returncode, 0)

    def test_wrong_files(self):
        damaged = self.path("damaged")
        with open(damaged, "wb") as file:
            file.write(b"\x1f\x8b\x08\x00garbage")
        for content in damaged, "/bin/true", "/nonexistent", "/dev/null", self.directory:
            said = tarn("diff", content, content, code=1)[1]
            self.assertRegex(said, "^tarn: diff: %s: " % re.escape(content))
            if content in (damaged, "/bin/true"):
                self.assertIn("tarn heap PID -o FILE writes a whole one", said)
            tarn("heap", content, "-o", self.path("out"), code=1)
        self.assertFalse(os.path.exists(self.path("out")))
        good = self.empty_profile()
        with open(good, "rb") as whole, open(damaged, "wb") as file:
            file.write(whole.read()[:-20])
        self.assertRegex(tarn("heap", damaged, "-o", self.path("out"), code=1)[1], "ends too early")
        self.assertRegex(tarn("diff", good, good, "--type", "cpu", code=1)[1], "it has alloc_objects, alloc_space")
        tarn("heap", good, "-o", "/dev/full", code=1)
        tarn("heap", good, "--seconds", "1", "-o", self.path("out"), code=2)


if __name__ == "__main__":
    TARN, COMPILER, STACKS = sys.argv[1:4]
    if not shutil.which("go"):
        print("no go here; tools/install_packages test gets it")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
