// SPDX-License-Identifier: Apache-2.0
//
// Says what threads a program with threads, pools and much to give back has, and with which rights it runs.
//
// With an argument it waits for a thread of that name first, until its caller loses patience.

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <tarn/limits.h>
#include <tarn/pool.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/life/parked_thread.h"
#include "tests/life/process.h"

namespace {

std::vector<std::string> ThreadNames() {
  std::vector<std::string> names;
  DIR* const tasks = opendir("/proc/self/task");
  TARN_LIFE_REQUIRE(tasks != nullptr);
  while (const dirent* task = readdir(tasks)) {
    if (task->d_name[0] == '.') continue;
    char name[32] = {};
    const int file = open((std::string("/proc/self/task/") + task->d_name + "/comm").c_str(), O_RDONLY);
    if (file < 0) continue;
    if (read(file, name, sizeof name - 1) > 0) names.emplace_back(name, strcspn(name, "\n"));
    close(file);
  }
  closedir(tasks);
  return names;
}

bool Has(const char* thread) {
  const std::vector<std::string> names = ThreadNames();
  return std::find(names.begin(), names.end(), thread) != names.end();
}

void Burst() {
  constexpr size_t kObjectBytes = 3000;
  std::vector<void*> objects(40'000'000 / kObjectBytes);
  for (void*& object : objects) {
    object = malloc(kObjectBytes);
    TARN_LIFE_REQUIRE(object != nullptr);
    memset(object, 1, kObjectBytes);
  }
  for (void* object : objects) free(object);
}

}  // namespace

int main(int argc, char** argv) {
  tarn_test::ParkAThread();
  tarn::Pool<int> pool({.epoch_ms = 3'600'000});
  std::vector<int*> some;
  for (int i = 0; i < 1000; ++i) some.push_back(pool.Get());
  for (int* object : some) pool.Put(object);
  for (int i = 0; i < 3; ++i) Burst();
  while (argc > 1 && !Has(argv[1])) tarn_test::Sleep(1000);
  dprintf(1, "AT_SECURE %lu\nuid %d euid %d\nlimit %s\n", getauxval(AT_SECURE), static_cast<int>(getuid()),
          static_cast<int>(geteuid()), tarn_memory_limit() == (size_t{5} << 30) ? "of the environment" : "another");
  for (const std::string& name : ThreadNames()) dprintf(1, "thread %s\n", name.c_str());
  _exit(0);
}
