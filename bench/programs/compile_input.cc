// SPDX-License-Identifier: Apache-2.0
//
// The input of the g++ program: a translation unit that is heavy on templates and the standard library. It is only ever
// compiled, never run.
//
// It is compiled with -O1, and stands for a build of a modern C++ project: many headers, many instantiations, long
// names. A good part of the compiler's memory is not malloc's. Trees and types live in GCC's garbage-collected heap,
// which takes its pages from mmap by itself. malloc serves hash tables, vectors, bitmaps, the preprocessor's obstacks
// and the data of the optimiser. So the ratios of this program stay nearer to one than those of others.

#include <algorithm>
#include <array>
#include <bitset>
#include <chrono>
#include <deque>
#include <functional>
#include <iomanip>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <ranges>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

namespace input {

template <int N>
struct Key {
  int number = N;
  std::string name = "key" + std::to_string(N);
  auto operator<=>(const Key&) const = default;
};

template <int N>
struct Value {
  std::vector<std::optional<Key<N>>> parts;
  std::map<std::string, std::tuple<int, Key<N>, std::string>> index;
  std::function<std::string(const Key<N>&)> print;
};

template <int N>
class Table {
 public:
  void Add(Key<N> key, Value<N> value) {
    order_.push_back(key);
    rows_.emplace(std::move(key), std::move(value));
  }

  std::string Describe() const {
    std::ostringstream text;
    for (const auto& key : order_) {
      const auto found = rows_.find(key);
      if (found == rows_.end()) continue;
      text << std::setw(N % 7 + 1) << found->first.name << ' ' << found->second.parts.size();
      for (const auto& [name, row] : found->second.index) {
        std::apply([&](const auto&... part) { ((text << Text(part) << ','), ...); }, row);
        text << name;
      }
    }
    return text.str();
  }

  void Sort() {
    std::sort(order_.begin(), order_.end(), [](const Key<N>& left, const Key<N>& right) {
      return std::tie(left.name, left.number) < std::tie(right.name, right.number);
    });
    std::stable_partition(order_.begin(), order_.end(), [](const Key<N>& key) { return key.number % 2 == 0; });
  }

  auto Names() const {
    std::vector<std::string> names;
    auto view = order_ | std::views::filter([](const Key<N>& key) { return key.number > N / 2; }) |
                std::views::transform([](const Key<N>& key) { return key.name; });
    std::ranges::copy(view, std::back_inserter(names));
    return names;
  }

 private:
  static std::string Text(int number) { return std::to_string(number); }
  static std::string Text(const Key<N>& key) { return key.name; }
  static std::string Text(const std::string& text) { return text; }

  std::map<Key<N>, Value<N>> rows_;
  std::deque<Key<N>> order_;
};

template <int N>
using Any = std::variant<Key<N>, std::string, std::vector<Key<N>>, std::set<Key<N>>>;

template <int N>
std::size_t Weigh(const std::vector<Any<N>>& all) {
  std::size_t sum = 0;
  for (const Any<N>& one : all) {
    sum += std::visit(
        [](const auto& held) -> std::size_t {
          using Held = std::decay_t<decltype(held)>;
          if constexpr (std::is_same_v<Held, Key<N>>) {
            return held.name.size();
          } else {
            return held.size();
          }
        },
        one);
  }
  return sum;
}

template <int N>
std::string Run() {
  Table<N> table;
  std::unordered_map<std::string, std::shared_ptr<Value<N>>> cache;
  std::vector<Any<N>> all;
  for (int step = 0; step < N; ++step) {
    Key<N> key{step, "name" + std::to_string(step * N)};
    auto value = std::make_shared<Value<N>>();
    value->parts.push_back(key);
    value->index.try_emplace(key.name, step, key, std::to_string(step));
    value->print = [step](const Key<N>& other) { return other.name + std::to_string(step); };
    cache[key.name] = value;
    all.emplace_back(key);
    all.emplace_back(std::vector<Key<N>>(3, key));
    all.emplace_back(std::set<Key<N>>{key});
    table.Add(std::move(key), *value);
  }
  table.Sort();
  std::list<std::string> names;
  for (const std::string& name : table.Names()) names.push_front(name);
  names.sort();
  names.unique();
  return table.Describe() + std::to_string(Weigh<N>(all)) + names.front();
}

template <int... N>
std::string RunAll(std::integer_sequence<int, N...>) {
  return (Run<N + 1>() + ...);
}

// The number of instantiations decides how long the compiler works.
std::string Everything() { return RunAll(std::make_integer_sequence<int, INSTANTIATIONS>()); }

}  // namespace input

int main() {
  const std::string text = input::Everything();
  std::cout << text.size() << '\n';
}
