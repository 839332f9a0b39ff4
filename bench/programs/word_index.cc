// SPDX-License-Identifier: Apache-2.0
//
// The threaded C++ program: builds an inverted index of a text and answers questions from it.
//
// Usage: `word_index THREADS TEXT`. Documents of the text are parted by form feeds. Prints a summary that depends
// neither on the allocator nor on the threads' order. It stands for servers and analysis tools written with the
// standard library: nodes of std::map, tables of std::unordered_map, growing vectors and many strings, on all threads
// at once.
//
// Three phases, parted by joins:
//   1. Threads take documents and count their words into indexes of their own.
//   2. Each thread merges one share of the words out of everyone's index into a sorted map and
//      destroys what it took, so most of what it frees was allocated by another thread.
//   3. Threads intersect the documents of neighbouring words and build strings of the answers.

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

struct Posting {
  std::uint32_t document;
  std::vector<std::uint32_t> positions;
};

using Postings = std::vector<Posting>;
using Shard = std::unordered_map<std::string, Postings>;
using SortedShard = std::map<std::string, Postings>;

// More shards than threads, so that the shares of phase 2 are alike in size.
constexpr std::size_t kShards = 16;

std::vector<std::string_view> SplitDocuments(std::string_view text) {
  std::vector<std::string_view> documents;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\f'), text.size());
    documents.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return documents;
}

// The words of a document in lower case, each a string of its own.
std::vector<std::string> SplitWords(std::string_view document) {
  std::vector<std::string> words;
  std::string word;
  for (const char character : document) {
    const auto byte = static_cast<unsigned char>(character);
    if (std::isalnum(byte) != 0 || character == '_') {
      word.push_back(static_cast<char>(std::tolower(byte)));
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word = std::string();
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

std::size_t ShardOf(const std::string& word) { return std::hash<std::string>{}(word) % kShards; }

void AddDocument(std::vector<Shard>& shards, std::uint32_t number, std::string_view document) {
  std::map<std::string, std::vector<std::uint32_t>> positions;
  std::uint32_t position = 0;
  for (std::string& word : SplitWords(document)) {
    positions[std::move(word)].push_back(position++);
  }
  for (auto& [word, places] : positions) {
    shards[ShardOf(word)][word].push_back(Posting{number, std::move(places)});
  }
}

template <typename Work>
void OnThreads(unsigned threads, Work work) {
  std::vector<std::thread> running;
  for (unsigned index = 0; index < threads; ++index) running.emplace_back(work, index);
  for (std::thread& thread : running) thread.join();
}

std::uint64_t Mix(std::uint64_t sum, std::uint64_t value) { return (sum ^ value) * 0x9E3779B97F4A7C15u + (sum >> 29); }

std::uint64_t DigestOf(const std::string& word) {
  std::uint64_t sum = word.size();
  for (const char character : word) sum = Mix(sum, static_cast<unsigned char>(character));
  return sum;
}

std::vector<std::uint32_t> DocumentsWithBoth(const Postings& left, const Postings& right) {
  std::vector<std::uint32_t> both;
  auto one = left.begin();
  auto two = right.begin();
  while (one != left.end() && two != right.end()) {
    if (one->document < two->document) {
      ++one;
    } else if (two->document < one->document) {
      ++two;
    } else {
      both.push_back(one->document);
      ++one;
      ++two;
    }
  }
  return both;
}

// Answers "which documents hold both words" for each pair of neighbours of the shard.
std::uint64_t Query(const SortedShard& shard) {
  std::uint64_t sum = 0;
  auto previous = shard.begin();
  if (previous == shard.end()) return sum;
  for (auto entry = std::next(previous); entry != shard.end(); previous = entry++) {
    std::string answer = previous->first + " and " + entry->first + ":";
    for (const std::uint32_t document : DocumentsWithBoth(previous->second, entry->second)) {
      answer += " " + std::to_string(document);
    }
    sum = Mix(sum, DigestOf(answer));
  }
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: word_index THREADS TEXT\n");
    return 2;
  }
  const auto threads = static_cast<unsigned>(std::max(1, std::atoi(argv[1])));
  std::ifstream file(argv[2], std::ios::binary | std::ios::ate);
  if (!file) {
    std::fprintf(stderr, "word_index: cannot read %s\n", argv[2]);
    return 1;
  }
  std::string text(static_cast<std::size_t>(file.tellg()), '\0');
  file.seekg(0);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  const std::vector<std::string_view> documents = SplitDocuments(text);

  std::vector<std::vector<Shard>> own(threads, std::vector<Shard>(kShards));
  std::atomic<std::uint32_t> next_document = 0;
  OnThreads(threads, [&](unsigned index) {
    // Relaxed: the counter only hands out numbers, the join publishes the indexes.
    for (std::uint32_t number = next_document.fetch_add(1, std::memory_order_relaxed); number < documents.size();
         number = next_document.fetch_add(1, std::memory_order_relaxed)) {
      AddDocument(own[index], number, documents[number]);
    }
  });

  std::vector<SortedShard> merged(kShards);
  OnThreads(threads, [&](unsigned index) {
    for (std::size_t shard = index; shard < kShards; shard += threads) {
      for (std::vector<Shard>& source : own) {
        for (auto& [word, postings] : source[shard]) {
          Postings& target = merged[shard][word];
          std::move(postings.begin(), postings.end(), std::back_inserter(target));
        }
        Shard().swap(source[shard]);
      }
      for (auto& [word, postings] : merged[shard]) {
        std::sort(postings.begin(), postings.end(),
                  [](const Posting& left, const Posting& right) { return left.document < right.document; });
      }
    }
  });

  std::vector<std::uint64_t> answers(kShards, 0);
  OnThreads(threads, [&](unsigned index) {
    for (std::size_t shard = index; shard < kShards; shard += threads) {
      answers[shard] = Query(merged[shard]);
    }
  });

  std::uint64_t sum = 0;
  std::size_t words = 0;
  std::size_t places = 0;
  for (std::size_t shard = 0; shard < kShards; ++shard) {
    words += merged[shard].size();
    for (const auto& [word, postings] : merged[shard]) {
      sum = Mix(sum, DigestOf(word));
      for (const Posting& posting : postings) {
        sum = Mix(sum, posting.document);
        for (const std::uint32_t position : posting.positions) sum = Mix(sum, position);
        places += posting.positions.size();
      }
    }
    sum = Mix(sum, answers[shard]);
  }
  std::printf("%zu documents, %zu words in %zu places, sum %016llx\n", documents.size(), words, places,
              static_cast<unsigned long long>(sum));
  return 0;
}
