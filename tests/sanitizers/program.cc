// SPDX-License-Identifier: Apache-2.0
//
// A program for sanitizers_test.py: allocates in several threads and in a child, and then has the bug that its argument
// names, or none. No header of the C++ library, since this is compiled nine times.
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

void* Churn(void*) {
  for (size_t i = 0; i < 2000; ++i) {
    void* object = malloc(i);
    object = realloc(object, i + 100);
    void* aligned = nullptr;
    if (object == nullptr || posix_memalign(&aligned, 64, i) != 0 || malloc_usable_size(object) < i + 100) abort();
    memset(object, 1, i + 100);
    auto* zeroes = static_cast<char*>(calloc(i + 1, 3));
    if (zeroes[i] != 0) abort();
    free(object);
    free(aligned);
    free(zeroes);
    delete[] new char[i + 1];
    delete new long;
  }
  return nullptr;
}

int shared_word = 0;

void* AddToSharedWord(void*) {
  for (int i = 0; i < 100000; ++i) ++shared_word;
  return nullptr;
}

void InThreads(int count, void* (*body)(void*)) {
  pthread_t threads[4];
  for (int i = 0; i < count; ++i) {
    if (pthread_create(&threads[i], nullptr, body, nullptr) != 0) abort();
  }
  for (int i = 0; i < count; ++i) pthread_join(threads[i], nullptr);
}

void* volatile kept = nullptr;

}  // namespace

int main(int argc, char** argv) {
  const char* const bug = argc > 1 ? argv[1] : "";
  InThreads(4, &Churn);
  const pid_t child = fork();
  if (child == 0) {
    Churn(nullptr);
    _exit(0);
  }
  int status = -1;
  if (waitpid(child, &status, 0) != child || status != 0) return 3;

  auto* volatile object = static_cast<char*>(malloc(100));
  if (strcmp(bug, "use after free") == 0) {
    free(object);
    return object[1];
  }
  if (strcmp(bug, "uninitialised") == 0) return object[1] == 1 ? 4 : 5;
  if (strcmp(bug, "leak") == 0) {
    for (int i = 0; i < 100; ++i) kept = malloc(1000);
    kept = nullptr;
  }
  if (strcmp(bug, "race") == 0) InThreads(2, &AddToSharedWord);
  if (strcmp(bug, "overflow") == 0) {
    volatile int largest = 0x7fffffff;
    largest = largest + 1;
  }
  free(object);
  puts("end");
  return 0;
}
