// One thread: 1000 objects of 16 to 1024 random bytes, freed in random order, over and over.
//
// Stands for code that builds and tears down many small objects of mixed sizes, all of which fit into the caches: what
// is measured is the hit path. A fixed amount of work; prints nanoseconds per malloc/free pair. Runs on whatever malloc
// the process has, so preload the one to measure.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 20000;
  constexpr std::size_t kObjects = 1000;
  constexpr std::size_t kOrders = 16;
  std::mt19937 random(42);
  std::vector<std::size_t> sizes(kObjects);
  std::uniform_int_distribution<std::size_t> size(16, 1024);
  for (auto& s : sizes) s = size(random);
  std::vector<std::vector<std::size_t>> orders(kOrders, std::vector<std::size_t>(kObjects));
  for (auto& order : orders) {
    for (std::size_t i = 0; i < kObjects; ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
  }
  std::vector<void*> objects(kObjects);
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < kObjects; ++i) {
      objects[i] = std::malloc(sizes[i]);
      *static_cast<volatile char*>(objects[i]) = 1;
    }
    for (std::size_t i : orders[static_cast<std::size_t>(round) % kOrders]) std::free(objects[i]);
  }
  const std::chrono::duration<double, std::nano> elapsed = std::chrono::steady_clock::now() - start;
  std::printf("%.2f\n", elapsed.count() / rounds / kObjects);
}
