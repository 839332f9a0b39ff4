// SPDX-License-Identifier: Apache-2.0
//
// A plug-in for process_test: it allocates when it is loaded, when it is used and when it goes.

#include <cstdlib>
#include <string>
#include <vector>

namespace {

std::vector<std::string> g_texts(200, "a text that is too long to stand in the string itself");
void* g_object = nullptr;

__attribute__((constructor)) void Load() { g_object = malloc(5000); }
__attribute__((destructor)) void Unload() {
  free(g_object);
  free(malloc(700));
}

struct ThreadObject {
  std::vector<int> numbers;
  ~ThreadObject() { free(malloc(numbers.size())); }
};
thread_local ThreadObject t_object;

}  // namespace

extern "C" {

void* PluginAllocate(size_t size) { return malloc(size); }

void PluginFree(void* object) { free(object); }

void PluginWork() {
  t_object.numbers.resize(300, 1);
  std::vector<std::string> copy = g_texts;
  copy.insert(copy.end(), g_texts.begin(), g_texts.end());
}

}  // extern "C"
