// SPDX-License-Identifier: Apache-2.0
//
// A threaded C++ program of the ordinary kind: strings, maps, queues, shared
// pointers, futures, threads that come and go. Its output is the same for any
// number of threads and any allocator; threads_test.py compares it.
//
//   programs_threaded THREADS

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

// FNV-1a, so that the output depends on every byte.
std::uint64_t Hash(const std::string& text, std::uint64_t hash = 0xCBF29CE484222325U) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  return hash;
}

std::uint32_t Next(std::uint32_t& state) { return state = state * 1664525U + 1013904223U; }

std::string RandomText(std::uint32_t seed) {
  std::string text;
  const std::uint32_t words = 20 + Next(seed) % 200;
  for (std::uint32_t i = 0; i < words; ++i) {
    text += static_cast<char>('a' + Next(seed) / 65536 % 20);
    if (Next(seed) / 65536 % 4 == 0) text += ' ';
  }
  return text;
}

// A queue from which several threads take what several others put in.
class Queue {
 public:
  void Put(std::shared_ptr<const std::string> text) {
    const std::lock_guard lock(mutex_);
    texts_.push_back(std::move(text));
    changed_.notify_one();
  }

  std::shared_ptr<const std::string> Take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !texts_.empty(); });
    std::shared_ptr<const std::string> text = std::move(texts_.front());
    texts_.pop_front();
    return text;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<const std::string>> texts_;
};

using Counts = std::unordered_map<std::string, std::uint64_t>;

Counts CountWords(Queue& queue) {
  Counts counts;
  while (const std::shared_ptr<const std::string> text = queue.Take()) {
    std::size_t begin = 0;
    while (begin < text->size()) {
      const std::size_t end = std::min(text->find(' ', begin), text->size());
      if (end > begin) ++counts[text->substr(begin, end - begin)];
      begin = end + 1;
    }
  }
  return counts;
}

// Producers make texts, consumers count the words in them.
std::uint64_t CountInParallel(unsigned threads) {
  constexpr std::uint32_t kTexts = 20000;
  Queue queue;
  std::vector<std::future<Counts>> consumers;
  for (unsigned i = 0; i < threads; ++i) {
    consumers.push_back(std::async(std::launch::async, CountWords, std::ref(queue)));
  }
  std::vector<std::thread> producers;
  for (unsigned i = 0; i < threads; ++i) {
    producers.emplace_back([&queue, i, threads] {
      for (std::uint32_t text = i; text < kTexts; text += threads) {
        queue.Put(std::make_shared<const std::string>(RandomText(text)));
      }
    });
  }
  for (std::thread& producer : producers) producer.join();
  for (unsigned i = 0; i < threads; ++i) queue.Put(nullptr);
  std::map<std::string, std::uint64_t> all;
  for (std::future<Counts>& consumer : consumers) {
    for (const auto& [word, count] : consumer.get()) all[word] += count;
  }
  std::uint64_t hash = all.size();
  for (const auto& [word, count] : all) hash = Hash(word + "=" + std::to_string(count), hash);
  return hash;
}

// Many threads with a short life; what each leaves behind is freed by main.
std::uint64_t UseShortThreads() {
  constexpr std::uint32_t kThreads = 600;
  std::vector<std::unique_ptr<std::vector<std::string>>> results(kThreads);
  for (std::uint32_t begin = 0; begin < kThreads; begin += 20) {
    std::vector<std::thread> threads;
    for (std::uint32_t i = begin; i < begin + 20; ++i) {
      threads.emplace_back([&results, i] {
        thread_local std::string scratch(1000 + i, 'x');
        results[i] = std::make_unique<std::vector<std::string>>();
        for (std::uint32_t k = 0; k < 40; ++k) results[i]->push_back(RandomText(i * 40 + k) + scratch.substr(0, k));
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  std::uint64_t hash = 0;
  for (const auto& texts : results) {
    for (const std::string& text : *texts) hash = Hash(text, hash);
  }
  return hash;
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned long threads = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 4;
  std::printf("words %016llx\n",
              static_cast<unsigned long long>(CountInParallel(static_cast<unsigned>(std::max(threads, 1UL)))));
  std::printf("short %016llx\n", static_cast<unsigned long long>(UseShortThreads()));
  return 0;
}
