// 128 threads that sit idle: what does each of them cost in resident memory?
//
// Stands for servers with a thread per connection. Prints KiB per thread, twice: after the thread has started and
// made one small allocation, and after it has touched 20 sizes (one object each, freed again, 16 bytes to 32 KiB). The
// same program's cost without allocations is measured first, in the same process, and taken off: the thread's own stack.
#include <pthread.h>
#include <unistd.h>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <thread>
#include <vector>

namespace {

constexpr int kThreads = 128;
std::atomic<int> arrived = 0;
std::atomic<int> stage = 0;

double ResidentKiB() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  long size = 0;
  long resident = 0;
  if (file == nullptr || std::fscanf(file, "%ld %ld", &size, &resident) != 2) std::abort();
  std::fclose(file);
  return static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1024;
}

void Touch(std::size_t bytes) {
  void* object = std::malloc(bytes);
  std::memset(object, 1, bytes);
  asm volatile("" ::"r"(object) : "memory");
  std::free(object);
}

void* Run(void*) {
  // The stack that the calls below use is touched in each stage alike.
  volatile char stack[8192];
  for (std::size_t i = 0; i < sizeof(stack); i += 512) stack[i] = 1;
  for (int next = 1; next <= 3; ++next) {
    if (next == 2) Touch(64);
    if (next == 3) {
      for (std::size_t bytes = 16, i = 0; i < 20; ++i) {
        Touch(bytes);
        bytes += bytes / 2;
      }
    }
    arrived.fetch_add(1);
    while (stage.load() < next) ::usleep(1000);
  }
  return nullptr;
}

}  // namespace

int main() {
  std::free(std::malloc(64));
  const double before = ResidentKiB();
  std::vector<pthread_t> threads(kThreads);
  for (auto& thread : threads) {
    if (pthread_create(&thread, nullptr, &Run, nullptr) != 0) std::abort();
  }
  double at_stage[3];
  for (int s = 0; s < 3; ++s) {
    while (arrived.load() < kThreads * (s + 1)) ::usleep(1000);
    at_stage[s] = ResidentKiB();
    stage.store(s + 1);
  }
  for (auto& thread : threads) pthread_join(thread, nullptr);
  std::printf("stack %.1f  idle %.1f  20 sizes %.1f  KiB per thread\n", (at_stage[0] - before) / kThreads,
              (at_stage[1] - at_stage[0]) / kThreads, (at_stage[2] - at_stage[0]) / kThreads);
}
