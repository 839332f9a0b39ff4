// SPDX-License-Identifier: Apache-2.0
//
// tarn::Monitor in a program of its own: its pages, its errors, and that it disturbs nobody.
#include <arpa/inet.h>
#include <dirent.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <tarn/limits.h>
#include <tarn/monitor.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/base/patience.h"

namespace {

using namespace std::chrono_literals;

tarn::MonitorOptions Options() {
  tarn::MonitorOptions options;
  options.listen = "127.0.0.1:0";
  options.interval = 100ms;
  // In so short an interval, reading debug information for a profile is much, and so is what is given back after it;
  // and pauses are what a busy machine makes them.
  for (const char* off :
       {"alloc_rate_mb_sec", "pause_ms", "returned_mb_sec", "stall_ms_sec", "limit_percent", "fragmentation_percent"})
    options.thresholds[off] = std::numeric_limits<double>::infinity();
  return options;
}

// The answer of the server of this URL, head and body; empty where there is none.
std::string Ask(const std::string& url, const std::string& request_line, const std::string& headers = "") {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1))));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::string answer;
  if (connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    const std::string request =
        request_line + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + "\r\n";
    EXPECT_EQ(send(client, request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
    char part[4096];
    for (ssize_t count; (count = recv(client, part, sizeof part, 0)) > 0;)
      answer.append(part, static_cast<std::size_t>(count));
  }
  close(client);
  return answer;
}

std::string Get(const std::string& url, const std::string& path) { return Ask(url, "GET " + path); }

// In a child, which must end well.
template <typename Body>
void InChild(const Body& body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(tarn_test::kPatienceSeconds);
    body();
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

std::string Complaint(const tarn::MonitorOptions& options) {
  try {
    const tarn::Monitor monitor(options);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

TEST(Embedded, Pages) {
  const tarn::Monitor monitor(Options());
  const std::string metrics = Get(monitor.url(), "/metrics");
  EXPECT_TRUE(metrics.starts_with("HTTP/1.1 200")) << metrics;
  EXPECT_NE(metrics.find("\ntarn_allocated_bytes "), std::string::npos);
  EXPECT_NE(Get(monitor.url(), "/health").find("Healthy"), std::string::npos);
  EXPECT_TRUE(Get(monitor.url(), "/debug/pprof/heap").starts_with("HTTP/1.1 200"));
  EXPECT_NE(Get(monitor.url(), "/targets").find("\"pid\": " + std::to_string(getpid())), std::string::npos);
  const std::string json = monitor.MetricsJson();
  for (const char* key : {"\"timestamp\"", "\"heap_mb\"", "\"heap_sys_mb\"", "\"total_alloc_mb\"",
                          "\"alloc_rate_mb_sec\"", "\"alerts\": []"})
    EXPECT_NE(json.find(key), std::string::npos) << key;
  // Nobody may change anything.
  EXPECT_TRUE(Ask(monitor.url(), "POST /control/release", "X-Tarn-Control: 1\r\n").starts_with("HTTP/1.1 403"));
}

TEST(Embedded, Alerts) {
  std::mutex mutex;
  std::vector<std::string> lines;
  tarn::MonitorOptions options = Options();
  options.thresholds["heap_mb"] = 32;
  options.log = [&](std::string_view line) {
    const std::lock_guard lock(mutex);
    lines.emplace_back(line);
  };
  const tarn::Monitor monitor(options);
  EXPECT_TRUE(monitor.alerts().empty());
  const auto block = std::make_unique<char[]>(40 << 20);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(tarn_test::kPatienceSeconds);
  // An alert is logged a moment after it is there.
  const auto is_logged = [&] {
    const std::lock_guard lock(mutex);
    return !lines.empty();
  };
  while (!is_logged() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(50ms);
  ASSERT_EQ(monitor.alerts().size(), 1u);
  EXPECT_EQ(monitor.alerts()[0].name, "heap_mb");
  EXPECT_EQ(monitor.alerts()[0].threshold, 32);
  EXPECT_NE(Get(monitor.url(), "/health").find("Unhealthy: 1 alerts\nheap_mb = "), std::string::npos);
  const std::lock_guard lock(mutex);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_TRUE(lines.back().starts_with("ALERT: heap_mb = 4")) << lines.back();
}

TEST(Embedded, Control) {
  tarn::MonitorOptions options = Options();
  options.allow_control = true;
  const tarn::Monitor monitor(options);
  // The program itself need not do anything: the monitor's own threads come by slow paths.
  const std::string limit = Ask(monitor.url(), "POST /control/limit?limit=3GiB&wait=60", "X-Tarn-Control: 1\r\n");
  EXPECT_TRUE(limit.starts_with("HTTP/1.1 200")) << limit;
  EXPECT_EQ(tarn_memory_limit(), std::size_t{3} << 30);
  EXPECT_TRUE(
      Ask(monitor.url(), "POST /control/limit?limit=off&wait=60", "X-Tarn-Control: 1\r\n").starts_with("HTTP/1.1 200"));
  EXPECT_EQ(tarn_memory_limit(), TARN_LIMIT_NONE);
  EXPECT_TRUE(Ask(monitor.url(), "POST /control/release?wait=60", "X-Tarn-Control: 1\r\n").starts_with("HTTP/1.1 200"));
}

TEST(Embedded, Errors) {
  const tarn::Monitor monitor(Options());
  tarn::MonitorOptions options = Options();
  options.listen = monitor.url().substr(7);
  EXPECT_NE(Complaint(options).find("another program listens there"), std::string::npos) << Complaint(options);
  options.listen = "everywhere";
  EXPECT_TRUE(Complaint(options).starts_with("tarn::Monitor: listen everywhere: ")) << Complaint(options);
  options = Options();
  options.thresholds = {{"heap_md", 1}};
  EXPECT_NE(Complaint(options).find("did you mean heap_mb?"), std::string::npos) << Complaint(options);
  options.thresholds = {{"heap_mb", -1}};
  EXPECT_NE(Complaint(options), "");
  options = Options();
  options.interval = 1ms;
  EXPECT_NE(Complaint(options).find("interval"), std::string::npos) << Complaint(options);
}

TEST(Embedded, ComesAndGoes) {
  std::string url;
  for (int i = 0; i < 3; ++i) {
    tarn::MonitorOptions options = Options();
    // The same port each time, for none is left behind.
    if (!url.empty()) options.listen = url.substr(7);
    const tarn::Monitor monitor(options);
    url = monitor.url();
    EXPECT_TRUE(Get(url, "/health").starts_with("HTTP/1.1 "));
  }
  EXPECT_EQ(Get(url, "/health"), "");
}

// The number of this process's threads with the name, and those of the signals that one of them does not block.
struct Named {
  int threads = 0;
  std::set<int> unblocked;
};
Named ThreadsNamed(const std::string& name) {
  Named named;
  DIR* const tasks = opendir("/proc/self/task");
  while (const dirent* task = readdir(tasks)) {
    std::ifstream status(std::string("/proc/self/task/") + task->d_name + "/status");
    bool has_name = false;
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("Name:")) has_name = line == "Name:\t" + name;
      if (!has_name || !line.starts_with("SigBlk:")) continue;
      ++named.threads;
      const std::uint64_t mask = std::stoull(line.substr(7), nullptr, 16);
      for (const int number : {SIGINT, SIGTERM, SIGALRM, SIGPROF, SIGUSR1, SIGCHLD, SIGSEGV, SIGRTMIN, SIGRTMAX}) {
        if ((mask & (std::uint64_t{1} << (number - 1))) == 0) named.unblocked.insert(number);
      }
    }
  }
  closedir(tasks);
  return named;
}

TEST(Embedded, ThreadsHaveNamesAndBlockSignals) {
  const tarn::Monitor monitor(Options());
  for (const auto& [name, threads] : {std::pair{"tarn-monitor", 1}, std::pair{"tarn-http", 7}}) {
    // One that has just been made has the mask that libc gives it until it runs, and its name later.
    Named named = ThreadsNamed(name);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(tarn_test::kPatienceSeconds);
    while ((named.threads != threads || !named.unblocked.empty()) && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(50ms);
      named = ThreadsNamed(name);
    }
    EXPECT_EQ(named.threads, threads) << name;
    EXPECT_EQ(named.unblocked, std::set<int>()) << name;
  }
  sigset_t blocked;
  ASSERT_EQ(pthread_sigmask(SIG_SETMASK, nullptr, &blocked), 0);
  EXPECT_FALSE(sigismember(&blocked, SIGTERM));
}

TEST(Embedded, ForkInTheMiddleOfEverything) {
  auto monitor = std::make_unique<tarn::Monitor>(Options());
  const std::string url = monitor->url();
  std::atomic<bool> over = false;
  std::thread scraper([&] {
    while (!over) {
      EXPECT_NE(Get(url, "/metrics").find("tarn_allocated_bytes"), std::string::npos);
      EXPECT_NE(Get(url, "/debug/pprof/heap?debug=1").find("heap profile"), std::string::npos);
    }
  });
  for (int i = 0; i < 20; ++i) {
    InChild([&] {
      EXPECT_EQ(monitor->MetricsJson(), "{}\n");
      EXPECT_TRUE(monitor->alerts().empty());
      monitor.reset();
      // One of its own.
      const tarn::Monitor own(Options());
      EXPECT_NE(Get(own.url(), "/metrics").find("tarn_allocated_bytes"), std::string::npos);
    });
  }
  over = true;
  scraper.join();
  // The port is free while a child lives.
  int ends[2];
  int from_child[2];
  ASSERT_EQ(pipe(ends), 0);
  ASSERT_EQ(pipe(from_child), 0);
  char byte = 0;
  const pid_t child = fork();
  if (child == 0) {
    close(ends[1]);
    static_cast<void>(!write(from_child[1], &byte, 1));
    static_cast<void>(!read(ends[0], &byte, 1));
    _exit(0);
  }
  // Until then it may not have run yet, and so not have closed what it has inherited.
  ASSERT_EQ(read(from_child[0], &byte, 1), 1);
  monitor.reset();
  tarn::MonitorOptions options = Options();
  options.listen = url.substr(7);
  EXPECT_EQ(Complaint(options), "");
  for (const int end : {ends[0], ends[1], from_child[0], from_child[1]}) close(end);
  waitpid(child, nullptr, 0);
}

// As in a container whose profile forbids them.
void RefuseProcessVmCalls() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_writev, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {static_cast<unsigned short>(std::size(filter)), filter};
  ASSERT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

TEST(Embedded, WithoutProcessVmReadv) {
  InChild([] {
    RefuseProcessVmCalls();
    EXPECT_EQ(syscall(SYS_process_vm_readv, getpid(), nullptr, 0, nullptr, 0, 0), -1);
    tarn::MonitorOptions options = Options();
    options.allow_control = true;
    const tarn::Monitor monitor(options);
    EXPECT_NE(Get(monitor.url(), "/metrics").find("tarn_allocated_bytes"), std::string::npos);
    EXPECT_TRUE(Get(monitor.url(), "/debug/pprof/heap").starts_with("HTTP/1.1 200"));
    EXPECT_TRUE(
        Ask(monitor.url(), "POST /control/release?wait=60", "X-Tarn-Control: 1\r\n").starts_with("HTTP/1.1 200"));
  });
}

}  // namespace
